"""Podman of a user, with subordinate ids, without a systemd of its own; the operations are in podman.py."""

import podman  # noqa: F401
import podman_engine

ENGINE = podman_engine.Rootless
