#!/usr/bin/env python3
"""Real services in containers of docker with one runtime: workloads.py [--only EXPRESSION] RUNTIME

MariaDB whose rows outlive `docker kill` and `docker rm`; nginx behind a published port; Redis; Python's http.server;
fifty containers started and removed at the same time, after which no process, mount, cgroup of any hierarchy, file
of the runtime's state or network interface is left. The last is judged by snapshots before and after, taken from
outside of the containers; the sandbox's own pid and mount namespaces make them exact while other work runs.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import dockerd  # noqa: E402
import images  # noqa: E402
import sandbox  # noqa: E402

PARALLEL = 50


class Failed(Exception):
    pass


class World:
    def __init__(self, daemon, docker):
        self.daemon, self.docker = daemon, docker
        self.env = {**os.environ, "DOCKER_HOST": daemon.host, "LC_ALL": "C", "HOME": daemon.folder}

    def d(self, *args, code=0, timeout=60, stdin=None):
        try:
            done = subprocess.run([self.docker, *args], env=self.env, capture_output=True, timeout=timeout, text=True, input=stdin, check=False)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"docker {' '.join(args)}: no end within {timeout} s") from e
        if code is not None and done.returncode != code:
            raise Failed(f"docker {' '.join(args)}: exit {done.returncode} instead of {code}: {(done.stdout + done.stderr).strip()[-600:]}")
        return done

    def address(self, name):
        return self.d("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()

    def until(self, what, probe, timeout=60):
        end, last = time.monotonic() + timeout, None
        while time.monotonic() < end:
            try:
                value = probe()
                if value:
                    return value
            except (OSError, Failed) as e:
                last = e
            time.sleep(0.2)
        raise Failed(f"{what}: not within {timeout} s; at last: {last}")


def get(url):
    with urllib.request.urlopen(url, timeout=3) as reply:
        return reply.read().decode()


def equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got!r} instead of {wanted!r}")


def mariadb(w):
    sql = ["exec", "-i", "db", "mariadb", "--batch", "--skip-column-names"]

    def up():
        w.d("run", "-d", "--name", "db", "--network", "none", "-m", "1g", "-v", "rows:/var/lib/mysql", "debian", "sh", "-c",
            "mkdir -p /run/mysqld && chown mysql /run/mysqld /var/lib/mysql && "
            "{ [ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql --skip-test-db >/dev/null; } && exec mariadbd --user=mysql")
        w.until("MariaDB", lambda: w.d(*sql, stdin="select 1;", code=None).returncode == 0, 90)
    up()
    w.d(*sql, stdin="create database shop; create table shop.item (id int primary key, name varchar(40)) engine=innodb;"
        "use shop; insert into item select seq, concat('item ', seq) from seq_1_to_5000;")
    w.d("kill", "db")
    w.d("wait", "db")
    w.d("rm", "db")
    up()
    equal(w.d(*sql, stdin="select count(*), sum(id), max(name) from shop.item;").stdout.split("\t"), ["5000", "12502500", "item 999\n"], "rows after kill and rm")
    w.d(*sql, stdin="insert into shop.item values (9000, 'late');")
    w.d("stop", "-t", "30", "db", timeout=60)
    equal(w.d("inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", "db").stdout, "0 false\n", "end of MariaDB by docker stop")
    w.d("start", "db")
    w.until("MariaDB again", lambda: w.d(*sql, stdin="select name from shop.item where id = 9000;", code=None).stdout == "late\n", 60)
    w.d("rm", "-f", "db")
    w.d("volume", "rm", "rows")


def nginx(w):
    w.d("run", "-d", "--name", "web", "-p", "127.0.0.1:18081:80", "--memory", "128m", "debian", "sh", "-c",
        "echo served by nginx > /var/www/html/index.html; exec nginx -g 'daemon off;'")
    equal(w.until("nginx", lambda: get("http://127.0.0.1:18081/")), "served by nginx\n", "answer through the published port")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: get("http://127.0.0.1:18081/"), range(400)))
    equal(set(answers), {"served by nginx\n"}, "400 answers")
    w.d("exec", "web", "nginx", "-s", "reload")
    w.until("nginx after reload", lambda: get("http://127.0.0.1:18081/") == "served by nginx\n")
    # One worker has another user than its master.
    users = set(w.d("top", "web", "-o", "pid,user").stdout.split()[2::1]) - {""}
    if len({u for u in users if not u.isdigit()}) < 2:
        raise Failed(f"users of nginx: {users}")
    w.d("stop", "-t", "10", "web")
    equal(w.d("inspect", "-f", "{{.State.ExitCode}}", "web").stdout, "0\n", "end of nginx")
    w.d("rm", "web")


def redis(w):
    w.d("run", "-d", "--name", "cache", "--read-only", "--tmpfs", "/data", "-w", "/data", "-u", "redis", "--cap-drop", "ALL", "debian",
        "redis-server", "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no")
    w.until("Redis", lambda: w.d("exec", "cache", "redis-cli", "ping", code=None).stdout == "PONG\n")
    equal(w.d("exec", "cache", "redis-cli", "set", "key", "some value").stdout, "OK\n", "set")
    equal(w.d("exec", "cache", "redis-cli", "get", "key").stdout, "some value\n", "get")
    address = w.address("cache")
    equal(w.d("run", "--rm", "debian", "redis-cli", "-h", address, "get", "key").stdout, "some value\n", "get from another container")
    w.d("pause", "cache")
    w.d("unpause", "cache")
    equal(w.d("exec", "cache", "redis-benchmark", "-q", "-n", "2000", "-t", "set,get", code=None).returncode, 0, "benchmark")
    w.d("rm", "-f", "cache")


def python(w):
    w.d("run", "-d", "--name", "py", "-p", "127.0.0.1:18082:8000", "-u", "www-data", "-w", "/usr/share/python3", "debian", "python3", "-m", "http.server", "8000")
    if "Directory listing for /" not in w.until("http.server", lambda: get("http://127.0.0.1:18082/")):
        raise Failed("http.server gave no listing")
    equal(w.d("exec", "py", "python3", "-c", "import subprocess, threading; t = threading.Thread(target=print, args=('thread',)); t.start(); t.join(); "
              "print(subprocess.run(['id', '-un'], capture_output=True, text=True).stdout.strip())").stdout, "thread\nwww-data\n", "threads and children")
    w.d("rm", "-f", "py")


def snapshot(w):
    """What a host shows of containers. Everything in it is of this sandbox, so all of it counts."""
    seen = {"processes": [], "mounts": [], "cgroups": [], "state": [], "interfaces": []}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        name = "zombie" if state == "Z" else words
        seen["processes"].append(re.sub(r"\s+", " ", name)[:120])
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        seen["mounts"] = [line.split()[4] for line in f]
    with subprocess.Popen(["ip", "-o", "link"], stdout=subprocess.PIPE, text=True) as p:
        seen["interfaces"] = [re.sub(r"@.*", "", line.split(": ")[1]) for line in p.stdout]
    for h in sandbox.hierarchies():
        for folder, _, _ in os.walk(h):
            # Our own group, and an id of a container at any other place.
            if w.daemon.cgroup_parent in folder or re.search(r"[0-9a-f]{64}", folder):
                seen["cgroups"].append(folder)
    for top in (w.daemon.exec_root, "/run", os.path.join(w.daemon.folder, "data/containers")):
        for folder, folders, files in os.walk(top):
            seen["state"] += [os.path.join(folder, n) for n in folders + files]
    return {k: sorted(v) for k, v in seen.items()}


def fifty(w):
    # Once before, so that what stays by the engine's will (its own groups, sockets, folders) is in the first snapshot.
    w.d("run", "--rm", "--name", "warm", "-m", "64m", "busybox", "true")
    w.d("run", "--rm", "--name", "warm", "busybox", "true")
    time.sleep(1)
    before = snapshot(w)

    def one(i):
        name = f"many-{i}"
        kind = i % 5
        if kind == 0:
            out = w.d("run", "--rm", "--name", name, "-m", "32m", "--pids-limit", "20", "busybox", "echo", str(i), timeout=180).stdout
            equal(out, f"{i}\n", name)
        elif kind == 1:
            w.d("run", "--rm", "--name", name, "--network", "none", "busybox", "sh", "-c", f"exit {i}", code=i, timeout=180)
        elif kind == 2:
            w.d("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000", timeout=180)
            w.d("exec", name, "true", timeout=180)
            w.d("exec", "-d", name, "sleep", "1000", timeout=180)
            w.d("rm", "-f", name, timeout=180)
        elif kind == 3:
            w.d("run", "-d", "--name", name, "--pid", "host", "--network", "none", "busybox", "sh", "-c", "sleep 1001 & sleep 1002", timeout=180)
            w.d("kill", name, timeout=180)
            w.d("rm", "-f", name, timeout=180)
        else:
            w.d("run", "-d", "--name", name, "--tmpfs", "/t", "-v", f"{w.daemon.folder}:/b:ro", "busybox", "nosuchprogram", code=127, timeout=180)
            w.d("rm", "-f", name, timeout=180)
        return i
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(PARALLEL)))
    w.d("volume", "prune", "-f")
    equal(w.d("ps", "-aq").stdout, "", "containers left")
    end = time.monotonic() + 15
    while True:
        after = snapshot(w)
        left = {}
        for kind, rows in after.items():
            rest = list(rows)
            for row in before[kind]:
                if row in rest:
                    rest.remove(row)
            # The engine's own: sockets, and files of ended network namespaces, which it collects once a minute (that they
            # are no mounts any more is seen among the mounts).
            rest = [r for r in rest if not (kind == "state" and re.search(r"/(containerd/s|containerd/containerd\.sock|network/files|exec/netns/[0-9a-f]{12}$)", r))]
            if rest:
                left[kind] = rest
        if not left:
            return
        if time.monotonic() > end:
            raise Failed("left behind: " + json.dumps({k: v[:10] for k, v in left.items()}))
        time.sleep(0.3)


WORK = [mariadb, nginx, redis, python, fifty]


def inside(runtime, wanted):
    folder = os.environ["RUNDLET_SCRATCH"]

    def ended(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, ended)
    daemon = dockerd.Daemon(os.path.join(folder, "w"), runtime, os.environ["RUNDLET_CGROUP"])
    os.makedirs(daemon.folder)
    passed = failed = 0
    try:
        daemon.start()
        tar = os.path.join(folder, "busybox.tar")
        images.busybox_tar(tar)
        daemon.load(tar, "busybox")
        chosen = [f for f in WORK if re.search(wanted, f.__name__)]
        if any(f is not fifty for f in chosen):
            daemon.load(os.environ["RUNDLET_DEBIAN_TAR"], "debian")
        world = World(daemon, dockerd.client())
        for work in chosen:
            began = time.monotonic()
            try:
                work(world)
                passed += 1
                print(f"ok   {work.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception as e:  # the next workload is to run too
                failed += 1
                print(f"FAIL {work.__name__} ({time.monotonic() - began:.1f} s): {e if isinstance(e, Failed) else traceback.format_exc()}", flush=True)
                for name in world.d("ps", "-a", "--format", "{{.Names}}", code=None).stdout.split()[:3]:
                    logs = world.d("logs", "--tail", "15", name, code=None)
                    print("".join(f"     {name}: {line}\n" for line in (logs.stdout + logs.stderr).splitlines()), end="", flush=True)
                daemon.remove_containers()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        failed += 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            daemon.remove_containers()
        except OSError:
            pass
        daemon.stop()
        if failed and os.environ.get("RUNDLET_KEEP_LOG"):
            shutil.copy(daemon.log, os.environ["RUNDLET_KEEP_LOG"])
    print(f"{passed} passed, {failed} failed, 0 skipped", flush=True)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime")
    parser.add_argument("--only", default="", help="expression that names of workloads must contain: " + ", ".join(f.__name__ for f in WORK))
    parser.add_argument("--deadline", type=float, default=600)
    options = parser.parse_args()
    runtime = os.path.abspath(options.runtime)
    if os.environ.get("RUNDLET_SCRATCH"):
        return inside(runtime, options.only)
    if not os.access(runtime, os.X_OK):
        parser.error(f"{runtime} is no program")

    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    env = {"RUNDLET_DEBIAN_TAR": "" if options.only == "fifty" else images.debian_tar()}
    world = sandbox.Sandbox([sys.executable, os.path.abspath(__file__), "--only", options.only, runtime], "work", options.deadline, env)
    try:
        return world.wait()
    except KeyboardInterrupt:
        return 1
    finally:
        world.stop()


if __name__ == "__main__":
    sys.exit(main())
