//! Labels of AppArmor and SELinux: of the process, of `exec`, of mounts, of the session keyring (L1).
//!
//! AppArmor's are looked at where the kernel has it. No machine of ours has SELinux: there strace(1) makes the runtime believe
//! in it, and shows what the kernel was asked.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Bundle, Cx, tests};

tests! {
    host apparmor_of_the_process_and_exec;
    host apparmor_with_no_new_privileges;
    host an_unknown_profile_is_refused_by_name;
    host selinux_labels_of_process_and_keyring = "runc 1.1.5 asks another file whether SELinux is on";
    host selinux_labels_of_mounts = "runc 1.1.5 asks another file whether SELinux is on";
    host selinux_labels_of_exec = "runc 1.1.5 asks another file whether SELinux is on";
    host without_the_module_it_is_refused;
}

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// A profile that forbids one file; taken out of the kernel again when dropped.
struct Profile {
    name: String,
    file: String,
}

impl Profile {
    fn load(cx: &Cx, forbidden: &str) -> Profile {
        let name = format!("{}-{}", cx.token, forbidden.replace('/', "-"));
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  \
             mount,\n  signal,\n  ptrace,\n  unix,\n  deny {forbidden} w,\n}}\n"
        );
        let file = cx.file(&name, &text).to_str().unwrap().to_owned();
        cx.host(&format!("apparmor_parser --skip-cache --replace {file}"))
            .ok();
        Profile { name, file }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = Command::new("apparmor_parser")
            .args(["--skip-cache", "--remove", &self.file])
            .output();
    }
}

fn needs_apparmor(cx: &Cx) {
    if !has_apparmor() {
        cx.not_here(
            &["process.apparmorProfile"],
            "a kernel without AppArmor; asked for, it is refused by name",
        );
        cx.skip("a kernel without AppArmor");
    }
}

const CURRENT: &str = "cat /proc/self/attr/apparmor/current";

fn apparmor_of_the_process_and_exec(cx: &Cx) {
    needs_apparmor(cx);
    let profile = Profile::load(cx, "/tmp/forbidden");
    let other = Profile::load(cx, "/tmp/other");
    let mut bundle = cx.bundle();
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.set("/process/apparmorProfile", json!(profile.name));
    let enforced = format!("{} (enforce)", profile.name);
    let script = "cat /proc/1/attr/apparmor/current; (: >/tmp/forbidden) || echo failed; (: >/tmp/other) && echo made";
    let seen =
        format!("{enforced}\nsh: can't create /tmp/forbidden: Permission denied\nfailed\nmade");
    cx.looks(
        &mut bundle,
        &[(&["process.apparmorProfile"], script, &seen)],
    );
    bundle.args(&["sleep", "1000"]);
    let container = cx.start(&bundle);
    // exec has the container's, or one of its own.
    container.exec_sh(CURRENT).ok().prints(&enforced);
    container
        .exec_with(&["--apparmor", &other.name], &["sh", "-c", CURRENT])
        .ok()
        .prints(&format!("{} (enforce)", other.name));
    let output = container.exec_with(&["--apparmor", &other.name], &["sh", "-c", ": >/tmp/other"]);
    assert!(output.stderr.contains("Permission denied"), "{output}");
    let output = container.exec_with(&["--apparmor", "no-such-profile"], &["true"]);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        !cx.is_rundlet()
            || output
                .stderr
                .contains("process.apparmorProfile: set profile `no-such-profile`"),
        "{output}"
    );
    container.end();
}

/// no_new_privs forbids a change of profile at execve, but for one that narrows `unconfined`.
fn apparmor_with_no_new_privileges(cx: &Cx) {
    needs_apparmor(cx);
    let profile = Profile::load(cx, "/tmp/forbidden");
    let mut bundle = cx.script(CURRENT);
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.set("/process/apparmorProfile", json!(profile.name));
    cx.run(&bundle)
        .ok()
        .prints(&format!("{} (enforce)", profile.name));
}

fn an_unknown_profile_is_refused_by_name(cx: &Cx) {
    let mut bundle = cx.script("true");
    bundle.set("/process/apparmorProfile", json!("no-such-profile"));
    let output = cx.try_create(&bundle).is(1);
    let text = if has_apparmor() {
        "process.apparmorProfile: set profile `no-such-profile` in `/proc/self/attr/apparmor/exec`"
    } else {
        "process.apparmorProfile: `no-such-profile` is asked for, but AppArmor is not enabled on this host"
    };
    if cx.is_rundlet() {
        output.says(text);
    }
}

fn without_the_module_it_is_refused(cx: &Cx) {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        cx.skip("a host with SELinux");
    }
    for (pointer, field) in [
        ("/process/selinuxLabel", "process.selinuxLabel"),
        ("/linux/mountLabel", "linux.mountLabel"),
    ] {
        let mut bundle = cx.named_bundle(field);
        bundle.set(pointer, json!("system_u:system_r:container_t:s0"));
        let output = cx.try_create(&bundle).is(1);
        if cx.is_rundlet() {
            output
                .says(field)
                .says("SELinux is disabled or not supported on this host");
        }
    }
}

