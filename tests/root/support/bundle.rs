//! A bundle: a rootfs of busybox-static and a config.json that the test edits as JSON.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CGROUP_PARENT, Cx};

const APPLETS: &[&str] = &[
    "sh",
    "ls",
    "cat",
    "id",
    "mount",
    "umount",
    "sleep",
    "echo",
    "env",
    "pwd",
    "stat",
    "touch",
    "mkdir",
    "rm",
    "rmdir",
    "ln",
    "mknod",
    "dd",
    "hostname",
    "ps",
    "kill",
    "readlink",
    "grep",
    "tr",
    "sort",
    "wc",
    "head",
    "tail",
    "stty",
    "tty",
    "chmod",
    "chown",
    "mktemp",
    "test",
    "true",
    "false",
    "ip",
    "ping",
    "nc",
    "seq",
    "cut",
    "find",
    "sync",
    "date",
    "nproc",
    "unshare",
    "uname",
    "od",
    "xargs",
    "printenv",
    "sed",
    "awk",
    "ipcs",
    "chroot",
    "yes",
    "usleep",
    "printf",
    "cp",
    "mv",
    "df",
    "ulimit",
    "setsid",
    "timeout",
    "truncate",
    "dnsdomainname",
    "sysctl",
    "setpriv",
    "nsenter",
];

/// Docker's default capabilities.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) config: Value,
    /// The id that the runtime helpers use; also the last part of the cgroup's path.
    pub(crate) id: String,
}

impl Cx {
    /// A bundle with a rootfs of its own; the container's id ends in "c".
    pub(crate) fn bundle(&self) -> Bundle {
        self.named_bundle("c")
    }

    /// The same for tests with several containers.
    pub(crate) fn named_bundle(&self, name: &str) -> Bundle {
        let path = self.dir.join(format!("bundle-{name}"));
        let rootfs = path.join("rootfs");
        make_rootfs(&self.dir, &rootfs);
        let id = self.id(name);
        Bundle {
            path,
            config: template(&id),
            id,
        }
    }

    /// A bundle whose program is a shell script.
    pub(crate) fn script(&self, script: &str) -> Bundle {
        let mut bundle = self.bundle();
        bundle.sh(script);
        bundle
    }
}

impl Bundle {
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub(crate) fn sh(&mut self, script: &str) {
        self.args(&["sh", "-c", script]);
    }

    pub(crate) fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    /// Sets the value at a JSON pointer (`/linux/sysctl`), making objects on the way.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = match key.parse::<usize>() {
                Ok(index) if at.is_array() => &mut at[index],
                _ => &mut at[key],
            };
        }
        *at = value;
    }

    /// Appends to the array at a JSON pointer.
    pub(crate) fn push(&mut self, pointer: &str, value: Value) {
        if self.config.pointer(pointer).is_none() {
            self.set(pointer, json!([]));
        }
        arr(self.config.pointer_mut(pointer).unwrap()).push(value);
    }

    pub(crate) fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        );
    }

    pub(crate) fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) {
        let mut all = vec!["bind"];
        all.extend(options);
        self.mount(destination, "bind", source.to_str().unwrap(), &all);
    }

    /// Takes a namespace of the template away.
    pub(crate) fn without_namespace(&mut self, kind: &str) {
        arr(&mut self.config["linux"]["namespaces"]).retain(|ns| ns["type"] != kind);
    }

    pub(crate) fn without_mount(&mut self, destination: &str) {
        arr(&mut self.config["mounts"]).retain(|mount| mount["destination"] != destination);
    }

    /// Puts the container into a new user namespace: container 0.. is host 100000...
    pub(crate) fn user_namespace(&mut self) {
        self.push("/linux/namespaces", json!({"type": "user"}));
        self.set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]),
        );
        self.set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]),
        );
    }

    /// All five capability sets at once.
    pub(crate) fn capabilities(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            self.config["process"]["capabilities"][set] = json!(names);
        }
    }

    pub(crate) fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).unwrap();
        std::fs::write(self.path.join("config.json"), text).unwrap();
    }
}

pub(crate) fn arr(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("an array")
}

/// The busybox is one file per test, linked into each rootfs.
fn make_rootfs(dir: &Path, rootfs: &Path) {
    for name in ["bin", "etc", "tmp", "proc", "dev", "sys", "mnt", "root"] {
        std::fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    let busybox = dir.join("busybox");
    if !busybox.exists() {
        std::fs::copy("/bin/busybox", &busybox).expect("busybox-static is installed");
    }
    std::fs::hard_link(&busybox, rootfs.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    std::fs::set_permissions(rootfs.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n",
    )
    .unwrap();
}

/// What `spec` writes, less the terminal, with Docker's capabilities and a writable root.
fn template(id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{CGROUP_PARENT}/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
