//! The root as an overlay that rundlet assembles in the container's own mount namespace.
//!
//! An extension of rundlet: the reference has neither the flags nor the annotations.

use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use serde_json::json;

use crate::support::older::refuse;
use crate::support::{Bundle, Cx, tests};

tests! {
    both rootfs_stays_pristine = "an extension of rundlet";
    host annotation_alone_is_enough = "an extension of rundlet";
    host upper_directory_keeps_changes = "an extension of rundlet";
    host upper_and_work_by_annotation = "an extension of rundlet";
    host several_lower_layers = "an extension of rundlet";
    host two_containers_share_a_rootfs = "an extension of rundlet";
    host deleted_files_stay_deleted_in_the_upper = "an extension of rundlet";
    host with_a_read_only_root = "an extension of rundlet";
    host with_a_user_namespace = "an extension of rundlet";
    host nothing_is_left_mounted = "an extension of rundlet";
    host exec_sees_it = "an extension of rundlet";
    host over_the_hosts_own_root = "an extension of rundlet";
    host missing_layer_is_named = "an extension of rundlet";
    host layers_of_an_engine;
    host on_kernels_that_take_no_descriptors = "an extension of rundlet";
}

const LOWER: &str = "org.rundlet.rootfs.overlay.lower";
const UPPER: &str = "org.rundlet.rootfs.overlay.upper";
const WORK: &str = "org.rundlet.rootfs.overlay.work";

fn annotate(bundle: &mut Bundle, key: &str, value: &str) {
    bundle.config["annotations"][key] = json!(value);
}

fn layer(cx: &Cx, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = cx.dir.join(name);
    fs::create_dir(&dir).unwrap();
    for (file, content) in files {
        fs::write(dir.join(file), content).unwrap();
    }
    dir
}

fn rootfs_stays_pristine(cx: &Cx) {
    let bundle = cx.script("echo x >/mnt/new; rm /etc/passwd; ls /mnt /etc; awk '$5 == \"/\" {print $9}' /proc/self/mountinfo; awk '$5 == \"/\" {print $8}' /proc/self/mountinfo");
    let output = cx.run_with(&bundle, &["--overlay"]).ok();
    assert!(
        output.stdout.contains("new") && !output.stdout.contains("passwd"),
        "{output}"
    );
    assert!(output.stdout.contains("overlay"), "{output}");
    assert!(!bundle.rootfs().join("mnt/new").exists());
    assert!(bundle.rootfs().join("etc/passwd").exists());
    // And a second run starts afresh.
    let again = cx.run_with(&bundle, &["--overlay"]).ok();
    assert_eq!(again.stdout, output.stdout);
}

fn annotation_alone_is_enough(cx: &Cx) {
    let mut bundle = cx.script("echo x >/mnt/new && cat /mnt/new");
    let rootfs = bundle.rootfs();
    annotate(&mut bundle, LOWER, rootfs.to_str().unwrap());
    cx.run(&bundle).ok().prints("x");
    assert!(!rootfs.join("mnt/new").exists());
}

fn upper_directory_keeps_changes(cx: &Cx) {
    let bundle = cx.script("cat /mnt/count 2>/dev/null; echo x >>/mnt/count");
    let upper = cx.dir.join("upper");
    fs::create_dir(&upper).unwrap();
    let flags = ["--overlay-upper", upper.to_str().unwrap()];
    cx.run_with(&bundle, &flags).ok().prints("");
    cx.run_with(&bundle, &flags).ok().prints("x");
    cx.run_with(&bundle, &flags).ok().prints("x\nx");
    assert!(!bundle.rootfs().join("mnt/count").exists());
}

fn upper_and_work_by_annotation(cx: &Cx) {
    let mut bundle = cx.script("echo x >/mnt/new");
    let (upper, work) = (layer(cx, "upper", &[]), layer(cx, "work", &[]));
    annotate(&mut bundle, UPPER, upper.to_str().unwrap());
    annotate(&mut bundle, WORK, work.to_str().unwrap());
    cx.run(&bundle).ok();
    assert_eq!(fs::read_to_string(upper.join("mnt/new")).unwrap(), "x\n");
    assert!(!bundle.rootfs().join("mnt/new").exists());
}

fn several_lower_layers(cx: &Cx) {
    let mut bundle = cx.script("cat /a /b /c");
    let top = layer(cx, "top", &[("a", "top\n")]);
    let middle = layer(cx, "middle", &[("a", "middle\n"), ("b", "middle\n")]);
    fs::write(bundle.rootfs().join("b"), "base\n").unwrap();
    fs::write(bundle.rootfs().join("c"), "base\n").unwrap();
    let rootfs = bundle.rootfs();
    annotate(
        &mut bundle,
        LOWER,
        &format!(
            "{}:{}:{}",
            top.display(),
            middle.display(),
            rootfs.display()
        ),
    );
    cx.run(&bundle).ok().prints("top\nmiddle\nbase");
}

fn two_containers_share_a_rootfs(cx: &Cx) {
    let mut first = cx.named_bundle("first");
    let mut second = cx.named_bundle("second");
    second.set("/root/path", json!(first.rootfs()));
    first.config["annotations"][LOWER] = json!(first.rootfs());
    second.config["annotations"][LOWER] = json!(first.rootfs());
    let one = cx.start(&first);
    let two = cx.start(&second);
    one.exec_sh("echo one >/mnt/f; rm /etc/passwd").ok();
    two.exec_sh("ls /mnt; ls /etc; echo two >/mnt/f")
        .ok()
        .prints("passwd");
    one.exec_sh("cat /mnt/f").ok().prints("one");
    one.end();
    two.exec_sh("cat /mnt/f").ok().prints("two");
    two.end();
    assert!(!first.rootfs().join("mnt/f").exists());
}

