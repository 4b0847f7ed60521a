"""Imports every file of cases; the order here is the order of the run."""

import cases_inside  # noqa: F401
import cases_run  # noqa: F401
import cases_limits  # noqa: F401
import cases_security  # noqa: F401
import cases_storage  # noqa: F401
import cases_net  # noqa: F401
import cases_life  # noqa: F401
