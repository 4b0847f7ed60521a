//! Wrong inputs. Each gives exit code 1, one line on stderr that names the field of config.json and
//! the kernel's reason, and leaves nothing behind. The wording is rundlet's; code and clean-up hold
//! for the reference as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, Output, Test, Worlds};

/// What the one line must contain: the JSON path (or the thing), and the errno's text.
fn refuse(cx: &Cx, words: &[&str], edit: impl FnOnce(&Cx, &mut Bundle)) {
    let mut bundle = cx.bundle();
    edit(cx, &mut bundle);
    let output = cx.try_create(&bundle);
    check(cx, output, 1, words);
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

fn check(cx: &Cx, output: Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output}");
    assert!(!output.stderr.trim().is_empty(), "no message: {output}");
    if !cx.is_rundlet() {
        return;
    }
    assert_eq!(
        output.stderr.lines().count(),
        1,
        "more than one line: {output}"
    );
    let line = output.stderr.to_lowercase();
    for word in words {
        assert!(
            line.contains(&word.to_lowercase()),
            "no {word:?} in {output}"
        );
    }
}

/// `name: [words] edit;` makes a test of that name.
macro_rules! wrong {
    ($($name:ident $(= $differs:literal)?: [$($word:expr),*] $edit:expr;)*) => {
        $(fn $name(cx: &Cx) { refuse(cx, &[$($word),*], $edit); })*
        /// For the catalogue of messages.
        pub(super) const EDITS: &[(&str, fn(&Cx, &mut Bundle))] = &[$((stringify!($name), $edit)),*];
        const CONFIGS: &[Test] = &[$(Test {
            module: module_path!(),
            name: stringify!($name),
            worlds: Worlds::Host,
            differs: crate::support::tests!(@differs $($differs)?),
            run: $name,
        }),*];
    };
}

const MISSING: &str = "no such file or directory";
const DENIED: &str = "permission denied";
const NOT_PERMITTED: &str = "operation not permitted";
const INVALID: &str = "invalid argument";

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().unwrap().remove(key);
}

