//! The systemd driver of a user without root's rights: a unit of the user's own systemd, asked for by the session bus. Needs a
//! user who has one (`loginctl enable-linger`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::systemd::bundle as of_root;
use crate::support::{Bundle, Cx, Output, eventually, tests};

tests! {
    systemd a_users_unit_has_the_limits;
    systemd a_users_container_is_used_as_any_other;
    systemd a_failed_creation_leaves_the_user_no_unit;
    systemd a_user_delegates_a_part = "an extension of rundlet";
    systemd no_session_bus = "runc says so in other words";
}

struct User<'a> {
    cx: &'a Cx,
    uid: u32,
    runtime: PathBuf,
    state: PathBuf,
}

impl<'a> User<'a> {
    fn new(cx: &'a Cx) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let uid = passwd
            .lines()
            .filter_map(|line| line.split(':').nth(2)?.parse().ok())
            .find(|uid| *uid >= 1000 && bus(*uid).exists());
        let Some(uid) = uid else {
            cx.skip("no user has a systemd of its own");
        };
        let runtime = cx.dir.join(cx.runtime.file_name().unwrap());
        fs::copy(&cx.runtime, &runtime).unwrap();
        let state = cx.dir.join("users-state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
        chown(&state, Some(uid), Some(uid)).unwrap();
        Self {
            cx,
            uid,
            runtime,
            state,
        }
    }

    fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .uid(self.uid)
            .gid(self.uid)
            .current_dir("/")
            .env("HOME", "/")
            .env("XDG_RUNTIME_DIR", bus(self.uid).parent().unwrap())
            .env_remove("DBUS_SESSION_BUS_ADDRESS");
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(&self.runtime);
        command.arg("--root").arg(&self.state);
        command.arg("--systemd-cgroup").args(args);
        command
    }

    #[track_caller]
    fn call(&self, args: &[&str]) -> Output {
        self.cx.spawn(self.command(args)).wait()
    }

    fn bundle(&self) -> Bundle {
        let mut bundle = of_root(self.cx);
        let resources = bundle.config["linux"]["resources"].take();
        bundle.rootless();
        bundle.set("/linux/resources", resources);
        bundle.set(
            "/linux/cgroupsPath",
            json!(format!("user.slice:rt:{}", bundle.id)),
        );
        for field in ["uidMappings", "gidMappings"] {
            bundle.set(
                &format!("/linux/{field}"),
                json!([{"containerID": 0, "hostID": self.uid, "size": 1}]),
            );
        }
        bundle
    }

    #[track_caller]
    fn start(&self, bundle: &Bundle) {
        self.hand_over(bundle);
        let path = bundle.path.to_str().unwrap();
        self.call(&["create", "--bundle", path, &bundle.id]).ok();
        self.call(&["start", &bundle.id]).ok();
    }

    fn hand_over(&self, bundle: &Bundle) {
        bundle.write();
        for path in [&bundle.path, &bundle.rootfs()] {
            chown(path, Some(self.uid), Some(self.uid)).unwrap();
        }
        for entry in fs::read_dir(bundle.rootfs()).unwrap() {
            chown(entry.unwrap().path(), Some(self.uid), Some(self.uid)).unwrap();
        }
    }

    fn property(&self, bundle: &Bundle, name: &str) -> String {
        let mut command = self.program("systemctl");
        command.args(["--user", "show", "--value", "-p", name, &unit(bundle)]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn group(&self, bundle: &Bundle) -> PathBuf {
        let uid = self.uid;
        Path::new("/sys/fs/cgroup/user.slice")
            .join(format!("user-{uid}.slice/user@{uid}.service/user.slice"))
            .join(unit(bundle))
    }

    fn value(&self, bundle: &Bundle, file: &str) -> String {
        let path = self.group(bundle).join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }

    fn pid(&self, bundle: &Bundle) -> i64 {
        let state = self.call(&["state", &bundle.id]).ok();
        let state: Value = serde_json::from_str(&state.stdout).unwrap();
        state["pid"].as_i64().unwrap()
    }

    #[track_caller]
    fn end(&self, bundle: &Bundle) {
        self.call(&["delete", "--force", &bundle.id]).ok();
        self.left_nothing(bundle);
    }

    #[track_caller]
    fn left_nothing(&self, bundle: &Bundle) {
        assert!(!self.group(bundle).exists());
        eventually("the unit is gone", 10, || {
            self.property(bundle, "LoadState") == "not-found"
        });
        assert_eq!(fs::read_dir(&self.state).unwrap().count(), 0);
    }
}

fn bus(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}/bus"))
}

fn unit(bundle: &Bundle) -> String {
    format!("rt-{}.scope", bundle.id)
}

fn limited(user: &User<'_>) -> Bundle {
    let mut bundle = user.bundle();
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20}));
    bundle.set("/linux/resources/pids", json!({"limit": 33}));
    bundle.set(
        "/linux/resources/cpu",
        json!({"quota": 20_000, "period": 100_000}),
    );
    bundle
}

