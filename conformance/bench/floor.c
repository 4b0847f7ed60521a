/*
 * floor: the least that the kernel must do for the container of `runc spec` (its 17 mounts, nodes, masks, device program,
 * capabilities), and nothing around it: no JSON, no check of a path, no protection of itself. A yardstick, not a runtime.
 * Without a libc, so that not even its start costs anything. bench.py builds it:
 *
 *   cc -O2 -static -nostdlib -ffreestanding -fno-stack-protector -o floor floor.c
 *
 *   floor run|create [--userns] [--seccomp=FILE] [--binds=N --source=DIR] STATE ROOTFS ID PROGRAM [ARG]
 *   floor exec [--seccomp=FILE] STATE ID PROGRAM [ARG]     floor start|state|delete STATE ID
 *   floor kill STATE ID SIGNAL      floor list STATE       floor version
 *   floor rss FILE PROGRAM [ARG...]   runs it; the KiB of its peak of memory to FILE
 */
#include <asm/unistd.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

typedef unsigned long word;

#if defined __x86_64__
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return ret;
}
__asm__(".globl _start\n_start: xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call begin\n");
#elif defined __aarch64__
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x29,#0\n mov x0,sp\n bl begin\n");
#endif
#define SIX(n, a, b, c, d, e, f, ...) sys6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define TRY(...) SIX(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL(name, ...) must(TRY(name, __VA_ARGS__), #name)

#define AT_FD AT_FDCWD
#define EMPTY 0x1000 /* AT_EMPTY_PATH */
#define SXD (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV)
#define PATH_DIR (O_PATH | O_DIRECTORY | O_CLOEXEC)

void *memset(void *to, int byte, word n)
{
    for (char *p = to; n--;)
        *p++ = byte;
    return to;
}
void *memcpy(void *to, const void *from, word n)
{
    char *p = to;
    for (const char *q = from; n--;)
        *p++ = *q++;
    return to;
}
static word length(const char *s)
{
    word n = 0;
    while (s[n])
        n++;
    return n;
}
static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}
static char *append(char *to, const char *s)
{
    while ((*to = *s++))
        to++;
    return to;
}
static char *number(char *to, word n)
{
    char digits[24], *p = digits + 23;
    *p = 0;
    do
        *--p = '0' + n % 10;
    while (n /= 10);
    return append(to, p);
}
static word value(const char *s)
{
    word n = 0;
    while (*s >= '0' && *s <= '9')
        n = n * 10 + *s++ - '0';
    return n;
}
static void leave(int code)
{
    TRY(exit_group, code);
}
static long must(long ret, const char *what)
{
    if (ret < 0 && ret > -4096) {
        char text[128], *p = number(append(append(append(text, "floor: "), what), ": errno "), -ret);
        *p++ = '\n';
        TRY(write, 2, text, p - text);
        leave(125);
    }
    return ret;
}

static struct {
    int userns;
    const char *seccomp, *source;
    word binds;
} o;
static char state_dir[512], cgroup[512];
static const char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", 0 };
static struct sock_filter filter[8192];
static struct sock_fprog program;

static void put(const char *path, const char *text)
{
    int fd = CALL(openat, AT_FD, path, O_WRONLY | O_CLOEXEC);
    CALL(write, fd, text, length(text));
    TRY(close, fd);
}

