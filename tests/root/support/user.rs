//! A normal user of the host with subordinate ids, as whom the runtime is called. Its entries in the files of /etc are seen in
//! this test's box only.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::{Bundle, Cx, Output};

pub(crate) const UID: u32 = 1234;
/// The first of the subordinate ids.
pub(crate) const SUB_UID: u32 = 300_000;
pub(crate) const SUB_GID: u32 = 400_000;
const SUB_COUNT: u32 = 65536;
const NONE: Option<&str> = None;

pub(crate) struct User<'a> {
    pub(crate) cx: &'a Cx,
    /// `$XDG_RUNTIME_DIR`.
    pub(crate) run_dir: PathBuf,
    runtime: PathBuf,
    covered: Vec<String>,
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for file in &self.covered {
            let _ = umount2(file.as_str(), MntFlags::MNT_DETACH);
        }
    }
}

impl Cx {
    /// A bundle with a shell script that a user without rights can run.
    pub(crate) fn rootless_script(&self, script: &str) -> Bundle {
        let mut bundle = self.script(script);
        bundle.rootless();
        bundle
    }

    pub(crate) fn user(&self) -> User<'_> {
        if !Path::new("/usr/bin/newuidmap").exists() {
            self.skip("no /usr/bin/newuidmap (package uidmap)");
        }
        // Where the user can reach it.
        let runtime = self.dir.join(self.runtime.file_name().unwrap());
        std::fs::copy(&self.runtime, &runtime).unwrap();
        let run_dir = self.dir.join("run");
        std::fs::create_dir(&run_dir).unwrap();
        std::fs::set_permissions(&run_dir, PermissionsExt::from_mode(0o700)).unwrap();
        chown(&run_dir, Some(UID), Some(UID)).unwrap();
        let mut user = User {
            cx: self,
            run_dir,
            runtime,
            covered: Vec::new(),
        };
        user.cover("passwd", "rootlesstest:x:1234:1234::/:/bin/sh\n");
        user.cover("group", "rootlesstest:x:1234:\n");
        user.cover("subuid", &format!("rootlesstest:{SUB_UID}:{SUB_COUNT}\n"));
        user.cover("subgid", &format!("rootlesstest:{SUB_GID}:{SUB_COUNT}\n"));
        user
    }
}

/// Prints the uid map, and whether setgroups(2) is allowed.
pub(crate) const MAPS: &str = "tr -s ' ' </proc/self/uid_map; cat /proc/self/setgroups";

