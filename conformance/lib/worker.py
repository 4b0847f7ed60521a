"""The test inside of a sandbox (sandbox.py), which ends one early by SIGTERM, and one case of it."""

import contextlib
import signal
import sys
import time
import traceback

from commands import Skip


class Ended(Exception):
    """SIGTERM came."""


def main(function):
    """Runs it to its end, or to `Ended`, which it gets wherever it is, and leaves with its exit code."""
    def ended(*_):
        raise Ended
    signal.signal(signal.SIGTERM, ended)
    try:
        sys.exit(function())
    except Ended:
        sys.exit(1)


@contextlib.contextmanager
def undisturbed():
    """What is taken away is taken away to the end."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def outcome(function, context):
    """One case in a context (commands.Commands) -> what the comparison wants of it. A broken case does not hide the others."""
    began, skip = time.monotonic(), None
    try:
        function(context)
    except Skip as e:
        skip = str(e)
    except Ended:
        raise
    except Exception:
        context.failures.append("the case itself failed: " + traceback.format_exc())
    try:
        context.close()
    except Ended:
        raise
    except Exception:
        context.failures.append("after the case: " + traceback.format_exc())
    return {"skip": skip, "records": context.records, "failures": context.failures, "raw": context.raw,
            "seconds": round(time.monotonic() - began, 2)}
