"""containerd's CRI plugin. The operations are in the files that are imported here, in the order of the run."""

import cri_pods  # noqa: F401
import cri_security  # noqa: F401
import cri_engine

ENGINE = cri_engine.Cri
