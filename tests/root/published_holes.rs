//! Holes that were published of other runtimes and engines, by their numbers. Those with a topic's file of their own are there:
//! `dev_as_a_link...` (CVE-2026-41579, CVE-2026-47766), `proc_as_a_link...` (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642,
//! CVE-2025-54867), `mask_does_not_use...` (CVE-2025-31133), `own_binary_is_protected` (CVE-2019-5736),
//! `working_directory_by_descriptor...` (CVE-2024-21626), `neighbours_never_see...` (CVE-2016-9962), and the hostile roots of
//! the unit tests (CVE-2021-30465, CVE-2024-45310).

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Cx, tests};
use crate::tty::create_on;

tests! {
    host cve_2016_3697_a_number_is_no_name;
    host cve_2016_8867_a_user_has_no_ambient_capabilities;
    host cve_2022_0811_a_sysctl_is_one_key;
    host cve_2022_2989_groups_of_the_caller_end;
    host cve_2022_4318_env_does_not_reach_passwd;
    host cve_2022_29162_exec_cap_is_not_inheritable;
    host cve_2024_21626_exec_by_a_descriptor;
    host cve_2024_40635_ids_have_32_bits;
    host cve_2025_23266_hooks_have_their_own_environment;
    host cve_2025_52881_labels_and_sysctls_past_a_fake_proc = "runc 1.1.5 is CVE-2025-52881";
    host cve_2026_30892_minus_one_is_not_root = "runc 1.1.5 takes 4294967296 for 0";
    host cve_2026_55686_a_working_directory_below_a_link;
    host cve_2026_88264_a_console_that_is_a_link;
    host cve_2026_88265_a_null_that_is_a_link = "runc 1.1.5 writes to the file";
    host cve_2026_88265_a_file_on_stdio_keeps_its_owner;
    host cve_2026_115521_a_read_only_root_past_a_fake_proc;
}

fn cve_2016_3697_a_number_is_no_name(cx: &Cx) {
    let bundle = cx.bundle();
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n";
    std::fs::write(bundle.rootfs().join("etc/passwd"), passwd).unwrap();
    let container = cx.start(&bundle);
    container
        .exec_with(&["--user", "1000"], &["id", "-u"])
        .ok()
        .prints("1000");
    container.end();
}

fn cve_2016_8867_a_user_has_no_ambient_capabilities(cx: &Cx) {
    cx.sh("grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -vc 0000000000000000", |b| {
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.sh("grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -vc 0000000000000000; exit 0");
    })
    .prints("0");
}

fn cve_2022_0811_a_sysctl_is_one_key(cx: &Cx) {
    for key in [
        "kernel.shm_rmid_forced+kernel.core_pattern",
        "kernel.shm_rmid_forced=1;kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4..ip_forward",
        "kernel.core_pattern",
    ] {
        let mut bundle = cx.named_bundle(&format!("k{}", key.len()));
        bundle.set("/linux/sysctl", json!({key: "|/evil"}));
        assert_ne!(cx.run(&bundle).code, 0, "{key}");
    }
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(!pattern.contains("evil"));
}

fn cve_2022_2989_groups_of_the_caller_end(cx: &Cx) {
    let mut bundle = cx.script("id -G");
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}),
    );
    bundle.write();
    cx.host(&format!(
        "exec setpriv --groups 4,27 {} --root {} run --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("1000 7");
}

fn cve_2022_4318_env_does_not_reach_passwd(cx: &Cx) {
    let mut bundle = cx.script("cat /etc/passwd");
    bundle.push("/process/env", json!("HOME=/x\nevil::0:0::/:/bin/sh"));
    let before = std::fs::read_to_string(bundle.rootfs().join("etc/passwd")).unwrap();
    assert_eq!(cx.run(&bundle).ok().stdout, before);
}

fn cve_2022_29162_exec_cap_is_not_inheritable(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec_with(
            &["--cap", "CAP_NET_ADMIN"],
            &[
                "grep",
                "-cE",
                "Cap(Inh|Amb):.0000000000000000",
                "/proc/self/status",
            ],
        )
        .ok()
        .prints("2");
    container.end();
}

fn cve_2024_21626_exec_by_a_descriptor(cx: &Cx) {
    let container = cx.sleeper();
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = container.exec_with(&["--cwd", &cwd], &["pwd"]);
        assert_ne!(output.code, 0, "{cwd}: {output}");
        // Up to the root of the host, from however deep, and to a program there that needs no library.
        let busybox = cx.dir.join("busybox");
        let up = "/..".repeat(12);
        let program = format!("/proc/self/fd/{number}{up}{}", busybox.display());
        let output = container.exec(&[&program, "id"]);
        assert_ne!(output.code, 0, "{program}: {output}");
    }
    container.end();
}

fn cve_2024_40635_ids_have_32_bits(cx: &Cx) {
    for (number, id) in [4_294_967_296_u64, 4_294_967_295, 1 << 40]
        .iter()
        .enumerate()
    {
        for field in ["uid", "gid"] {
            let mut bundle = cx.named_bundle(&format!("{field}{number}"));
            bundle.args(&["id"]);
            bundle.set(&format!("/process/user/{field}"), json!(id));
            let output = cx.run(&bundle);
            assert_ne!(output.code, 0, "{field} {id}: {output}");
        }
    }
}