const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// The runtime under strace, which answers its question whether selinuxfs is there by yes (f_type is the first field).
/// What it printed, and what the kernel was asked.
fn believing(cx: &Cx, calls: &str, args: &[&str]) -> (String, String) {
    let (_, asked) = traced(cx, &["-e", "trace=statfs"], args);
    let mut asked = asked.lines();
    let place = 1 + asked
        .position(|line| line.contains("/selinux"))
        .expect("the question");
    traced(
        cx,
        &[
            "-e",
            &format!("trace=statfs,{calls}"),
            "-e",
            &format!("inject=statfs:retval=0:poke_exit=@arg2=8cff7cf900000000:when={place}"),
        ],
        args,
    )
}

fn traced(cx: &Cx, flags: &[&str], args: &[&str]) -> (String, String) {
    let trace = cx.dir.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "200"]).args(flags);
    command.arg("-o").arg(&trace);
    command.arg(&cx.runtime).arg("--root").arg(cx.root());
    command.args(args);
    let output = cx.spawn(command).wait();
    (output.stderr, fs::read_to_string(trace).unwrap())
}

fn needs_strace(cx: &Cx) {
    if cx.host("strace -V").code != 0 {
        cx.skip("no strace");
    }
    if Path::new("/sys/fs/selinux/enforce").exists() {
        cx.skip("a host with SELinux");
    }
}

fn create_believing(cx: &Cx, bundle: &Bundle, flags: &[&str], calls: &str) -> (String, String) {
    bundle.write();
    let mut args = vec!["create", "--bundle", bundle.path.to_str().unwrap()];
    args.extend(flags);
    args.push(&bundle.id);
    believing(cx, calls, &args)
}

/// The kernel refuses each label, having nobody to give it to: the first one ends the creation.
fn selinux_labels_of_process_and_keyring(cx: &Cx) {
    needs_strace(cx);
    let mut bundle = cx.bundle();
    bundle.set("/process/selinuxLabel", json!(LABEL));
    let (error, trace) = create_believing(cx, &bundle, &[], "write,keyctl");
    let text = format!(
        "process.selinuxLabel: set key label `{LABEL}` in `/proc/self/attr/keycreate`: write"
    );
    assert!(
        error.contains(&text) && error.contains("attr/keycreate`: invalid argument"),
        "{error}"
    );
    assert!(
        trace.contains(&format!("\"{LABEL}\", {}", LABEL.len())),
        "{trace}"
    );
    // Before the keyring is made, for it is made with that label.
    assert!(!trace.contains("KEYCTL_JOIN_SESSION_KEYRING"), "{trace}");

    let (error, trace) = create_believing(cx, &bundle, &["--no-new-keyring"], "write");
    let text =
        format!("process.selinuxLabel: set exec label `{LABEL}` in `/proc/self/attr/exec`: write");
    assert!(
        error.contains(&text) && error.contains("attr/exec`: invalid argument"),
        "{error}"
    );
    assert!(
        trace.contains(&format!("\"{LABEL}\", {}", LABEL.len())),
        "{trace}"
    );
    cx.observed(
        &bundle,
        &["process.selinuxLabel"],
        "asked of the kernel: write(2) of the label to `/proc/self/attr/keycreate`, then to `/proc/self/attr/exec`",
    );
}

fn selinux_labels_of_mounts(cx: &Cx) {
    needs_strace(cx);
    let mut bundle = cx.bundle();
    bundle.set("/linux/mountLabel", json!(FILES));
    let (error, trace) = create_believing(cx, &bundle, &[], "fsconfig");
    // The template's second mount is the first that takes one.
    assert!(
        error.contains("mounts[1]: mount `/dev`: option `context`: "),
        "{error}"
    );
    let wanted = format!("FSCONFIG_SET_STRING, \"context\", \"{FILES}\", 0) = -1 EINVAL");
    assert!(trace.contains(&wanted), "{trace}");
    cx.observed(
        &bundle,
        &["linux.mountLabel"],
        "asked of the kernel: `fsconfig(fd, FSCONFIG_SET_STRING, \"context\", ...)` of the first tmpfs",
    );

    // mqueue gets it as an attribute of its root.
    let queue = bundle.config["mounts"].as_array().unwrap().iter();
    let queue = queue.filter(|mount| mount["type"] == "mqueue" || mount["type"] == "proc");
    let queue: Vec<_> = queue.cloned().collect();
    bundle.set("/mounts", json!(queue));
    fs::create_dir_all(bundle.rootfs().join("dev/mqueue")).unwrap();
    let (error, trace) = create_believing(cx, &bundle, &[], "fsetxattr");
    assert!(
        error.contains(&format!("linux.mountLabel: set label `{FILES}`")),
        "{error}"
    );
    let wanted = format!("\"security.selinux\", \"{FILES}\", {}, 0)", FILES.len());
    assert!(trace.contains(&wanted), "{trace}");
}

fn selinux_labels_of_exec(cx: &Cx) {
    needs_strace(cx);
    let container = cx.sleeper();
    let args = ["exec", "--process-label", LABEL, &container.id, "true"];
    let (error, trace) = traced(cx, &["-e", "trace=write"], &args);
    let text = format!("process.selinuxLabel: set key label `{LABEL}`");
    assert!(error.contains(&text), "{error}");
    assert!(
        trace.contains(&format!("\"{LABEL}\", {}", LABEL.len())),
        "{trace}"
    );
    container.end();
}
