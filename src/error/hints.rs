//! Traps that people fall into at night, and the way out of each: what is known from the message and the kernel's errno alone.
//! Called by [`super::report`] for a message without a hint of its own; a hint that needs more than that stands where the error
//! is made.

use nix::errno::Errno;

struct Trap {
    errno: Option<Errno>,
    /// All of them stand in the message.
    words: &'static [&'static str],
    hint: &'static str,
}

const fn trap(errno: Errno, words: &'static [&'static str], hint: &'static str) -> Trap {
    Trap {
        errno: Some(errno),
        words,
        hint,
    }
}

const fn words(words: &'static [&'static str], hint: &'static str) -> Trap {
    Trap {
        errno: None,
        words,
        hint,
    }
}

/// The first one that fits is given, so what is special comes before what is general.
const TRAPS: &[Trap] = &[
    // The program.
    trap(
        Errno::ENOEXEC,
        &["process.args[0]"],
        "a script needs a first line like #!/bin/sh, a program the machine's own architecture",
    ),
    trap(
        Errno::ENOENT,
        &["exec", "step `exec`"],
        "the file is there, but not what runs it: the interpreter of its first line, or the loader that it was linked for",
    ),
    words(
        &["executable file not found in $PATH"],
        "PATH is that of process.env; the program must be in the root file system",
    ),
    trap(
        Errno::ENOENT,
        &["process.args[0]"],
        "the path is looked up in the root file system of the container",
    ),
    trap(
        Errno::EACCES,
        &["process.args[0]", "under Landlock"],
        "org.rundlet.landlock.fs.ro must have the program, and the loader, libraries or interpreter that it needs",
    ),
    trap(
        Errno::EACCES,
        &["process.args[0]"],
        "the container's user needs the x bit of the file and of every directory above it, on a mount without noexec",
    ),
    trap(
        Errno::E2BIG,
        &["exec"],
        "process.args and process.env together are longer than the kernel takes",
    ),
    words(
        &["is a directory: permission denied"],
        "process.args[0] must be a file that can be executed",
    ),
    words(
        &["process.cwd", "outside of the container"],
        "a descriptor of the host was inherited; do not use /proc/self/fd as a working directory",
    ),
    trap(
        Errno::ENOTDIR,
        &["process.cwd"],
        "the working directory must be a directory of the root file system",
    ),
    // Mounts.
    trap(
        Errno::ENODEV,
        &["mounts["],
        "no such file system in this kernel: see /proc/filesystems, a module may have to be loaded",
    ),
    trap(
        Errno::ENOENT,
        &["mounts[", "source"],
        "the source of a bind mount must be there on the host",
    ),
    trap(
        Errno::ENOTDIR,
        &["mounts["],
        "a directory can only be mounted on a directory and a file on a file",
    ),
    trap(
        Errno::EROFS,
        &["mounts["],
        "the place to mount on is missing and cannot be made: make it in the image, or the root file system writable on the host",
    ),
    trap(
        Errno::EBUSY,
        &["mounts[", "`sysfs`"],
        "a new sysfs needs a network namespace that belongs to the user namespace: bind the host's /sys instead",
    ),
    trap(
        Errno::EPERM,
        &["mounts[", "proc"],
        "in a user namespace the kernel allows a new proc or sysfs only where the host's is not hidden by other mounts",
    ),
    trap(
        Errno::EPERM,
        &["mounts["],
        "not every file system can be mounted in a user namespace, and flags of the host's mount stay locked there",
    ),
    trap(
        Errno::EINVAL,
        &["mounts["],
        "the file system does not take one of the options: see its page in the manual, and the kernel's log",
    ),
    trap(
        Errno::ELOOP,
        &["mounts["],
        "the place to mount on leads through a symbolic link that may not be followed",
    ),
    trap(
        Errno::ENOENT,
        &["root.path"],
        "the path is relative to the bundle unless it is absolute",
    ),
    trap(
        Errno::ENOTDIR,
        &["root.path"],
        "the root file system is a directory; an image must be unpacked or mounted first",
    ),
    trap(
        Errno::ENOENT,
        &["config.json"],
        "a bundle is a directory with a config.json: see --bundle, `rundlet spec` writes one",
    ),
    trap(
        Errno::ENOENT,
        &["hooks.startContainer"],
        "the path of a startContainer hook is one of the container",
    ),
    trap(
        Errno::ENOENT,
        &["hooks."],
        "the path of this hook is one of the host",
    ),
    words(
        &["hooks.", "ran past its timeout"],
        "the timeout of a hook is in seconds",
    ),
    trap(
        Errno::ENOENT,
        &["org.rundlet.landlock"],
        "the path is one of the container; written -PATH it is left out where it is missing",
    ),
    trap(
        Errno::ELOOP,
        &["org.rundlet.landlock"],
        "links are not followed: name what it leads to, or write -PATH to leave a link out",
    ),
    // Namespaces.
    trap(
        Errno::ENOENT,
        &["linux.namespaces"],
        "the process or the file that holds the namespace has gone",
    ),
    trap(
        Errno::EPERM,
        &["linux.namespaces"],
        "to join it takes CAP_SYS_ADMIN in the user namespace that owns it",
    ),
    words(
        &["linux.uidMappings", "needs mappings"],
        "which ids a user has is in /etc/subuid and /etc/subgid",
    ),
    words(
        &["newuidmap"],
        "install the package uidmap, and give the user ranges in /etc/subuid and /etc/subgid",
    ),
    words(
        &["newgidmap"],
        "install the package uidmap, and give the user ranges in /etc/subuid and /etc/subgid",
    ),
    trap(
        Errno::EPERM,
        &["process.rlimits"],
        "a hard limit can only be raised with CAP_SYS_RESOURCE, and RLIMIT_NOFILE not above /proc/sys/fs/nr_open",
    ),
    trap(
        Errno::EPERM,
        &["process.capabilities"],
        "the runtime itself does not have the capability: see CapBnd in /proc/self/status",
    ),
    trap(
        Errno::EINVAL,
        &["linux.sysctl"],
        "the kernel does not take the value: see the files below /proc/sys for the form of it",
    ),
    trap(
        Errno::ENOENT,
        &["linux.sysctl"],
        "this kernel does not have it, or not in this namespace",
    ),
    words(
        &["apparmor", "not"],
        "AppArmor is on where /sys/kernel/security/apparmor is; a profile is loaded by apparmor_parser",
    ),
    words(
        &["SELinux"],
        "leave process.selinuxLabel and linux.mountLabel away on a host without SELinux",
    ),
    // Cgroups.
    trap(
        Errno::EBUSY,
        &["cgroup", "remove"],
        "a process is still in it: see its cgroup.procs",
    ),
    trap(
        Errno::EROFS,
        &["cgroup"],
        "the cgroup file system is read-only here: a container needs its own cgroup namespace with a writable mount",
    ),
    trap(
        Errno::EACCES,
        &["cgroup"],
        "without root the cgroup must be delegated to the user: `systemd-run --user --scope`, or leave linux.resources away",
    ),
    trap(
        Errno::EAGAIN,
        &["clone"],
        "a limit of processes was met: pids.max of the cgroup, RLIMIT_NPROC of the user, kernel.pid_max",
    ),
    trap(
        Errno::EAGAIN,
        &["fork"],
        "a limit of processes was met: pids.max of the cgroup, RLIMIT_NPROC of the user, kernel.pid_max",
    ),
    // Containers.
    words(
        &["already exists"],
        "`rundlet state` shows it, `rundlet delete` removes it when it has stopped, delete --force in any case",
    ),
    words(
        &["container", "does not exist"],
        "`rundlet list` shows what there is below this --root",
    ),
    words(
        &["cannot delete container", "not stopped"],
        "`rundlet kill ID KILL` ends it, `rundlet delete --force` does both",
    ),
    words(
        &["cannot exec in a paused container"],
        "`rundlet resume` lets it go on; exec --ignore-paused waits for that",
    ),
    // Of anything.
    trap(
        Errno::ENOSPC,
        &["/inotify"],
        "fs.inotify.max_user_watches is used up",
    ),
    trap(
        Errno::ENOSPC,
        &[],
        "the file system is full, of bytes or of inodes: see df and df -i",
    ),
    trap(Errno::EDQUOT, &[], "a quota of this user is used up"),
    trap(
        Errno::EMFILE,
        &[],
        "raise the limit of open files: ulimit -n, or LimitNOFILE of the engine's unit",
    ),
    trap(
        Errno::ENFILE,
        &[],
        "the host has no file descriptors left: see /proc/sys/fs/file-nr",
    ),
    trap(
        Errno::ENOMEM,
        &[],
        "no memory left for the kernel's own: see the memory limit of the engine's cgroup and of the container",
    ),
    trap(
        Errno::ENOSYS,
        &[],
        "this kernel is too old for it, or a filter of an outer container forbids the call",
    ),
    trap(
        Errno::EROFS,
        &["--root"],
        "the state needs a place that can be written, a tmpfs is best: see --root",
    ),
];

/// What to do about `message`, if that is known.
pub(super) fn of(message: &str, errno: Option<Errno>) -> Option<&'static str> {
    TRAPS
        .iter()
        .find(|trap| {
            trap.errno.is_none_or(|wanted| Some(wanted) == errno)
                && trap.words.iter().all(|word| message.contains(word))
        })
        .map(|trap| trap.hint)
}