impl User<'_> {
    /// Adds a line to a file of /etc, in this box.
    fn cover(&mut self, name: &str, line: &str) {
        let file = format!("/etc/{name}");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(line);
        let own = self.cx.file(name, &text);
        mount(Some(&own), file.as_str(), NONE, MsFlags::MS_BIND, NONE).unwrap();
        self.covered.push(file);
    }

    /// Any program as this user, in the environment of a login.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .uid(UID)
            .gid(UID)
            .current_dir("/")
            .env("HOME", "/")
            .env("USER", "rootlesstest")
            .env("XDG_RUNTIME_DIR", &self.run_dir);
        command
    }

    /// The runtime with its default state root, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(&self.runtime);
        command.args(args);
        command
    }

    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Output {
        self.cx.spawn(self.command(args)).wait()
    }

    #[track_caller]
    pub(crate) fn run(&self, bundle: &Bundle) -> Output {
        self.hand_over(bundle);
        self.call(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id])
    }

    #[track_caller]
    pub(crate) fn create(&self, bundle: &Bundle) -> Output {
        self.hand_over(bundle);
        self.call(&[
            "create",
            "--bundle",
            bundle.path.to_str().unwrap(),
            &bundle.id,
        ])
    }

    #[track_caller]
    pub(crate) fn exec_sh(&self, id: &str, script: &str) -> Output {
        self.call(&["exec", id, "sh", "-c", script])
    }

    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.call(&["state", id]).ok().stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn pid(&self, id: &str) -> i64 {
        self.state(id)["pid"].as_i64().unwrap()
    }

    /// SIGKILL, wait, delete.
    #[track_caller]
    pub(crate) fn end(&self, id: &str) {
        self.call(&["kill", id, "KILL"]).ok();
        super::eventually("stopped", 10, || self.state(id)["status"] == "stopped");
        self.call(&["delete", id]).ok();
        self.left_nothing();
    }

    /// The state root exists and holds nothing.
    #[track_caller]
    pub(crate) fn left_nothing(&self) {
        let root = self.state_root();
        let left: Vec<_> = std::fs::read_dir(&root)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{left:?} in {}", root.display());
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.run_dir.join(self.cx.runtime.file_name().unwrap())
    }

    /// Writes the config and gives the bundle to the user.
    #[allow(clippy::unused_self)] // reads as what it is: to this user
    pub(crate) fn hand_over(&self, bundle: &Bundle) {
        bundle.write();
        for path in [&bundle.path, &bundle.rootfs()] {
            chown(path, Some(UID), Some(UID)).unwrap();
        }
        for entry in std::fs::read_dir(bundle.rootfs()).unwrap() {
            chown(entry.unwrap().path(), Some(UID), Some(UID)).unwrap();
        }
    }

    /// A command as root of a user namespace that maps this user and its subordinate ids, with mounts of its own: as Podman and
    /// Docker without root call a runtime. `call` starts when the maps are written.
    #[track_caller]
    pub(crate) fn as_namespace_root(&self, args: &[&str]) -> Output {
        let mut command = self.program("unshare");
        command.args(["--user", "--mount", "sh", "-c"]);
        command.arg("until grep -q . /proc/self/uid_map; do :; done; exec \"$@\"");
        command.arg("sh").arg(&self.runtime).args(args);
        let running = self.cx.spawn(command);
        let proc = PathBuf::from(format!("/proc/{}", running.child.id()));
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        super::eventually("a user namespace", 10, || {
            std::fs::read_link(proc.join("ns/user")).is_ok_and(|namespace| namespace != own)
        });
        let map = |first: u32| format!("0 {UID} 1\n1 {first} {SUB_COUNT}\n");
        std::fs::write(proc.join("gid_map"), map(SUB_GID)).unwrap();
        std::fs::write(proc.join("uid_map"), map(SUB_UID)).unwrap();
        running.wait()
    }
}

impl Bundle {
    /// What `spec --rootless` changes: the user's own id alone, no cgroup, /sys from the host.
    pub(crate) fn rootless(&mut self) {
        self.push("/linux/namespaces", json!({"type": "user"}));
        self.without_namespace("network");
        self.map_ids(&json!([]), &json!([]));
        self.config["linux"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "cgroupsPath" && key != "resources");
        self.without_mount("/sys");
        self.without_mount("/sys/fs/cgroup");
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        self.mount("/sys", "none", "/sys", &options);
        self.mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        );
        super::bundle::arr(&mut self.config["linux"]["maskedPaths"])
            .retain(|path| path != "/sys/firmware");
    }

    /// The subordinate ids as 1 and up.
    pub(crate) fn sub_ids(&mut self) {
        let line = |host: u32| json!([{"containerID": 1, "hostID": host, "size": SUB_COUNT}]);
        self.map_ids(&line(SUB_UID), &line(SUB_GID));
    }

    /// The user's own id as 0, and what else.
    fn map_ids(&mut self, uids: &Value, gids: &Value) {
        for (field, more) in [("uidMappings", uids), ("gidMappings", gids)] {
            let mut lines = vec![json!({"containerID": 0, "hostID": UID, "size": 1})];
            lines.extend(more.as_array().unwrap().iter().cloned());
            self.set(&format!("/linux/{field}"), json!(lines));
        }
    }
}
