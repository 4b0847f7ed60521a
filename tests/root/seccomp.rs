//! Seccomp profiles: what is refused, how, by which arguments, and what a newer call gets.

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, tests};

tests! {
    host no_profile_is_no_filter;
    host errno_by_default_is_eperm;
    host errno_of_the_profile;
    host default_errno_of_the_profile;
    host kill_process;
    host kill_thread_and_trap;
    host log_lets_through;
    host arguments_equal;
    host arguments_masked;
    host arguments_of_two_rules_are_alternatives;
    host arguments_of_one_rule_all_hold;
    host arguments_not_equal_and_ranges;
    host newer_calls_get_enosys;
    host unknown_names_are_skipped;
    host without_no_new_privileges;
    host what_waits_for_start_calls_little;
    host a_filter_that_allows_nothing_hangs_nobody = "runc 1.1.5 hangs or fails by chance";
    host all_architectures;
    host flags = "runc 1.1.5 takes none";
    host unknown_actions_and_words_are_refused;
    host notify_without_a_listener_is_refused;
    host large_profile;
    both status_in_the_container;
}

fn with(b: &mut Bundle, default: &str, rules: Value) {
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
               "syscalls": rules}),
    );
}

/// Everything allowed but `rules`.
fn allow_but(b: &mut Bundle, rules: Value) {
    with(b, "SCMP_ACT_ALLOW", rules);
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn no_profile_is_no_filter(cx: &Cx) {
    cx.sh("grep ^Seccomp: /proc/self/status | tr -dc 0-9", |_| ())
        .prints("0");
}

fn status_in_the_container(cx: &Cx) {
    let mut bundle = cx.bundle();
    allow_but(
        &mut bundle,
        json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]),
    );
    let container = cx.start(&bundle);
    container.exec_sh("grep ^Seccomp: /proc/1/status | tr -dc 0-9; grep ^Seccomp: /proc/self/status | tr -dc 0-9").ok().prints("22");
    container.end();
}

fn errno_by_default_is_eperm(cx: &Cx) {
    let output = cx.sh("mkdir /mnt/x 2>&1; touch /mnt/y && echo fine", |b| {
        allow_but(b, json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]));
    });
    assert!(
        output.stdout.contains("Operation not permitted") && output.stdout.ends_with("fine\n"),
        "{output}"
    );
}

fn errno_of_the_profile(cx: &Cx) {
    cx.sh("mkdir /mnt/x 2>&1 || true", |b| {
        allow_but(
            b,
            json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]),
        );
    })
    .has("No space left on device");
}

fn default_errno_of_the_profile(cx: &Cx) {
    cx.sh("nsenter -t 1 -u true 2>&1 || true", |b| {
        with(b, "SCMP_ACT_ERRNO", json!([{"names": names_up_to_302(), "action": "SCMP_ACT_ALLOW"},
                                         {"names": ["rseq", "getrandom", "statx", "clone3", "openat2", "pidfd_open", "cachestat"],
                                          "action": "SCMP_ACT_ALLOW"}]));
        b.set("/linux/seccomp/defaultErrnoRet", json!(28));
    })
    .has("No space left on device");
}

/// Loaded before the last steps, it refuses even to exit: whatever comes of it, create ends with an error and nothing is left.
fn a_filter_that_allows_nothing_hangs_nobody(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/noNewPrivileges", json!(false));
    // Where the init runs out of calls depends on what was allocated before: several lengths of the environment.
    for variables in 0..20 {
        let allowed = if variables % 2 == 0 {
            &["read", "write"][..]
        } else {
            &["read"]
        };
        with(
            &mut bundle,
            "SCMP_ACT_ERRNO",
            json!([{"names": allowed, "action": "SCMP_ACT_ALLOW"}]),
        );
        let variables: Vec<_> = (0..variables).map(|i| format!("P{i}=x")).collect();
        bundle.set("/process/env", json!(variables));
        bundle.write();
        let path = bundle.path.to_str().unwrap();
        let mut create = cx.command(&["create", "--bundle", path, &bundle.id]);
        // As engines inherit it from whoever starts them.
        create.env("RUST_BACKTRACE", "1");
        let output = cx.spawn(create).wait().is(1);
        assert!(output.stderr.contains("linux.seccomp"), "{output}");
    }
}

fn kill_process(cx: &Cx) {
    cx.sh("mkdir /mnt/x; echo $?", |b| {
        allow_but(
            b,
            json!([{"names": MKDIR, "action": "SCMP_ACT_KILL_PROCESS"}]),
        )
    })
    .prints("159");
}

