"""What the script of an engine is made of: operations, each run on every runtime, and an Engine that they talk to."""

import os
import subprocess

from commands import Commands, Skip  # noqa: F401

OPERATIONS = []
# For a shell of busybox: waits, and ends at once when asked.
SLEEP = "trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done"


def operation(function):
    """Registers an operation; the first line of its doc string is what the matrix calls it."""
    OPERATIONS.append(function)
    return function


def label(function):
    return (function.__doc__ or function.__name__.replace("_", " ")).strip().splitlines()[0]


class Operation(Commands):
    """One operation on one side. The engine's own class may be derived from it."""

    def __init__(self, engine, literal, scratch):
        super().__init__(literal, scratch, engine.env)
        self.engine = engine

    def close(self):
        super().close()
        for trouble in self.engine.after_each():
            self.failures.append("after the operation: " + trouble)


class Engine:
    """An engine with a runtime, in a sandbox: started once a side, before its operations."""

    operations = Operation
    # Without these on the host the engine is skipped.
    programs = ()

    def __init__(self, folder, runtime, group, suite):
        self.folder, self.runtime, self.group, self.suite = folder, runtime, group, suite
        self.env = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def literal(self):
        """Strings of this side that records are to call something else."""
        return []

    def version(self):
        raise NotImplementedError

    def start(self):
        pass

    def after_each(self):
        """Takes away what an operation left; yields what should not have been there."""
        return []

    def stop(self):
        pass


def first_line(*command):
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    return out.splitlines()[0].strip()
