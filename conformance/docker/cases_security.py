"""Capabilities, seccomp, no_new_privs, devices, sysctls, privileged containers."""

import json

import normalise
from cases_inside import STATUS
from harness import case


@case("security")
def cap_add(c):
    c.sh(STATUS, "--cap-add", "NET_ADMIN", "--cap-add", "SYS_TIME", has="^CapEff:\t00000000aa0435fb")
    c.sh("ip link set lo down && echo done", "--cap-add", "NET_ADMIN", has="done")


@case("security")
def cap_drop(c):
    c.sh(STATUS, "--cap-drop", "ALL", has=["^CapEff:\t0000000000000000", "^CapBnd:\t0000000000000000"])
    c.sh(STATUS, "--cap-drop", "ALL", "--cap-add", "CHOWN", has="^CapBnd:\t0000000000000001")
    c.sh("chown 1 /plain", "--cap-drop", "CHOWN", code=1, err="not permitted")


@case("security")
def cap_add_for_user(c):
    c.sh(STATUS, "--cap-add", "NET_ADMIN", "-u", "alice", has=["^CapBnd:\t00000000a80435fb", "^CapEff:\t0000000000000000", "^CapAmb:\t0000000000000000"])


@case("security")
def cap_add_all(c):
    # ALL asks for capabilities that the host may lack.
    c.sh("grep CapEff /proc/self/status", "--cap-add", "ALL", has="^CapEff:\t(000001ff|0000003f)f[ef]ffffff$")


@case("security")
def cap_unknown(c):
    c.rm("--cap-add", "NO_SUCH", "--", "true", code=125)


@case("security")
def no_new_privileges(c):
    c.sh(STATUS, "--security-opt", "no-new-privileges", has="^NoNewPrivs:\t1")
    c.sh(STATUS, "--security-opt", "no-new-privileges", "-u", "alice", has="^NoNewPrivs:\t1")


@case("security")
def seccomp_default(c):
    c.sh("unshare -U true; echo $?; unshare -m true; echo $?", err="not permitted", has="^1\n1$")
    c.sh("cat /proc/self/status | grep Seccomp", "--cap-add", "SYS_ADMIN", has="Seccomp:\t2")
    c.sh("mount -t tmpfs none /tmp && grep -c ' /tmp ' /proc/mounts", "--cap-add", "SYS_ADMIN", has="^1$")


@case("security")
def seccomp_unconfined(c):
    c.sh("grep Seccomp /proc/self/status; unshare -U true; echo $?", "--security-opt", "seccomp=unconfined", has=["Seccomp:\t0", "^0$"])


def profile(c, name, *rules, default="SCMP_ACT_ALLOW", **more):
    return c.write(name, json.dumps({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                                     "syscalls": list(rules), **more}))


@case("security")
def seccomp_file(c):
    path = profile(c, "mkdir.json", {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})
    c.sh("mkdir /x; echo $?; rmdir /srv/none; grep Seccomp: /proc/self/status", "--security-opt", "seccomp=" + path,
         err="mkdir.*not permitted", has="Seccomp:\t2")