fn kill_thread_and_trap(cx: &Cx) {
    for (name, action) in [
        ("kill", "SCMP_ACT_KILL"),
        ("thread", "SCMP_ACT_KILL_THREAD"),
        ("trap", "SCMP_ACT_TRAP"),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.sh("mkdir /mnt/x; echo $?");
        allow_but(&mut bundle, json!([{"names": MKDIR, "action": action}]));
        cx.run(&bundle).ok().prints("159");
    }
}

fn log_lets_through(cx: &Cx) {
    cx.sh("mkdir /mnt/x && echo made", |b| {
        allow_but(b, json!([{"names": MKDIR, "action": "SCMP_ACT_LOG"}]))
    })
    .prints("made");
}

fn signal_rule(args: Value) -> Value {
    json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}])
}

const THREE_SIGNALS: &str = "trap '' HUP USR1 USR2; for s in HUP USR1 USR2; do kill -$s $$ 2>/dev/null && echo $s; done; true";

fn arguments_equal(cx: &Cx) {
    cx.sh(THREE_SIGNALS, |b| {
        allow_but(
            b,
            signal_rule(json!([{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}])),
        )
    })
    .prints("HUP\nUSR2");
}

fn arguments_masked(cx: &Cx) {
    // Set-user-id bits are refused, other modes are not.
    cx.sh("touch /mnt/f; chmod 755 /mnt/f && echo plain; chmod 4755 /mnt/f 2>/dev/null || echo refused", |b| {
        allow_but(
            b,
            json!([
                {"names": ["chmod", "fchmod"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 2, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"}]}
            ]),
        );
    })
    .prints("plain\nrefused");
}

fn arguments_of_two_rules_are_alternatives(cx: &Cx) {
    cx.sh(THREE_SIGNALS, |b| {
        let rule = |value: u64| {
            json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        };
        allow_but(b, json!([rule(1), rule(12)]));
    })
    .prints("USR1");
}

fn arguments_of_one_rule_all_hold(cx: &Cx) {
    // The shell is pid 1: only signal 10 to pid 1 is refused.
    cx.sh(THREE_SIGNALS, |b| {
        allow_but(
            b,
            signal_rule(json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}])),
        );
    })
    .prints("HUP\nUSR2");
    let mut bundle = cx.named_bundle("d");
    bundle.sh(THREE_SIGNALS);
    let other = json!([{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]);
    allow_but(&mut bundle, signal_rule(other));
    cx.run(&bundle).ok().prints("HUP\nUSR1\nUSR2");
}

fn arguments_not_equal_and_ranges(cx: &Cx) {
    // HUP is 1, USR1 is 10, USR2 is 12.
    for (name, op, value, wanted) in [
        ("ne", "SCMP_CMP_NE", 10, "USR1"),
        ("lt", "SCMP_CMP_LT", 10, "USR1\nUSR2"),
        ("le", "SCMP_CMP_LE", 10, "USR2"),
        ("ge", "SCMP_CMP_GE", 10, "HUP"),
        ("gt", "SCMP_CMP_GT", 10, "HUP\nUSR1"),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.sh(THREE_SIGNALS);
        allow_but(
            &mut bundle,
            signal_rule(json!([{"index": 1, "value": value, "op": op}])),
        );
        cx.run(&bundle).ok().prints(wanted);
    }
}

/// Every call of x86_64 up to number 302 (prlimit64), so a profile as of Linux 2.6.36.
const UP_TO_302: &str = "\
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask \
    rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore \
    madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile socket \
    connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair \
    setsockopt getsockopt clone fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget \
    msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename \
    mkdir rmdir creat link unlink symlink readlink chmod fchmod chown fchown lchown umask gettimeofday \
    getrlimit getrusage sysinfo times ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid \
    getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid \
    getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo \
    rt_sigsuspend sigaltstack utime mknod uselib personality ustat statfs fstatfs sysfs getpriority \
    setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max \
    sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt \
    pivot_root _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 \
    swapon swapoff reboot sethostname setdomainname iopl ioperm create_module init_module delete_module \
    get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid \
    readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr \
    removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity \
    set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie \
    epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address restart_syscall \
    semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun timer_delete \
    clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes \
    vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify \
    mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init \
    inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat newfstatat \
    unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list \
    get_robust_list splice tee sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd \
    timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 \
    epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg \
    fanotify_init fanotify_mark prlimit64";

pub(crate) fn names_up_to_302() -> Vec<&'static str> {
    UP_TO_302.split_whitespace().collect()
}