/* ---- state: a directory with a file, written beside and renamed ----------------------------------------------------- */
static char *in(char *buffer, const char *name)
{
    append(append(append(buffer, state_dir), "/"), name);
    return buffer;
}
static void names(const char *root, const char *id)
{
    append(append(append(state_dir, root), "/"), id);
    append(append(cgroup, "/sys/fs/cgroup/"), id);
}
static void write_state(word pid)
{
    char text[1024], a[600], b[600], *p = append(text, "{\"ociVersion\":\"1.2.0\",\"pid\":");
    p = append(number(p, pid), ",\"status\":\"running\",\"bundle\":\"/somewhere\",\"created\":\"2026-01-01T00:00:00Z\"}\n");
    int fd = CALL(openat, AT_FD, in(a, "new"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CALL(write, fd, text, p - text);
    TRY(close, fd);
    CALL(renameat2, AT_FD, a, AT_FD, in(b, "state.json"), 0);
}
static word read_state(void)
{
    char text[1024], path[600];
    int fd = CALL(openat, AT_FD, in(path, "state.json"), O_RDONLY | O_CLOEXEC);
    CALL(read, fd, text, sizeof text);
    TRY(close, fd);
    return value(text + sizeof "{\"ociVersion\":\"1.2.0\",\"pid\":" - 1);
}
static int lives(word pid)
{
    char path[64], text[1024];
    append(number(append(path, "/proc/"), pid), "/stat");
    int fd = TRY(openat, AT_FD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    TRY(read, fd, text, sizeof text);
    TRY(close, fd);
    return 1;
}
static void remove_all(void)
{
    char path[600];
    while (TRY(unlinkat, AT_FD, cgroup, AT_REMOVEDIR) == -16 /* EBUSY */)
        TRY(sched_yield, 0);
    TRY(unlinkat, AT_FD, in(path, "state.json"), 0);
    TRY(unlinkat, AT_FD, state_dir, AT_REMOVEDIR);
}

/* ---- mounts --------------------------------------------------------------------------------------------------------- */
static int fs(const char *type, unsigned attr, const char *const *options)
{
    int context = CALL(fsopen, type, FSOPEN_CLOEXEC), mount;
    for (; *options; options += 2)
        CALL(fsconfig, context, options[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[0], options[1]);
    CALL(fsconfig, context, FSCONFIG_CMD_CREATE);
    mount = CALL(fsmount, context, FSMOUNT_CLOEXEC, attr);
    TRY(close, context);
    return mount;
}
#define FS(type, attr, ...) fs(type, attr, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) 0, 0 })
static void attach(int mount, int at, const char *path)
{
    CALL(move_mount, mount, "", at, path, MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH));
    TRY(close, mount);
}
static void attributes(int fd, const char *path, unsigned flags, word set, word propagation)
{
    struct mount_attr attr = { .attr_set = set, .propagation = propagation };
    CALL(mount_setattr, fd, path, flags, &attr, sizeof attr);
}
static int tree(int fd, const char *path, unsigned flags)
{
    return TRY(open_tree, fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static void nodes(int dev)
{
    static const struct { const char *name; int major, minor; } nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
        { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
    static const char *const links[] = { "/proc/self/fd", "fd", "/proc/self/fd/0", "stdin", "/proc/self/fd/1", "stdout",
        "/proc/self/fd/2", "stderr", "/proc/kcore", "core", "pts/ptmx", "ptmx" };
    for (int i = 0; i < 6; i++)
        if (o.userns) { /* no mknod there: the host's is bound */
            char host[32];
            append(append(host, "/dev/"), nodes[i].name);
            int bound = must(tree(AT_FD, host, 0), host);
            TRY(close, CALL(openat, dev, nodes[i].name, O_CREAT | O_CLOEXEC, 0644));
            attach(bound, dev, nodes[i].name);
        } else
            CALL(mknodat, dev, nodes[i].name, 0020666, nodes[i].major << 8 | nodes[i].minor);
    for (int i = 0; i < 12; i += 2)
        CALL(symlinkat, links[i], dev, links[i + 1]);
}
static void masks(int root)
{
    static const char *const masked[] = { "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
        "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi", 0 };
    static const char *const read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", 0 };
    int null = -1, empty = -1;
    for (const char *const *path = masked; *path; path++) {
        int target = TRY(openat, root, *path, O_PATH | O_CLOEXEC);
        if (target < 0)
            continue;
        if (TRY(faccessat, target, ".", 0) != -20 /* ENOTDIR: a file */) {
            if (empty < 0)
                empty = FS("tmpfs", MOUNT_ATTR_RDONLY, "nr_blocks", "1", "nr_inodes", "1");
            attach(must(tree(empty, "", EMPTY), "mask"), target, "");
        } else {
            if (null < 0)
                null = CALL(openat, root, "dev/null", O_PATH | O_CLOEXEC);
            attach(must(tree(null, "", EMPTY), "mask"), target, "");
        }
        TRY(close, target);
    }
    for (const char *const *path = read_only; *path; path++) {
        int bound = tree(root, *path, AT_RECURSIVE);
        if (bound < 0)
            continue;
        attributes(bound, "", EMPTY | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0);
        attach(bound, root, *path);
    }
}

/* ---- the child ------------------------------------------------------------------------------------------------------ */
static void rights_and_exec(const char *const *argv)
{
    word keep = 1ul << CAP_AUDIT_WRITE | 1ul << CAP_KILL | 1ul << CAP_NET_BIND_SERVICE;
    word limit[2] = { 1024, 1024 };
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { keep, keep, 0 }, { 0, 0, 0 } };
    TRY(setsid, 0);
    TRY(keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor");
    TRY(prlimit64, 0, 7 /* RLIMIT_NOFILE */, limit);
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (!(keep >> cap & 1))
            TRY(prctl, PR_CAPBSET_DROP, cap);
    CALL(capset, &header, sets);
    TRY(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
    TRY(prctl, PR_SET_NO_NEW_PRIVS, 1);
    if (o.seccomp)
        CALL(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    TRY(close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    CALL(execve, argv[0], argv, env);
}
static void wait_for(int event)
{
    word one;
    CALL(read, event, &one, 8);
}
static void tell(int event)
{
    word one = 1;
    CALL(write, event, &one, 8);
}
/* The network namespace is made by the parent, which takes as long as most of the mounts; in a user namespace by the clone. */
static int network = -1, maker = -1;
static void loopback(void)
{
    struct { char name[16]; short flags; char rest[22]; } lo = { "lo", 1 | 64 /* IFF_UP | IFF_RUNNING */, "" };
    int socket = CALL(socket, 2, 2 | O_CLOEXEC, 0);
    CALL(ioctl, socket, 0x8914 /* SIOCSIFFLAGS */, &lo);
    TRY(close, socket);
}
static void child(const char *rootfs, const char *const *argv, int go, int ready, int gate)
{
    if (o.userns) {
        wait_for(go);
        CALL(setresgid, 0, 0, 0);
        CALL(setresuid, 0, 0, 0);
    }
    TRY(umask, 0);
    attributes(AT_FD, "/", AT_RECURSIVE, 0, 1 << 18 /* MS_PRIVATE */);
    int root = must(tree(AT_FD, rootfs, AT_RECURSIVE), "rootfs"), dev;
    CALL(move_mount, root, "", AT_FD, rootfs, MOVE_MOUNT_F_EMPTY_PATH);
    CALL(fchdir, root);
    attach(FS("proc", 0), root, "proc");
    dev = FS("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, "mode", "755", "size", "65536k");
    CALL(move_mount, dev, "", root, "dev", MOVE_MOUNT_F_EMPTY_PATH);
    CALL(mkdirat, dev, "pts", 0755);
    CALL(mkdirat, dev, "shm", 0755);
    CALL(mkdirat, dev, "mqueue", 0755);
    attach(o.userns ? FS("devpts", SXD & ~MOUNT_ATTR_NODEV, "newinstance", 0, "ptmxmode", "0666", "mode", "0620")
                    : FS("devpts", SXD & ~MOUNT_ATTR_NODEV, "newinstance", 0, "ptmxmode", "0666", "mode", "0620", "gid", "5"), dev, "pts");
    attach(FS("tmpfs", SXD, "mode", "1777", "size", "65536k"), dev, "shm");
    attach(FS("mqueue", SXD), dev, "mqueue");
    if (!o.userns) {
        wait_for(network);
        CALL(setns, maker, CLONE_NEWNET);
    }
    attach(FS("sysfs", SXD | MOUNT_ATTR_RDONLY), root, "sys");
    attach(FS("cgroup2", SXD | MOUNT_ATTR_RDONLY), root, "sys/fs/cgroup");
    for (word i = 0; i < o.binds; i++) {
        char at[32];
        number(append(at, "mnt/"), i);
        attach(must(tree(AT_FD, o.source, 0), "bind"), root, at);
    }
    nodes(dev);
    CALL(pivot_root, ".", ".");
    CALL(umount2, ".", 2 /* MNT_DETACH */);
    CALL(chdir, "/");
    masks(root);
    attributes(root, "", EMPTY, MOUNT_ATTR_RDONLY, 0);
    CALL(sethostname, "bench", 5);
    if (o.userns)
        loopback();
    TRY(umask, 022);
    if (!o.userns)
        wait_for(go); /* the parent has loaded the device program meanwhile */
    if (ready >= 0) {
        tell(ready);
        char path[32], byte;
        number(append(path, "/proc/self/fd/"), gate);
        /* O_PATH from outside of the container, opened for reading through /proc: waits for `start` */
        int fifo = CALL(openat, AT_FD, path, O_RDONLY | O_CLOEXEC);
        CALL(read, fifo, &byte, 1);
    }
    rights_and_exec(argv);
}

/* ---- the parent ----------------------------------------------------------------------------------------------------- */
#define INSN(c, d, s, of, im) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (of), .imm = (im) })
/* Deny all but making nodes and the default devices. */
static void device_program(int directory)
{
    static const struct { int major, minor; } allowed[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 2 },
        { 136, -1 }, { 10, 200 } };
    struct bpf_insn p[96];
    union bpf_attr load = { 0 }, link = { 0 };
    int n = 0;
    p[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
    p[n++] = INSN(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
    p[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, 3, 1, 0, 0);
    p[n++] = INSN(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
    p[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
    p[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
    p[n++] = INSN(BPF_JMP32 | BPF_JNE | BPF_K, 3, 0, 2, 1);
    p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
    p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    p[n++] = INSN(BPF_JMP32 | BPF_JEQ | BPF_K, 2, 0, 2, 2);
    p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        p[n++] = INSN(BPF_JMP32 | BPF_JNE | BPF_K, 4, 0, allowed[i].minor < 0 ? 2 : 3, allowed[i].major);
        if (allowed[i].minor >= 0)
            p[n++] = INSN(BPF_JMP32 | BPF_JNE | BPF_K, 5, 0, 2, allowed[i].minor);
        p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
        p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (word)p;
    load.insn_cnt = n;
    load.license = (word) "GPL";
    int fd = CALL(bpf, BPF_PROG_LOAD, &load, sizeof load);
    link.target_fd = directory;
    link.attach_bpf_fd = fd;
    link.attach_type = BPF_CGROUP_DEVICE;
    link.attach_flags = BPF_F_ALLOW_MULTI;
    CALL(bpf, BPF_PROG_ATTACH, &link, sizeof link);
    TRY(close, fd);
}

static int launch(const char *rootfs, const char *const *argv, int create)
{
    char path[600];
    int go = CALL(eventfd2, 0, O_CLOEXEC), ready = -1, gate = -1, pidfd = -1;
    CALL(mkdirat, AT_FD, state_dir, 0700);
    if (create) {
        ready = CALL(eventfd2, 0, O_CLOEXEC);
        CALL(mknodat, AT_FD, in(path, "gate"), 0010622, 0);
        gate = CALL(openat, AT_FD, path, O_PATH | O_CLOEXEC);
    }
    CALL(mkdirat, AT_FD, cgroup, 0755);
    int directory = CALL(openat, AT_FD, cgroup, PATH_DIR);
    if (!o.userns) {
        network = CALL(eventfd2, 0, O_CLOEXEC);
        maker = CALL(pidfd_open, CALL(getpid, 0), 0);
    }
    struct clone_args clone = { .flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
            | CLONE_NEWCGROUP | (o.userns ? CLONE_NEWUSER | CLONE_NEWNET : 0),
        .pidfd = (word)&pidfd, .exit_signal = 17 /* SIGCHLD */, .cgroup = directory };
    long pid = CALL(clone3, &clone, sizeof clone);
    if (!pid)
        child(rootfs, argv, go, ready, gate);
    if (o.userns) {
        append(number(append(path, "/proc/"), pid), "/uid_map");
        put(path, "0 100000 65536");
        append(number(append(path, "/proc/"), pid), "/gid_map");
        put(path, "0 100000 65536");
    } else {
        CALL(unshare, CLONE_NEWNET);
        tell(network);
        loopback();
    }
    device_program(directory);
    tell(go);
    write_state(pid);
    if (create)
        wait_for(ready);
    return pidfd;
}
static int wait_end(int pidfd)
{
    int info[32];
    CALL(waitid, 3 /* P_PIDFD */, pidfd, info, 4 /* WEXITED */);
    return info[2] == 1 /* CLD_EXITED */ ? info[6] : 128 + info[6];
}
static int exec_in(word pid, const char *const *argv)
{
    int target = CALL(pidfd_open, pid, 0), directory = CALL(openat, AT_FD, cgroup, PATH_DIR), pidfd = -1;
    CALL(setns, target, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
    struct clone_args clone = { .flags = CLONE_PIDFD | CLONE_INTO_CGROUP, .pidfd = (word)&pidfd, .exit_signal = 17, .cgroup = directory };
    if (!CALL(clone3, &clone, sizeof clone))
        rights_and_exec(argv);
    return wait_end(pidfd);
}
static int rss(const char *file, const char *const *argv, const char *const *environment)
{
    long usage[18];
    char text[32];
    struct clone_args clone = { .exit_signal = 17 };
    long pid = CALL(clone3, &clone, sizeof clone);
    int status;
    if (!pid)
        CALL(execve, argv[0], argv, environment);
    CALL(wait4, pid, &status, 0, usage);
    int fd = CALL(openat, AT_FD, file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CALL(write, fd, text, number(text, usage[4]) - text);
    return status >> 8 & 255;
}
static void say(word pid, const char *id)
{
    char text[1024], *p = append(append(append(text, "{\"id\":\""), id), "\",\"pid\":");
    p = append(append(append(number(p, pid), ",\"status\":\""), lives(pid) ? "running" : "stopped"), "\"}\n");
    CALL(write, 1, text, p - text);
}
static void list(const char *root)
{
    static char entries[32768];
    int fd = CALL(openat, AT_FD, root, O_DIRECTORY | O_CLOEXEC);
    for (long n; (n = CALL(getdents64, fd, entries, sizeof entries)) > 0;)
        for (long at = 0; at < n; at += *(unsigned short *)(entries + at + 16))
            if (entries[at + 19] != '.') {
                names(root, entries + at + 19);
                say(read_state(), entries + at + 19);
            }
}

void begin(word *stack)
{
    const char *const *argv = (const char *const *)stack + 1;
    const char *const *environment = argv + stack[0] + 1;
    const char *verb = stack[0] > 1 ? argv[1] : "version";
    int code = 0;
    if (same(verb, "version"))
        leave(0);
    if (same(verb, "rss"))
        leave(rss(argv[2], argv + 3, environment));
    for (argv += 2; *argv && argv[0][0] == '-'; argv++) {
        if (same(*argv, "--userns"))
            o.userns = 1;
        else if (argv[0][4] == 'c')
            o.seccomp = *argv + sizeof "--seccomp=" - 1;
        else if (argv[0][2] == 'b')
            o.binds = value(*argv + sizeof "--binds=" - 1);
        else
            o.source = *argv + sizeof "--source=" - 1;
    }
    if (o.seccomp) {
        int fd = CALL(openat, AT_FD, o.seccomp, O_RDONLY | O_CLOEXEC);
        program.len = CALL(read, fd, filter, sizeof filter) / sizeof *filter;
        program.filter = filter;
        TRY(close, fd);
    }
    if (same(verb, "list")) {
        list(argv[0]);
        leave(0);
    }
    if (same(verb, "run") || same(verb, "create")) {
        int create = same(verb, "create");
        names(argv[0], argv[2]);
        int pidfd = launch(argv[1], argv + 3, create);
        if (!create) {
            code = wait_end(pidfd);
            remove_all();
        }
        leave(code);
    }
    names(argv[0], argv[1]);
    word pid = read_state();
    if (same(verb, "exec"))
        code = exec_in(pid, argv + 2);
    else if (same(verb, "start")) {
        char path[600];
        int gate = CALL(openat, AT_FD, in(path, "gate"), O_WRONLY | O_CLOEXEC);
        CALL(write, gate, "0", 1);
        TRY(unlinkat, AT_FD, path, 0);
    } else if (same(verb, "state"))
        say(pid, argv[1]);
    else if (same(verb, "kill")) {
        int pidfd = CALL(pidfd_open, pid, 0);
        CALL(pidfd_send_signal, pidfd, value(argv[2]), 0, 0);
    } else if (same(verb, "delete")) {
        lives(pid);
        remove_all();
    }
    leave(code);
}