wrong! {
    // The shape of the file.
    wrong_type_of_args: ["process.args"] |_, b| b.set("/process/args", json!("sh"));
    wrong_type_of_uid: ["process.user.uid"] |_, b| b.set("/process/user/uid", json!("root"));
    uid_too_large: ["process.user.uid"] |_, b| b.set("/process/user/uid", json!(4_294_967_296_u64));
    uid_of_all_ones: ["process.user.uid"] |_, b| b.set("/process/user/uid", json!(u32::MAX));
    uid_negative: ["process.user.uid"] |_, b| b.set("/process/user/uid", json!(-1));
    wrong_type_of_mounts: ["mounts"] |_, b| b.set("/mounts", json!({"destination": "/x"}));
    wrong_type_of_terminal: ["process.terminal"] |_, b| b.set("/process/terminal", json!("yes"));
    no_process: ["process"] |_, b| remove(&mut b.config, "process");
    no_root: ["root"] |_, b| remove(&mut b.config, "root");
    no_version = "runc 1.1.5 does not ask for it": ["ociversion"] |_, b| remove(&mut b.config, "ociVersion");
    version_of_the_future = "runc 1.1.5 does not look": ["ociversion"] |_, b| b.set("/ociVersion", json!("9.0.0"));

    // The program.
    empty_args: ["process.args"] |_, b| b.set("/process/args", json!([]));
    missing_program: ["nosuchprogram", "executable file not found in $path"] |_, b| b.args(&["nosuchprogram"]);
    missing_program_by_path: ["/no/such/program", MISSING] |_, b| b.args(&["/no/such/program"]);
    program_not_executable: ["/etc/passwd", DENIED] |_, b| b.args(&["/etc/passwd"]);
    program_is_a_directory: ["/etc"] |_, b| b.args(&["/etc"]);
    program_not_executable_for_the_user = "runc 1.1.5 looks at the mode bits alone, and fails at start": ["/mnt/own", DENIED] |_, b| {
        let file = b.rootfs().join("mnt/own");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        b.args(&["/mnt/own"]);
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    };
    args_with_a_nul_byte = "runc 1.1.5 starts it": ["process.args"] |_, b| b.set("/process/args", json!(["sh", "a\u{0}b"]));
    env_with_a_nul_byte: ["process.env"] |_, b| b.push("/process/env", json!("A=x\u{0}y"));
    env_without_an_equals_sign: ["process.env"] |_, b| b.push("/process/env", json!("NOVALUE"));
    relative_cwd: ["process.cwd"] |_, b| b.set("/process/cwd", json!("tmp"));
    empty_cwd: ["process.cwd"] |_, b| b.set("/process/cwd", json!(""));
    cwd_is_a_file: ["process.cwd", "not a directory"] |_, b| b.set("/process/cwd", json!("/etc/passwd"));
    unknown_rlimit: ["process.rlimits", "RLIMIT_NOVEL"] |_, b| {
        b.set("/process/rlimits", json!([{"type": "RLIMIT_NOVEL", "soft": 1, "hard": 1}]));
    };
    duplicate_rlimit: ["process.rlimits", "RLIMIT_NOFILE"] |_, b| {
        b.push("/process/rlimits", json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}));
    };
    rlimit_soft_above_hard: ["process.rlimits"] |_, b| {
        b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]));
    };
    rlimit_not_permitted: ["RLIMIT_NOFILE", NOT_PERMITTED] |cx, b| {
        // root without CAP_SYS_RESOURCE may not raise the hard limit; with it, above the kernel's own bound.
        let _ = cx;
        b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 2_000_000_000_u64, "hard": 2_000_000_000_u64}]));
    };
    oom_score_out_of_range: ["oomScoreAdj"] |_, b| b.set("/process/oomScoreAdj", json!(5000));
    unknown_apparmor_profile: ["apparmor"] |_, b| b.set("/process/apparmorProfile", json!("no-such-profile"));
    selinux_label_without_selinux: ["selinux"] |_, b| b.set("/process/selinuxLabel", json!("u:r:t:s0"));

    // The root and mounts.
    missing_rootfs: ["root.path", MISSING] |_, b| b.set("/root/path", json!("nowhere"));
    rootfs_is_a_file: ["root.path"] |_, b| b.set("/root/path", json!("config.json"));
    empty_root_path: ["root.path"] |_, b| b.set("/root/path", json!(""));
    missing_bind_source: ["mounts[7]", "/no/such/source", MISSING] |_, b| b.bind("/no/such/source".as_ref(), "/data", &[]);
    bind_with_data = "runc 1.1.5 ignores the data": ["mounts[7]"] |cx, b| b.bind(&cx.dir, "/data", &["size=10m"]);
    bind_directory_on_a_file: ["/etc/passwd", "not a directory"] |cx, b| b.bind(&cx.dir, "/etc/passwd", &[]);
    unknown_file_system: ["mounts[7]", "nosuchfs", "no such device"] |_, b| b.mount("/data", "nosuchfs", "none", &[]);
    wrong_tmpfs_option: ["mounts[7]", INVALID] |_, b| b.mount("/data", "tmpfs", "tmpfs", &["size=lots"]);
    bad_propagation: ["linux.rootfsPropagation", "sometimes"] |_, b| b.set("/linux/rootfsPropagation", json!("sometimes"));
    empty_destination: ["mounts[7].destination"] |_, b| b.mount("", "tmpfs", "tmpfs", &[]);
    masked_path_relative = "runc 1.1.5 takes it": ["linux.maskedPaths"] |_, b| b.push("/linux/maskedPaths", json!("proc/kcore"));

    // Namespaces and ids.
    duplicate_namespace: ["linux.namespaces"] |_, b| b.push("/linux/namespaces", json!({"type": "pid"}));
    unknown_namespace: ["linux.namespaces", "astral"] |_, b| b.push("/linux/namespaces", json!({"type": "astral"}));
    missing_namespace_path: ["linux.namespaces", "/no/such/ns", MISSING] |_, b| {
        b.without_namespace("network");
        b.push("/linux/namespaces", json!({"type": "network", "path": "/no/such/ns"}));
    };
    namespace_path_is_a_file: ["linux.namespaces", "network"] |cx, b| {
        b.without_namespace("network");
        b.push("/linux/namespaces", json!({"type": "network", "path": cx.file("no-ns", "")}));
    };
    namespace_path_of_another_kind: ["linux.namespaces", "network"] |_, b| {
        b.without_namespace("network");
        b.push("/linux/namespaces", json!({"type": "network", "path": "/proc/self/ns/uts"}));
    };
    hostname_without_uts: ["hostname", "uts"] |_, b| b.without_namespace("uts");
    hostname_too_long: ["hostname"] |_, b| b.config["hostname"] = json!("h".repeat(300));
    unmapped_user: ["process.user.uid"] |_, b| {
        b.user_namespace();
        b.set("/process/user/uid", json!(70_000));
    };
    unmapped_group: ["process.user"] |_, b| {
        b.user_namespace();
        b.set("/process/user/additionalGids", json!([70_000]));
    };
    mappings_without_user_namespace = "runc 1.1.5 ignores them": ["linux.uidMappings"] |_, b| {
        b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}]));
    };
    user_namespace_without_mappings: ["linux.uidMappings"] |_, b| b.push("/linux/namespaces", json!({"type": "user"}));
    overlapping_mappings: ["linux.uidMappings"] |_, b| {
        b.user_namespace();
        b.set("/linux/uidMappings", json!([
            {"containerID": 0, "hostID": 100_000, "size": 100}, {"containerID": 50, "hostID": 300_000, "size": 100}
        ]));
    };
    mapping_of_size_zero: ["linux.uidMappings"] |_, b| {
        b.user_namespace();
        b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 0}]));
    };
    mapping_without_root: ["linux.uidMappings"] |_, b| {
        b.user_namespace();
        b.set("/linux/uidMappings", json!([{"containerID": 1, "hostID": 100_000, "size": 10}]));
    };

    // Kernel attributes.
    sysctl_of_the_host: ["linux.sysctl", "kernel.panic"] |_, b| b.set("/linux/sysctl", json!({"kernel.panic": "1"}));
    sysctl_wrong_value: ["kernel.msgmax", INVALID] |_, b| b.set("/linux/sysctl", json!({"kernel.msgmax": "many"}));
    unknown_seccomp_action: ["linux.seccomp", "SCMP_ACT_MAYBE"] |_, b| {
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_MAYBE"}));
    };
    unknown_device_type: ["linux.devices[0]"] |_, b| b.push("/linux/devices", json!({"path": "/dev/x", "type": "q", "major": 1, "minor": 1}));
    device_without_numbers = "runc 1.1.5 makes 0:0": ["linux.devices[0]"] |_, b| b.push("/linux/devices", json!({"path": "/dev/x", "type": "c"}));
    device_rule_of_unknown_type: ["linux.resources.devices[1]"] |_, b| {
        b.push("/linux/resources/devices", json!({"allow": true, "type": "q", "access": "rwm"}));
    };
    device_rule_of_unknown_access = "runc 1.1.5 takes it": ["linux.resources.devices[1]"] |_, b| {
        b.push("/linux/resources/devices", json!({"allow": true, "type": "c", "access": "xyz"}));
    };
    systemd_path_without_systemd = "runc 1.1.5 takes it for a directory name": ["linux.cgroupsPath"] |_, b| {
        b.set("/linux/cgroupsPath", json!(format!("system.slice:rundlet:{}", b.id)));
    };
    cgroup_path_with_a_nul_byte: ["linux.cgroupsPath"] |_, b| b.set("/linux/cgroupsPath", json!("/a\u{0}b"));
    no_resctrl = "runc 1.1.5 ignores the field": ["linux.intelRdt", "no resctrl file system is mounted"] |cx, b| {
        if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
            cx.skip("this machine has resctrl");
        }
        b.set("/linux/intelRdt", json!({"closID": "gold", "l3CacheSchema": "L3:0=f"}));
    };
    unknown_personality = "runc 1.1.5 does not know the field": ["linux.personality"] |_, b| b.set("/linux/personality", json!({"domain": "VAX"}));
}