fn newer_calls_get_enosys(cx: &Cx) {
    // N3: setns (308) is newer than all that the profile knows; sethostname is older and refused.
    let names: Vec<&str> = names_up_to_302()
        .into_iter()
        .filter(|name| *name != "sethostname")
        .collect();
    let output = cx.sh("nsenter -t 1 -u true 2>&1; hostname x 2>&1; true", |b| {
        with(
            b,
            "SCMP_ACT_ERRNO",
            json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]),
        );
    });
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].contains("Function not implemented"), "{output}");
    assert!(lines[1].contains("Operation not permitted"), "{output}");
}

fn unknown_names_are_skipped(cx: &Cx) {
    cx.sh("mkdir /mnt/x 2>&1 || true", |b| {
        allow_but(b, json!([{"names": ["call_of_the_future", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    })
    .has("Operation not permitted");
}

fn without_no_new_privileges(cx: &Cx) {
    let mut bundle = cx.script("mkdir /mnt/x 2>&1; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; id -u");
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    allow_but(
        &mut bundle,
        json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]),
    );
    cx.run(&bundle)
        .ok()
        .has("NoNewPrivs:0\nSeccomp:2\n1000\n")
        .has("Operation not permitted");
}

/// Loaded before the wait: what the runtime would like to call meanwhile may be death.
fn what_waits_for_start_calls_little(cx: &Cx) {
    let mut bundle = cx.script("echo here");
    bundle.set("/process/noNewPrivileges", json!(false));
    allow_but(
        &mut bundle,
        json!([{"names": ["madvise"], "action": "SCMP_ACT_KILL_PROCESS"}]),
    );
    let container = cx.create(&bundle);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(container.status(), "created");
    container.call("start").ok();
    container.wait_for("stopped");
    container.call("delete").ok();
}

fn all_architectures(cx: &Cx) {
    let mut bundle = cx.script("mkdir /mnt/x 2>&1 || true");
    allow_but(
        &mut bundle,
        json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]),
    );
    // None given means the machine's own.
    bundle.config["linux"]["seccomp"]
        .as_object_mut()
        .unwrap()
        .remove("architectures");
    cx.run(&bundle).ok().has("Operation not permitted");
    bundle.set(
        "/linux/seccomp/architectures",
        json!([
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32"
        ]),
    );
    cx.run(&bundle).ok().has("Operation not permitted");
}

fn flags(cx: &Cx) {
    for (name, flags) in [
        ("none", json!([])),
        ("log", json!(["SECCOMP_FILTER_FLAG_LOG"])),
        (
            "two",
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        ),
    ] {
        let mut bundle = cx.named_bundle(name);
        bundle.sh("mkdir /mnt/x 2>&1 || true");
        allow_but(
            &mut bundle,
            json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}]),
        );
        bundle.set("/linux/seccomp/flags", flags);
        cx.run(&bundle).ok().has("Operation not permitted");
    }
}

fn unknown_actions_and_words_are_refused(cx: &Cx) {
    let base = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                      "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]});
    for (number, (pointer, value)) in [
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_MAYBE")),
        ("/linux/seccomp/architectures/0", json!("SCMP_ARCH_Z80")),
        ("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_NOVEL"])),
        (
            "/linux/seccomp/syscalls/0/action",
            json!("SCMP_ACT_PERHAPS"),
        ),
        (
            "/linux/seccomp/syscalls/0/args/0/op",
            json!("SCMP_CMP_ABOUT"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = cx.named_bundle(&format!("b{number}"));
        bundle.set("/linux/seccomp", base.clone());
        bundle.set(pointer, value.clone());
        let output = cx.try_create(&bundle).is(1);
        assert!(
            output
                .stderr
                .contains(value.as_str().unwrap_or("SECCOMP_FILTER_FLAG_NOVEL"))
                || !cx.is_rundlet(),
            "{output}"
        );
    }
}

fn notify_without_a_listener_is_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    allow_but(
        &mut bundle,
        json!([{"names": MKDIR, "action": "SCMP_ACT_NOTIFY"}]),
    );
    cx.run(&bundle).is(1);
}

fn large_profile(cx: &Cx) {
    // Every call its own rule with two arguments: more than one page of program, and still right.
    let mut rules: Vec<Value> = names_up_to_302()
        .into_iter()
        .filter(|name| !MKDIR.contains(name))
        .map(|name| {
            json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                {"index": 4, "value": 0xfeed_0000_0000_0001_u64, "op": "SCMP_CMP_EQ"},
                {"index": 5, "value": 0xfeed_0000_0000_0002_u64, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    rules.push(json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
    cx.sh("mkdir /mnt/x 2>&1; touch /mnt/y && echo fine", |b| {
        allow_but(b, json!(rules))
    })
    .has("No space left on device")
    .has("fine");
}