fn deleted_files_stay_deleted_in_the_upper(cx: &Cx) {
    let bundle = cx.script("rm /etc/passwd 2>/dev/null || echo gone");
    let upper = layer(cx, "upper", &[]);
    let flags = ["--overlay-upper", upper.to_str().unwrap()];
    cx.run_with(&bundle, &flags).ok().prints("");
    cx.run_with(&bundle, &flags).ok().prints("gone");
    assert!(bundle.rootfs().join("etc/passwd").exists());
}

fn with_a_read_only_root(cx: &Cx) {
    let mut bundle = cx.script("touch /x 2>/dev/null || echo refused; cat /data/f");
    bundle.set("/root/readonly", json!(true));
    // The mount point has to be made first, in the upper layer and not in the rootfs.
    let data = layer(cx, "data", &[("f", "content")]);
    bundle.bind(&data, "/data", &["ro"]);
    cx.run_with(&bundle, &["--overlay"])
        .ok()
        .prints("refused\ncontent");
    assert!(!bundle.rootfs().join("data").exists());
}

fn with_a_user_namespace(cx: &Cx) {
    let mut bundle = cx.script("id -u; cat /etc/passwd | wc -l; touch /tmp/x && stat -c %u /tmp/x");
    bundle.user_namespace();
    // What is not mapped could not be copied up.
    cx.host(&format!(
        "chown -R 100000:200000 {}",
        bundle.rootfs().display()
    ))
    .ok();
    cx.run_with(&bundle, &["--overlay"]).ok().prints("0\n2\n0");
    assert!(!bundle.rootfs().join("tmp/x").exists());
}

fn nothing_is_left_mounted(cx: &Cx) {
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let bundle = cx.bundle();
    bundle.write();
    cx.call(&[
        "create",
        "--overlay",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ])
    .ok();
    assert_eq!(table(), before, "the overlay is seen on the host");
    cx.container(&bundle.id).end();
    assert_eq!(table(), before);
}

fn exec_sees_it(cx: &Cx) {
    let bundle = cx.script("echo x >/mnt/new; exec sleep 1000");
    cx.run_with(&bundle, &["--detach", "--overlay"]).ok();
    let container = cx.container(&bundle.id);
    crate::support::eventually("the file is there", 5, || {
        container.exec(&["cat", "/mnt/new"]).code == 0
    });
    container.end();
}

fn missing_layer_is_named(cx: &Cx) {
    let mut bundle = cx.bundle();
    annotate(&mut bundle, LOWER, "/no/such/layer");
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("/no/such/layer"), "{output}");
    assert!(
        output
            .stderr
            .to_lowercase()
            .contains("no such file or directory"),
        "{output}"
    );
}

fn layers_of_an_engine(cx: &Cx) {
    // As engines do it: the rootfs is an overlay already, mounted by the caller.
    let mut bundle = cx.script("cat /etc/passwd | wc -l; echo x >/mnt/new; awk '$5 == \"/\" {print $9 $8 $10}' /proc/self/mountinfo | grep -c overlay");
    let (upper, work, merged) = (
        layer(cx, "upper", &[]),
        layer(cx, "work", &[]),
        layer(cx, "merged", &[]),
    );
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        bundle.rootfs().display(),
        upper.display(),
        work.display()
    );
    nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(data.as_str()),
    )
    .unwrap();
    bundle.set("/root/path", json!(merged));
    cx.run(&bundle).ok().prints("2\n1");
    assert!(upper.join("mnt/new").exists());
    assert!(!bundle.rootfs().join("mnt/new").exists());
    nix::mount::umount(&merged).unwrap();
}

fn over_the_hosts_own_root(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/root/path", json!("/"));
    bundle.args(&["/bin/busybox", "sleep", "1000"]);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    cx.call(&["run", "--overlay", "--detach", "--bundle", path, &bundle.id])
        .ok();
    let container = cx.container(&bundle.id);
    // exec enters by the topmost mount of `/`: the host's root may neither lie above nor below the container's.
    let output = container
        .exec_sh("grep -c ' / / ' /proc/self/mountinfo; ls /proc | grep -c '^1$'; hostname; : >/only-inside")
        .ok();
    assert_eq!(output.text(), "1\n1\ninside", "{output}");
    assert!(!PathBuf::from("/only-inside").exists());
    container.end();
}

/// Kernels before 6.13 refuse every descriptor as a layer, and before 6.15 those that only name a directory.
fn on_kernels_that_take_no_descriptors(cx: &Cx) {
    let fsconfig_set_fd = 5;
    for errno in [Errno::EINVAL, Errno::EBADF] {
        let mut bundle = cx.named_bundle(&format!("{errno:?}"));
        bundle.sh("cat /a; echo x >/mnt/new && cat /mnt/new");
        let top = layer(cx, &format!("top-{errno:?}"), &[("a", "top\n")]);
        let lowers = format!("{}:{}", top.display(), bundle.rootfs().display());
        annotate(&mut bundle, LOWER, &lowers);
        bundle.write();
        let args = ["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id];
        let mut command = cx.command(&args);
        refuse(&mut command, libc::SYS_fsconfig, fsconfig_set_fd, errno);
        cx.spawn(command).wait().ok().prints("top\nx");
        assert!(!bundle.rootfs().join("mnt/new").exists());
    }
}
