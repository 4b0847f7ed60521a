"""What a process sees inside of its container."""

import re

import normalise
from harness import case

STATUS = ("grep -E '^(Name|State|Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Cpus_allowed_list"
          "|Mems_allowed_list|SigBlk|SigIgn|SigCgt|Umask|Speculation_Store_Bypass|Threads):' /proc/self/status")


@case("inside")
def status(c):
    c.sh(STATUS, has=["^NoNewPrivs:\t0", "^CapEff:\t00000000a80425fb", "^Seccomp:\t2"])


@case("inside")
def status_of_user(c):
    c.sh(STATUS, "-u", "alice", has=["^CapEff:\t0000000000000000", "^CapInh:\t0000000000000000", "^CapAmb:\t0000000000000000"])


@case("inside")
def status_of_process_one(c):
    c.sleeper("one")
    c.d("exec", "one", "sh", "-c", STATUS.replace("self", "1"))
    c.d("exec", "one", "sh", "-c", STATUS)
    c.d("exec", "-u", "1000:1000", "one", "sh", "-c", STATUS)


@case("inside")
def mounts(c):
    c.rm("--", "cat", "/proc/self/mountinfo", net=None, norm=normalise.mountinfo)


@case("inside")
def mounts_of_user(c):
    c.rm("-u", "1000", "--read-only", "--tmpfs", "/tmp", "--", "cat", "/proc/self/mountinfo", norm=normalise.mountinfo)


@case("inside")
def dev(c):
    c.sh("ls -la /dev /dev/pts /dev/shm /dev/mqueue", norm=normalise.listing, has="null")


@case("inside")
def dev_with_terminal(c):
    c.terminal("run", "--rm", "-t", "--network", "none", "busybox", "sh", "-c", "ls -la /dev /dev/pts; tty",
               norm=normalise.listing, has=["console", "/dev/pts/0"])


@case("inside")
def descriptors(c):
    c.sh("ls -l /proc/self/fd; ls /proc/1/fd", norm=lambda v: normalise.numbers(normalise.listing(v)))


@case("inside")
def cgroup(c):
    c.rm("--", "cat", "/proc/self/cgroup", has="memory:/")


@case("inside")
def cgroup_namespace(c):
    c.sh("cat /proc/self/cgroup; grep cgroup /proc/self/mountinfo", "--cgroupns", "private", norm=normalise.mountinfo, has="memory:/$")


@case("inside", v1=True)
def cgroup_tree(c):
    c.sh("cd /sys/fs/cgroup; ls -l; for i in *; do [ -e $i/cgroup.procs ] && wc -l <$i/cgroup.procs; done; mkdir pids/x",
         norm=normalise.listing, code=1, err="Read-only")


@case("inside")
def limits(c):
    c.rm("--", "cat", "/proc/self/limits", has="Max open files")


@case("inside")
def environment(c):
    c.rm("--hostname", "box", "--", "env", has=["^HOSTNAME=box$", "^HOME=/root$", "^PATH=/usr/local/sbin:"])


@case("inside")
def environment_of_user(c):
    c.rm("-u", "alice", "--hostname", "box", "--", "env", has="^HOME=/home/alice$")


@case("inside")
def identity(c):
    c.sh("id; umask; pwd; whoami; echo $$; nproc")


@case("inside")
def hostname(c):
    c.sh("hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf", "--hostname", "box", has="^box$")


@case("inside", v1=True)
def namespaces(c):
    import os
    out = c.sh("for i in mnt uts ipc pid net user cgroup; do readlink /proc/self/ns/$i; done", record=False).out.split()
    for entry in out:
        kind = entry.split(":")[0]
        same = os.readlink(f"/proc/self/ns/{kind}") == entry
        c.note(f"{kind} namespace is the host's", same, kind in ("user", "cgroup"))


@case("inside")
def sysctls(c):
    c.sh("cd /proc/sys; for i in kernel/hostname kernel/domainname kernel/shmmax kernel/msgmax kernel/sem net/ipv4/ip_forward "
         "net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/core/somaxconn fs/mqueue/msg_max; do echo $i $(cat $i); done; "
         "echo 1 > kernel/msgmax", "--hostname", "box", code=1, err="Read-only")


@case("inside")
def masked_and_readonly_paths(c):
    c.sh("for i in asound acpi keys latency_stats timer_list timer_stats sched_debug scsi bus fs irq sys sysrq-trigger; do "
         "printf '%s ' $i; [ -e /proc/$i ] || { echo absent; continue; }; grep -c \" /proc/$i \" /proc/self/mountinfo; "
         "[ -d /proc/$i ] && ls /proc/$i | grep -c . ; done; cat /proc/keys | wc -c; "
         "ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/domainname", code=1, err="Read-only")


@case("inside")
def masked_stay_masked(c):
    c.sh("umount /proc/keys; umount /sys/firmware; mount -o remount,rw /proc/sys; mount -t tmpfs none /tmp; echo end",
         has="^end$", err="ermission denied|not permitted")


@case("inside")
def root_directory(c):
    c.sh("ls -la / | grep -v ' \\.\\.$'; stat -c '%a %u %g' / /proc /sys /dev /etc/hosts /etc/resolv.conf",
         norm=lambda v: re.sub(r"(?m)^(d\S+) \d+ (.* proc)$", r"\1 <N> \2", normalise.listing(v)))


@case("inside")
def escape_by_chroot(c):
    c.sh("mkdir /x; chroot /x /bin/true; ls /../../../ | head -3; cat /proc/1/comm", code=0)


@case("inside")
def kernel_keyring(c):
    # A session keyring of its own: its name is the container's id.
    c.sh("grep -c . /proc/keys; cat /proc/key-users | wc -l", norm=normalise.numbers, code=None)


@case("inside")
def process_attributes(c):
    c.sh("cat /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/loginuid /proc/self/setgroups "
         "/proc/self/uid_map /proc/self/gid_map; cut -d' ' -f 5-8,18,19,41 /proc/self/stat", code=None)