fn cve_2025_23266_hooks_have_their_own_environment(cx: &Cx) {
    let mut bundle = cx.bundle();
    let shown = cx.dir.join("shown");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("env >>{}", shown.display())],
        "env": ["OWN=1"]}]);
    bundle.push("/process/env", json!("LD_PRELOAD=/evil.so"));
    for name in ["createRuntime", "createContainer"] {
        bundle.set(&format!("/hooks/{name}"), hook.clone());
    }
    cx.create(&bundle).call("delete").ok();
    let shown = std::fs::read_to_string(shown).unwrap();
    assert_eq!(shown.matches("OWN=1").count(), 2, "{shown}");
    assert!(!shown.contains("LD_PRELOAD"), "{shown}");
}

/// What is written to /proc goes to the kernel's, though the container's /proc is made of files.
fn cve_2025_52881_labels_and_sysctls_past_a_fake_proc(cx: &Cx) {
    let mut bundle = cx.script("ip link show lo >/dev/null && echo runs");
    bundle.without_mount("/proc");
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.set(&format!("/linux/{list}"), json!([]));
    }
    let fake = bundle.rootfs().join("proc/sys/net/ipv4");
    std::fs::create_dir_all(&fake).unwrap();
    std::fs::write(fake.join("ip_forward"), "fake").unwrap();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let output = cx.run(&bundle);
    if cx.is_rundlet() {
        output.ok().prints("runs");
    }
    assert_eq!(
        std::fs::read_to_string(fake.join("ip_forward")).unwrap(),
        "fake"
    );
}

fn cve_2026_30892_minus_one_is_not_root(cx: &Cx) {
    let container = cx.sleeper();
    for user in [
        "-1",
        "1x",
        "4294967295",
        "4294967296",
        "0x0",
        " 0",
        "1:-1",
        "1:",
    ] {
        let output = container.exec_with(&["--user", user], &["id", "-u"]);
        assert!(
            output.code != 0 || output.text() == "1",
            "{user:?}: {output}"
        );
    }
    container.end();
}

fn cve_2026_55686_a_working_directory_below_a_link(cx: &Cx) {
    let mut bundle = cx.script("pwd");
    let outside = cx.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.rootfs().join("work")).unwrap();
    symlink("../../../../../../..", bundle.rootfs().join("up")).unwrap();
    for cwd in [
        "/work/sub".to_owned(),
        format!("/up{}/sub", outside.display()),
    ] {
        bundle.set("/process/cwd", json!(cwd));
        cx.run(&bundle);
    }
    assert!(!outside.join("sub").exists());
}

fn cve_2026_88264_a_console_that_is_a_link(cx: &Cx) {
    let mut bundle = cx.bundle();
    let outside = cx.dir.join("outside");
    bundle.without_mount("/dev");
    bundle.set("/process/terminal", json!(true));
    let victim = bundle.rootfs().join("etc/victim");
    let socket = cx.console_socket();
    // To the host, and to another place in the container.
    for target in [outside.as_path(), "/etc/victim".as_ref()] {
        let console = bundle.rootfs().join("dev/console");
        let _ = std::fs::remove_file(&console);
        symlink(target, &console).unwrap();
        create_on(cx, &bundle, &socket.path);
        assert!(!outside.exists() && !victim.exists());
        cx.call(&["delete", "--force", &bundle.id]).ok();
    }
}

/// Stdio is the null device: it is opened anew in the container, but not from a file that only has its name.
fn cve_2026_88265_a_null_that_is_a_link(cx: &Cx) {
    use std::os::unix::fs::MetadataExt;
    let mut bundle = cx.script("echo x; readlink /proc/self/fd/0; exit 0");
    let file = cx.file("secret", "secret");
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    // Of the engine's, so that the runtime makes no nodes in it.
    let dev = cx.dir.join("dev");
    std::fs::create_dir(&dev).unwrap();
    bundle.bind(&dev, "/dev", &[]);
    bundle.bind(&file, "/mnt/secret", &[]);
    symlink("/mnt/secret", dev.join("null")).unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let output = cx.run(&bundle);
    assert!(!output.stdout.contains("secret"), "{output}");
    let data = std::fs::metadata(&file).unwrap();
    assert_eq!((data.uid(), data.len()), (0, 6));
}

fn cve_2026_88265_a_file_on_stdio_keeps_its_owner(cx: &Cx) {
    use std::os::unix::fs::MetadataExt;
    let mut bundle = cx.script("echo written; echo written >&2");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.write();
    let (input, output) = (cx.file("input", ""), cx.file("output", ""));
    cx.host(&format!(
        "exec {} --root {} run --bundle {} {} <{} >>{} 2>&1",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id,
        input.display(),
        output.display()
    ))
    .ok();
    for file in [&input, &output] {
        let data = std::fs::metadata(file).unwrap();
        assert_eq!((data.uid(), data.gid()), (0, 0), "{}", file.display());
    }
    assert_eq!(std::fs::metadata(&output).unwrap().len(), 16);
}

/// The image's /proc/self/fd leads to another mount: that one must not be made read-only in the root's stead.
fn cve_2026_115521_a_read_only_root_past_a_fake_proc(cx: &Cx) {
    let mut bundle = cx.script(
        "for d in / /etc /mnt /other; do touch $d/x 2>/dev/null && echo $d is writable; done; echo end",
    );
    bundle.without_mount("/proc");
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.set(&format!("/linux/{list}"), json!([]));
    }
    bundle.set("/linux/readonlyPaths", json!(["/other"]));
    bundle.set("/root/readonly", json!(true));
    let fake = bundle.rootfs().join("proc/self/fd");
    std::fs::create_dir_all(&fake).unwrap();
    for number in 0..64 {
        symlink("/mnt", fake.join(number.to_string())).unwrap();
    }
    for name in ["mnt", "other"] {
        bundle.mount(&format!("/{name}"), "tmpfs", "tmpfs", &[]);
    }
    cx.run(&bundle).ok().prints("/mnt is writable\nend");
}