macro_rules! others {
    ($($name:ident $(= $differs:literal)?;)*) => {
        const OTHERS: &[Test] = &[$(Test {
            module: module_path!(),
            name: stringify!($name),
            worlds: Worlds::Host,
            differs: crate::support::tests!(@differs $($differs)?),
            run: $name,
        }),*];
    };
}

others! {
    bad_ids;
    missing_bundle;
    missing_config;
    config_is_not_json;
    config_is_cut_off;
    config_is_a_directory;
    config_is_not_utf8 = "Go replaces the bytes";
    config_nests_too_deep;
    config_is_too_large = "runc has no limit";
    config_of_another_shape = "runc 1.1.5 crashes on null";
    state_root_cannot_be_made;
    pid_file_cannot_be_written;
    log_file_cannot_be_written;
    root_slash_is_refused = "runc 1.1.5 takes it";
    run_reports_like_create;
    container_id_is_missing;
    a_failed_create_frees_the_id;
}

/// Both lists, in one table for `main`.
pub(crate) const TESTS: &[Test] = &joined::<{ CONFIGS.len() + OTHERS.len() }>();

const fn joined<const N: usize>() -> [Test; N] {
    let mut all = [OTHERS[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < CONFIGS.len() {
            CONFIGS[at]
        } else {
            OTHERS[at - CONFIGS.len()]
        };
        at += 1;
    }
    all
}

fn bad_ids(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    for id in [
        "", ".", "..", "a/b", "../x", "/abs", "a b", "a\nb", "a:b", "\u{e4}", "a\\b", "*",
    ] {
        check(cx, cx.call(&["create", "--bundle", path, id]), 1, &["id"]);
        for verb in ["start", "state", "delete", "kill"] {
            // Refused by every verb before a path is built of it.
            assert_eq!(cx.call(&[verb, id]).code, 1, "{verb} {id:?}");
        }
    }
    if cx.is_rundlet() {
        check(
            cx,
            cx.call(&["create", "--bundle", path, &"x".repeat(256)]),
            1,
            &["id"],
        );
        // delete --force of nothing is fine, of nonsense it is not.
        check(cx, cx.call(&["delete", "--force", "../x"]), 1, &["id"]);
    }
}

fn missing_bundle(cx: &Cx) {
    check(
        cx,
        cx.call(&["create", "--bundle", "/no/such/bundle", &cx.id("c")]),
        1,
        &["/no/such/bundle", MISSING],
    );
}

fn missing_config(cx: &Cx) {
    let dir = cx.dir.join("empty");
    fs::create_dir(&dir).unwrap();
    check(
        cx,
        cx.call(&["create", "--bundle", dir.to_str().unwrap(), &cx.id("c")]),
        1,
        &["config.json"],
    );
}

/// create with these bytes as the config.
fn with_config(cx: &Cx, bytes: &[u8]) -> Output {
    let bundle = cx.bundle();
    fs::write(bundle.path.join("config.json"), bytes).unwrap();
    cx.call(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ])
}

