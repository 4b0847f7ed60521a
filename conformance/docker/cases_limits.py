"""Resource limits: what docker asks for must be seen in the container's cgroup and must bite."""

import re

from harness import HOG, case

CG = "/sys/fs/cgroup"


@case("limits", v1=True)
def memory(c):
    c.sh(f"cd {CG}/memory; cat memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness "
         "memory.oom_control", "-m", "64m", "--memory-reservation", "32m", "--memory-swappiness", "7", has="^67108864$",
         norm=lambda v: re.sub(r"(?m)^oom_kill \d+$", "oom_kill N", v), code=None)


@case("limits", v1=True)
def memory_swap(c):
    c.sh(f"cat {CG}/memory/memory.memsw.limit_in_bytes", "-m", "64m", "--memory-swap", "96m", has="^100663296$")
    c.sh(f"cat {CG}/memory/memory.memsw.limit_in_bytes", "-m", "64m", "--memory-swap", "-1", has="^9223372036854771712$")


@case("limits", v1=True)
def memory_killed(c):
    c.run("--name", "one", "-m", "20m", "--memory-swap", "20m", "busybox", "sh", "-c", HOG, code=137)
    c.until("^true 137$", "inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "one")


@case("limits", v1=True)
def memory_child_killed(c):
    c.sh(f"sh -c '{HOG}'; echo child $?", "-m", "20m", "--memory-swap", "20m", has="^child 137$")


@case("limits")
def memory_smallest(c):
    # docker's own floor: the runtime's init must fit in.
    c.rm("-m", "6m", "--", "true")


@case("limits", v1=True)
def oom_kill_disabled(c):
    c.sh(f"grep oom_kill_disable {CG}/memory/memory.oom_control", "-m", "64m", "--oom-kill-disable", has="oom_kill_disable 1")


@case("limits", v1=True)
def cpus(c):
    c.sh(f"cat {CG}/cpu/cpu.cfs_quota_us {CG}/cpu/cpu.cfs_period_us", "--cpus", "0.5", has="^50000\n100000$")


@case("limits", v1=True)
def cpu_quota_and_period(c):
    c.sh(f"cat {CG}/cpu/cpu.cfs_quota_us {CG}/cpu/cpu.cfs_period_us", "--cpu-quota", "20000", "--cpu-period", "40000", has="^20000\n40000$")


@case("limits", v1=True)
def cpu_shares(c):
    c.sh(f"cat {CG}/cpu/cpu.shares", "--cpu-shares", "333", has="^333$")


@case("limits", v1=True)
def cpuset(c):
    c.sh(f"cat {CG}/cpuset/cpuset.cpus {CG}/cpuset/cpuset.mems; nproc; grep Cpus_allowed_list /proc/self/status",
         "--cpuset-cpus", "1", "--cpuset-mems", "0", has=["^1$", "Cpus_allowed_list:\t1$"])


@case("limits", v1=True)
def cpuset_impossible(c):
    c.rm("--cpuset-cpus", "77", "--", "true", code=125)


@case("limits")
def cpu_realtime_refused(c):
    c.rm("--cpu-rt-runtime", "1000", "--", "true", code=None)


@case("limits", v1=True)
def pids(c):
    c.sh(f"cat {CG}/pids/pids.max; i=0; while [ $i -lt 12 ]; do sleep 5 & i=$((i+1)); done; echo all started", "--pids-limit", "6",
         has="^6$", err="fork", code=2)


@case("limits", v1=True)
def pids_unlimited(c):
    c.sh(f"cat {CG}/pids/pids.max", "--pids-limit", "-1", has="^max$")


@case("limits")
def blkio_weight(c):
    c.rm("--blkio-weight", "300", "--", "true", code=None)


@case("limits", v1=True)
def blkio_throttle(c):
    c.sh(f"cat {CG}/blkio/blkio.throttle.read_bps_device {CG}/blkio/blkio.throttle.write_iops_device",
         "--device-read-bps", "/dev/loop7:1mb", "--device-write-iops", "/dev/loop7:77", has=["^7:7 1048576$", "^7:7 77$"])


@case("limits")
def ulimit(c):
    c.sh("ulimit -Sn; ulimit -Hn; ulimit -Sc; grep -E 'core|open files|processes|locked' /proc/self/limits", "--ulimit", "nofile=128:128",
         "--ulimit", "core=0", "--ulimit", "memlock=32768:65536", has=["^128\n128\n0$", "32768 +65536"])


@case("limits")
def ulimit_soft(c):
    c.sh("ulimit -Sn; ulimit -Hn", "--ulimit", "nofile=64:128", has="^64\n128$")


@case("limits")
def ulimit_bites(c):
    c.sh("dd if=/dev/zero of=/big bs=4k count=100; echo $?; stat -c %s /big", "--ulimit", "fsize=65536:65536", has="^153\n65536$")


@case("limits", v1=True)
def cgroup_parent(c):
    import os
    parent = c.daemon.cgroup_parent
    c.sh("cat /proc/self/cgroup", "--cgroup-parent", f"/{parent}/nested/deep", has=f"memory:/{parent}/nested/deep/")


@case("limits")
def seen_by_host(c):
    """The container's process is in the same cgroup in every hierarchy."""
    c.sleeper("one", "-m", "64m", "--pids-limit", "50")
    pid = c.host_pid("one")
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        c.note("cgroups of process one", f.read())


@case("limits", v1=True)
def update(c):
    c.sleeper("one", "-m", "64m", "--memory-swap", "64m", "--pids-limit", "50", "--cpus", "1")
    c.d("update", "-m", "96m", "--memory-swap", "96m", "--pids-limit", "40", "--cpus", "0.25", "--cpu-shares", "99", "one")
    c.d("exec", "one", "sh", "-c", f"cd {CG}; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares",
        has="^100663296\n40\n25000\n99$")


@case("limits", v1=True)
def update_refused(c):
    c.sleeper("one", "-m", "64m", "--memory-swap", "64m")
    c.d("update", "--cpuset-cpus", "77", "one", code=1)
    c.d("update", "--restart", "on-failure:3", "one")
    c.inspect("one", "{{.HostConfig.RestartPolicy.Name}}", has="on-failure")


@case("limits", v1=True)
def stats(c):
    c.sleeper("one", "-m", "64m", "--pids-limit", "50")
    import normalise
    c.d("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}", "one", has="^one 2 .*64MiB",
        norm=lambda v: re.sub(r"[\d.]+(B|KiB|MiB|kB|MB) /", "<N> /", re.sub(r"[\d.]+%", "<N>%", v)))