fn a_users_unit_has_the_limits(cx: &Cx) {
    let user = User::new(cx);
    let mut bundle = limited(&user);
    // The path that is made up of nothing: below the user's own slice.
    bundle.set("/linux/cgroupsPath", json!(format!(":rt:{}", bundle.id)));
    user.start(&bundle);
    for (name, expected) in [
        ("Slice", "user.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "200ms"),
    ] {
        assert_eq!(user.property(&bundle, name), expected, "{name}");
    }
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("pids.max", "33"),
        ("cpu.max", "20000 100000"),
        ("cgroup.procs", &user.pid(&bundle).to_string()),
    ] {
        assert_eq!(user.value(&bundle, file), expected, "{file}");
    }
    user.call(&[
        "update",
        "--memory",
        "128M",
        "--pids-limit",
        "44",
        &bundle.id,
    ])
    .ok();
    assert_eq!(user.value(&bundle, "memory.max"), "134217728");
    assert_eq!(user.value(&bundle, "pids.max"), "44");
    assert_eq!(user.property(&bundle, "MemoryMax"), "134217728");
    user.end(&bundle);
}

fn a_users_container_is_used_as_any_other(cx: &Cx) {
    let user = User::new(cx);
    let bundle = limited(&user);
    user.start(&bundle);
    let id = &bundle.id;
    user.call(&["exec", id, "sh", "-c", "grep ^0:: /proc/self/cgroup"])
        .ok()
        .prints("0::/");
    user.call(&["exec", "--detach", id, "sleep", "1000"]).ok();
    assert_eq!(user.value(&bundle, "cgroup.procs").lines().count(), 2);
    let listed = user.call(&["ps", "--format", "json", id]).ok();
    listed.has(&user.pid(&bundle).to_string());
    user.call(&["pause", id]).ok();
    assert_eq!(user.value(&bundle, "cgroup.freeze"), "1");
    user.call(&["resume", id]).ok();
    let stats = user.call(&["events", "--stats", id]).ok();
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 33);
    user.call(&["kill", id, "KILL"]).ok();
    user.end(&bundle);
}

fn a_failed_creation_leaves_the_user_no_unit(cx: &Cx) {
    let user = User::new(cx);
    let mut bundle = limited(&user);
    bundle.args(&["/no/such/program"]);
    user.hand_over(&bundle);
    let path = bundle.path.to_str().unwrap();
    let output = user.call(&["create", "--bundle", path, &bundle.id]);
    assert_ne!(output.code, 0, "{output}");
    user.left_nothing(&bundle);
}

fn a_user_delegates_a_part(cx: &Cx) {
    let user = User::new(cx);
    let mut bundle = limited(&user);
    bundle.config["annotations"]["org.rundlet.cgroup.delegate"] = json!("true");
    bundle.without_mount("/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    user.start(&bundle);
    let leaf = user.value(&bundle, "delegated/init.scope/cgroup.procs");
    assert_eq!(leaf, user.pid(&bundle).to_string());
    user.call(&[
        "exec",
        &bundle.id,
        "sh",
        "-c",
        "grep ^0:: /proc/self/cgroup; cd /sys/fs/cgroup && mkdir app && echo +pids >app/cgroup.subtree_control && \
         echo $$ >init.scope/cgroup.procs && cat pids.max",
    ])
    .ok()
    .prints("0::/init.scope\n33");
    user.end(&bundle);
}

fn no_session_bus(cx: &Cx) {
    let user = User::new(cx);
    let bundle = limited(&user);
    user.hand_over(&bundle);
    let path = bundle.path.to_str().unwrap();
    let mut command = user.command(&["create", "--bundle", path, &bundle.id]);
    command.env("XDG_RUNTIME_DIR", &cx.dir);
    let output = cx.spawn(command).wait().is(1);
    output.says("no way to the user's systemd (is there a session? see loginctl enable-linger)");
    user.left_nothing(&bundle);
}