fn config_is_not_json(cx: &Cx) {
    check(
        cx,
        with_config(cx, b"this is no JSON\n"),
        1,
        &["config.json", "line 1"],
    );
}

fn config_is_cut_off(cx: &Cx) {
    let text = serde_json::to_vec(&cx.named_bundle("other").config).unwrap();
    check(
        cx,
        with_config(cx, &text[..text.len() / 2]),
        1,
        &["config.json"],
    );
}

fn config_is_a_directory(cx: &Cx) {
    let bundle = cx.bundle();
    fs::create_dir(bundle.path.join("config.json")).unwrap();
    let output = cx.call(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]);
    check(cx, output, 1, &["config.json", "is a directory"]);
}

fn config_is_not_utf8(cx: &Cx) {
    let mut text = serde_json::to_vec(&cx.named_bundle("other").config).unwrap();
    let at = text.windows(6).position(|part| part == b"inside").unwrap();
    text[at] = 0xff;
    check(cx, with_config(cx, &text), 1, &["config.json"]);
}

fn config_nests_too_deep(cx: &Cx) {
    let text = format!(
        "{{\"annotations\": {}{}}}",
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    check(cx, with_config(cx, text.as_bytes()), 1, &["config.json"]);
}

fn config_is_too_large(cx: &Cx) {
    let mut text = serde_json::to_vec(&cx.named_bundle("other").config).unwrap();
    text.resize(65 << 20, b' ');
    check(cx, with_config(cx, &text), 1, &["config.json"]);
}

fn config_of_another_shape(cx: &Cx) {
    for text in ["[]", "null", "\"config\"", "12", "{}", ""] {
        let dir = cx.dir.join("bundle-c");
        let _ = fs::remove_dir_all(dir);
        check(cx, with_config(cx, text.as_bytes()), 1, &[]);
    }
}

fn state_root_cannot_be_made(cx: &Cx) {
    let file = cx.file("a-file", "");
    let bundle = cx.bundle();
    bundle.write();
    let mut command = std::process::Command::new(&cx.runtime);
    command
        .arg("--root")
        .arg(file.join("below"))
        .args(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id);
    check(
        cx,
        cx.spawn(command).wait(),
        1,
        &["a-file", "not a directory"],
    );
}

fn pid_file_cannot_be_written(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let output = cx.call(&[
        "create",
        "--bundle",
        path,
        "--pid-file",
        "/no/such/dir/pid",
        &bundle.id,
    ]);
    check(cx, output, 1, &["/no/such/dir/pid", MISSING]);
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

fn log_file_cannot_be_written(cx: &Cx) {
    check(
        cx,
        cx.call(&["--log", "/no/such/dir/log", "list"]),
        1,
        &["/no/such/dir/log", MISSING],
    );
}

fn root_slash_is_refused(cx: &Cx) {
    let mut command = std::process::Command::new(&cx.runtime);
    command.args(["--root", "/", "list"]);
    check(cx, cx.spawn(command).wait(), 1, &["root"]);
}

fn run_reports_like_create(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/no/such/program"]);
    check(cx, cx.run(&bundle), 1, &["/no/such/program", MISSING]);
    check(
        cx,
        cx.run_with(&bundle, &["--detach"]),
        1,
        &["/no/such/program", MISSING],
    );
}

fn container_id_is_missing(cx: &Cx) {
    for verb in [
        "create", "run", "start", "state", "kill", "delete", "pause", "resume",
    ] {
        let output = cx.call(&[verb]);
        assert_eq!(output.code, 1, "{output}");
    }
}

fn a_failed_create_frees_the_id(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/no/such/program"]);
    for _ in 0..3 {
        cx.try_create(&bundle).is(1);
    }
    bundle.args(&["sleep", "1000"]);
    cx.start(&bundle).end();
}