@case("security")
def seccomp_kill(c):
    path = profile(c, "kill.json", {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"},
                   {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"}, {"names": ["sync"], "action": "SCMP_ACT_KILL"},
                   {"names": ["rmdir"], "action": "SCMP_ACT_LOG"})
    c.sh("hostname x; echo $?; mkdir /x; echo $?; sync; echo $?; rmdir /nope; echo $?", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=" + path,
         has="^159\n159\n159\n1$")


@case("security")
def seccomp_arguments(c):
    # kill(pid, 10) alone is refused; comparisons of both halves of a 64-bit argument are hit too.
    path = profile(c, "args.json", {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
                   {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 30, "op": "SCMP_CMP_GE"}]},
                   {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 1, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"}]})
    c.sh("kill -10 $$; echo $?; trap 'echo got 12' 12; kill -12 $$; kill -31 $$; echo $?; chmod 4755 /plain; echo $?; chmod 755 /plain; echo $?",
         "--security-opt", "seccomp=" + path, has=["got 12"])


@case("security")
def seccomp_allow_list(c):
    path = profile(c, "few.json", {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}, default="SCMP_ACT_ERRNO")
    c.rm("--security-opt", "seccomp=" + path, "--", "true", code=None, norm=lambda v: "")


@case("security")
def seccomp_bad_file(c):
    path = c.write("bad.json", "{")
    c.rm("--security-opt", "seccomp=" + path, "--", "true", code=125)
    path = profile(c, "odd.json", {"names": ["mkdir"], "action": "SCMP_ACT_NONSENSE"})
    c.rm("--security-opt", "seccomp=" + path, "--", "true", code=None)
    path = profile(c, "unknown.json", {"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"})
    c.sh("mkdir /x", "--security-opt", "seccomp=" + path, code=1, err="not permitted")


@case("security")
def seccomp_for_user(c):
    c.sh(STATUS, "-u", "alice", "--security-opt", "no-new-privileges", has="Seccomp:\t2")


@case("security")
def systempaths_unconfined(c):
    c.sh("grep -c ' /proc/keys ' /proc/mounts; grep -c ' /proc/sys ' /proc/mounts", "--security-opt", "systempaths=unconfined",
         code=1, has="^0\n0$")


@case("security")
def sysctl(c):
    c.sh("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max", "--sysctl", "net.core.somaxconn=555",
         "--sysctl", "kernel.msgmax=9001", "--sysctl", "fs.mqueue.msg_max=21", has="^555\n9001\n21$")


@case("security")
def sysctl_refused(c):
    c.rm("--sysctl", "kernel.panic=5", "--", "true", code=None)
    c.rm("--sysctl", "net.ipv4.no_such=5", "--", "true", code=None)
    c.d("run", "--rm", "--network", "host", "--sysctl", "net.core.somaxconn=5", "busybox", "true", code=None)


@case("security")
def device(c):
    c.sh("ls -l /dev/fuse /dev/mine; exec 3<>/dev/fuse && echo opened", "--device", "/dev/fuse", "--device", "/dev/zero:/dev/mine:r",
         has="opened", norm=normalise.listing)
    c.sh("head -c 4 /dev/mine | wc -c; echo x > /dev/mine", "--device", "/dev/kmsg:/dev/mine:r", code=None)


@case("security")
def device_permissions(c):
    c.sh("exec 3</dev/loop7 && echo read; (exec 4>/dev/loop7) || echo no write", "--device", "/dev/loop7:/dev/loop7:r", has="^read\nno write$")
    c.sh("ls -l /dev/deep/er/null; echo x > /dev/deep/er/null", "--device", "/dev/null:/dev/deep/er/null", norm=normalise.listing)


@case("security")
def device_not_given(c):
    c.sh("mknod /tmp/f c 10 229 && echo made; exec 3<>/tmp/f", code=None, has="made", err="not permitted")
    c.sh("mknod /tmp/f c 10 229", "--cap-drop", "MKNOD", code=1, err="not permitted")


@case("security")
def device_cgroup_rule(c):
    c.sh("mknod /tmp/f c 10 229; exec 3<>/tmp/f && echo opened", "--device-cgroup-rule", "c 10:229 rwm", has="opened")
    c.sh("mknod /tmp/f c 10 229; (exec 3<>/tmp/f) || echo closed; exec 3</tmp/f && echo opened", "--device-cgroup-rule", "c 10:* rm",
         has=["closed", "opened"])
    c.sh("mknod /tmp/b b 7 7; exec 3</tmp/b && echo opened", "--device-cgroup-rule", "b *:* rwm", has="opened")


@case("security")
def device_missing(c):
    c.rm("--device", "/dev/no-such", "--", "true", code=(125, 127))


@case("security")
def device_folder(c):
    c.sh("ls /dev/cpu", "--device", "/dev/cpu", code=None)


@case("security")
def default_devices(c):
    c.sh("cat /sys/fs/cgroup/devices/devices.list | sort; for i in null zero full random urandom tty; do head -c 1 /dev/$i >/dev/null; echo $i $?; done",
         norm=lambda v: v, code=None)


@case("security")
def privileged(c):
    c.sh(STATUS, "--privileged", has=["^Seccomp:\t0", "^NoNewPrivs:\t0", "^CapEff:\t(000001ff|0000003f)f[ef]ffffff$"])


@case("security")
def privileged_devices(c):
    c.sh("[ -b /dev/loop7 ] && [ -c /dev/fuse ] && exec 3<>/dev/fuse && echo devices", "--privileged", has="devices")


@case("security")
def privileged_mounts(c):
    c.sh("mount -t tmpfs none /tmp && echo mounted; grep -c ' /proc/keys ' /proc/mounts; echo 9002 > /proc/sys/kernel/msgmax; cat /proc/sys/kernel/msgmax; "
         "mkdir /sys/fs/cgroup/pids/x && rmdir /sys/fs/cgroup/pids/x && echo cgroup", "--privileged", has=["mounted", "^0$", "9002", "cgroup"])


@case("security")
def privileged_exec(c):
    c.sleeper("one")
    c.d("exec", "--privileged", "one", "sh", "-c", "grep -E 'Cap|Seccomp:' /proc/self/status", has="^CapEff:\t(000001ff|0000003f)f[ef]ffffff$")


@case("security")
def privileged_build_step_like(c):
    c.sh("unshare -m sh -c 'mount -t tmpfs none /mnt 2>/dev/null || mount -t tmpfs none /tmp; echo in'", "--privileged", has="in")
