"""A throw-away world for engine tests: own mount, network, pid, uts and ipc namespaces.

Everything an engine leaves behind on a host (mounts, bridges, packet filter rules, stray processes, files under
/run) ends with the namespaces, so a test can not spoil the host and two of them can run side by side. What does
not end with them is one scratch folder and one cgroup in every hierarchy; the caller of `launch` removes both, and
the next run removes those of a run that was killed.

Three processes:
  the caller (`launch`)      outside; holds the lock of the scratch folder and one end of the lifeline pipe
  init (`_init`)             process 1 of the namespace; reaps orphans; ends all when the lifeline closes
  worker (argv given)        the test; finds the scratch folder in RUNDLET_SCRATCH, the cgroup in RUNDLET_CGROUP
"""

import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PREFIX = "rundlet-engine."
CGROUP_ROOT = "/sys/fs/cgroup"
GRACE = 30  # seconds a worker gets to stop its engine after SIGTERM


def scratch_parent():
    return os.environ.get("RUNDLET_SCRATCH_PARENT", "/var/tmp")


def hierarchies():
    """Every mounted cgroup hierarchy: v1 controllers, named ones and v2."""
    with open("/proc/mounts", encoding="utf-8") as f:
        rows = [line.split() for line in f]
    if any(r[1] == CGROUP_ROOT and r[2] == "cgroup2" for r in rows):
        return [CGROUP_ROOT]  # a view of version 2 covers the others
    return sorted({r[1] for r in rows if r[2] in ("cgroup", "cgroup2") and r[1].startswith(CGROUP_ROOT)})


def remove_cgroup(name, deadline=10.0):
    """Removes cgroup `name` with all below it in every hierarchy; returns what could not be removed."""
    end = time.monotonic() + deadline
    while True:
        left = []
        for h in hierarchies():
            for folder, _, _ in os.walk(os.path.join(h, name), topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError:
                    left.append(folder)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def _lock(folder):
    fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _discard(folder):
    left = remove_cgroup(os.path.basename(folder))
    for path in left:
        print(f"warning: cgroup {path} could not be removed", file=sys.stderr)
    # Immutable data is not made by any test; busy files could only be mounts, and those ended with the namespace.
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists(folder):
        print(f"warning: {folder} could not be removed", file=sys.stderr)


def sweep():
    """Removes what runs that were killed left behind: their lock is free."""
    parent = scratch_parent()
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if name.startswith(PREFIX) and os.path.isdir(folder):
            fd = _lock(folder)
            # A folder younger than a minute may belong to a run that is about to lock it.
            if fd is not None:
                if time.time() - os.stat(folder).st_ctime > 60 or os.path.exists(os.path.join(folder, "used")):
                    _discard(folder)
                os.close(fd)


def interruptible():
    """SIGTERM ends the caller as Ctrl-C does: in order, with its sandboxes."""
    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)


class Sandbox:
    """One running world. `wait` returns the worker's exit code; `stop` ends it early; both clean up."""

    def __init__(self, worker, tag, deadline, env=None, keep=()):
        sweep()
        self.folder = tempfile.mkdtemp(prefix=f"{PREFIX}{tag}.", dir=scratch_parent())
        os.chmod(self.folder, 0o755)
        self.lock = _lock(self.folder)
        open(os.path.join(self.folder, "used"), "w", encoding="utf-8").close()
        self.end = time.monotonic() + deadline
        read, self.lifeline = os.pipe()
        os.set_inheritable(read, True)
        command = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL",
                   "--mount-proc", "--propagation", "private", "--",
                   sys.executable, os.path.abspath(__file__), "init", self.folder, str(read), "--"] + worker
        # A session of its own: a Ctrl-C at the terminal reaches the caller alone, who then stops in order.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[read, *keep], start_new_session=True,
                                        env={**os.environ, **(env or {})})
        os.close(read)

    def poll(self):
        if self.process.poll() is None and time.monotonic() > self.end:
            print(f"error: {self.folder}: deadline passed", file=sys.stderr)
            self.stop()
        return self.process.poll()

    def wait(self):
        while self.poll() is None:
            time.sleep(0.05)
        self.clean()
        return self.process.returncode

    def stop(self):
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
        try:
            self.process.wait(GRACE + 10)
        except subprocess.TimeoutExpired:
            self.process.kill()  # --kill-child takes process 1 and so the namespace with it
            self.process.wait()
        self.clean()

    def clean(self):
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
        if self.lock is not None:
            _discard(self.folder)
            os.close(self.lock)
            self.lock = None


def _cgroup_view(view):
    """What the mounts under /sys/fs/cgroup show; the hierarchies themselves stay as they are.

    v1: without the cgroup2 mount of a hybrid host (crun refuses hybrid hosts). v2: cgroup2 alone; of a hybrid host
    it has few controllers, but the file system, freezer and device programs are those of version 2."""
    if view == "v1":
        for h in hierarchies():
            with open("/proc/mounts", encoding="utf-8") as f:
                if any(r.split()[1:3] == [h, "cgroup2"] for r in f):
                    subprocess.run(["umount", h], check=True, timeout=10)
    elif view == "v2":
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", CGROUP_ROOT], check=True, timeout=10)
    elif view:
        sys.exit(f"sandbox: unknown cgroup view {view}")


def _default_c_library_signals():
    """make(1) lets its children ignore 32 and 33, which glibc keeps for itself: sigaction(3) refuses them, the kernel does not."""
    rt_sigaction = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    for number in (32, 33):
        if ctypes.CDLL(None, use_errno=True).syscall(rt_sigaction, number, bytes(32), None, 8) != 0:
            raise OSError(ctypes.get_errno(), f"rt_sigaction of signal {number}")


def _init(folder, lifeline, worker):
    if os.getpid() != 1:
        sys.exit("sandbox: not process 1 of a pid namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
    socket.sethostname("sandbox")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True, timeout=10)
    _cgroup_view(os.environ.get("RUNDLET_CGROUP_VIEW", ""))
    env = {**os.environ, "RUNDLET_SCRATCH": folder, "RUNDLET_CGROUP": os.path.basename(folder)}
    # A shell's background job ignores some signals, and children would inherit that down to the container.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)
    _default_c_library_signals()
    # Descriptors that the caller gave (a terminal) go on to the worker; the lifeline does not.
    os.set_inheritable(lifeline, False)
    child = subprocess.Popen(worker, env=env, start_new_session=True, close_fds=False)
    os.set_blocking(lifeline, False)
    asked = None
    status = None
    while status is None:
        if asked is None:
            ready, _, _ = select.select([lifeline], [], [], 0.05)
            if ready:
                asked = time.monotonic()
                child.send_signal(signal.SIGTERM)
        else:
            time.sleep(0.05)
            if time.monotonic() - asked > GRACE:
                child.kill()
        while True:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                status = 1 if status is None else status
                break
            if pid == 0:
                break
            if pid == child.pid:
                status = os.waitstatus_to_exitcode(code)
                child.returncode = status
    # The end of process 1 is the end of every other process of the namespace.
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    if len(sys.argv) < 6 or sys.argv[1] != "init" or sys.argv[4] != "--":
        sys.exit("sandbox.py is a library; see its first lines")
    _init(sys.argv[2], int(sys.argv[3]), sys.argv[5:])
