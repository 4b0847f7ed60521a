//! maskedPaths and readonlyPaths.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Cx, tests};

tests! {
    host masked_file_is_empty;
    host masked_directory_is_empty_and_read_only;
    host masks_of_the_default_config;
    host masks_of_what_is_not_there;
    host masks_may_repeat;
    host many_masked_directories;
    host mask_over_a_mount;
    host mask_does_not_use_the_images_null = "runc 1.1.5 is CVE-2025-31133";
    host mask_without_a_null_in_the_image;
    host mask_of_a_link_stays_inside;
    host read_only_paths;
    host read_only_file;
    host read_only_paths_of_the_default_config;
    host read_only_of_what_is_not_there;
    host masked_and_read_only;
    host masks_hold_in_a_user_namespace;
    host masks_hold_for_exec;
}

fn masked_file_is_empty(cx: &Cx) {
    cx.sh(
        "cat /etc/secret; echo x >/etc/secret; cat /etc/secret; stat -c '%F %t:%T' /etc/secret",
        |b| {
            fs::write(b.rootfs().join("etc/secret"), "secret").unwrap();
            b.set("/linux/maskedPaths", json!(["/etc/secret"]));
        },
    )
    .prints("character special file 1:3");
}

fn masked_directory_is_empty_and_read_only(cx: &Cx) {
    cx.sh(
        "ls -A /vault; touch /vault/x 2>/dev/null || echo refused",
        |b| {
            fs::create_dir_all(b.rootfs().join("vault/deep")).unwrap();
            b.set("/linux/maskedPaths", json!(["/vault"]));
        },
    )
    .prints("refused");
}

fn masks_of_the_default_config(cx: &Cx) {
    cx.sh("cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | tr -d '\\n'", |_| ())
        .prints("0");
}

fn masks_of_what_is_not_there(cx: &Cx) {
    cx.sh("echo fine", |b| {
        b.set(
            "/linux/maskedPaths",
            json!(["/no/such", "/no/such/below", "/proc/no_such_entry"]),
        )
    })
    .prints("fine");
}

fn masks_may_repeat(cx: &Cx) {
    cx.sh("cat /etc/passwd; ls -A /mnt; echo fine", |b| {
        b.set(
            "/linux/maskedPaths",
            json!(["/etc/passwd", "/mnt", "/etc/passwd", "/mnt"]),
        );
    })
    .prints("fine");
}

fn many_masked_directories(cx: &Cx) {
    let paths: Vec<String> = (0..64).map(|number| format!("/vault/{number}")).collect();
    cx.sh("for d in /vault/*; do ls -A $d; touch $d/x 2>/dev/null && echo writable $d; done; echo done", |b| {
        for path in &paths {
            fs::create_dir_all(b.rootfs().join(&path[1..]).join("inner")).unwrap();
        }
        b.set("/linux/maskedPaths", json!(paths));
    })
    .prints("done");
}

fn mask_over_a_mount(cx: &Cx) {
    // Masks come after all mounts, so a volume cannot uncover one.
    let dir = cx.dir.join("data");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("secret"), "secret").unwrap();
    cx.sh("cat /data/secret; echo end", |b| {
        b.bind(&dir, "/data", &[]);
        b.set("/linux/maskedPaths", json!(["/data/secret"]));
    })
    .prints("end");
    assert_eq!(fs::read_to_string(dir.join("secret")).unwrap(), "secret");
}

fn without_dev(b: &mut crate::support::Bundle) {
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        b.without_mount(destination);
    }
}

fn mask_does_not_use_the_images_null(cx: &Cx) {
    // K1: the image's /dev/null is a link to a file; a mask made of it would show that file.
    let mut bundle = cx.script("cat /etc/secret; echo written >/etc/secret; cat /etc/target");
    without_dev(&mut bundle);
    let rootfs = bundle.rootfs();
    fs::write(rootfs.join("etc/secret"), "secret").unwrap();
    fs::write(rootfs.join("etc/target"), "target\n").unwrap();
    symlink("/etc/target", rootfs.join("dev/null")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    let output = cx.run(&bundle);
    // Masked by a real null device, or the container refused: never the file.
    assert!(output.code == 1 || output.text() == "target", "{output}");
}

fn mask_without_a_null_in_the_image(cx: &Cx) {
    // The runtime puts a null device there, or masks without one; the secret is not shown.
    let mut bundle = cx.script("rm -f /dev/null; cat /etc/secret; echo end");
    without_dev(&mut bundle);
    fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
    fs::create_dir(bundle.rootfs().join("dev/null")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    let output = cx.run(&bundle);
    assert!(output.code == 1 || output.text() == "end", "{output}");
}

fn mask_of_a_link_stays_inside(cx: &Cx) {
    let outside = cx.file("outside", "host\n");
    let mut bundle = cx.script("echo fine");
    symlink(&outside, bundle.rootfs().join("etc/link")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/link", "/../../outside"]));
    cx.run(&bundle).ok().prints("fine");
    assert_eq!(fs::read_to_string(outside).unwrap(), "host\n");
}

fn read_only_paths(cx: &Cx) {
    cx.sh(
        "touch /keep/x 2>&1; touch /keep/sub/x 2>&1; touch /free && cat /keep/file",
        |b| {
            fs::create_dir_all(b.rootfs().join("keep/sub")).unwrap();
            fs::write(b.rootfs().join("keep/file"), "content").unwrap();
            b.set("/linux/readonlyPaths", json!(["/keep"]));
        },
    )
    .prints(
        "touch: /keep/x: Read-only file system\ntouch: /keep/sub/x: Read-only file system\ncontent",
    );
}

fn read_only_file(cx: &Cx) {
    cx.sh(
        "echo x 2>/dev/null >/etc/passwd || echo refused; rm /etc/passwd 2>/dev/null || echo busy",
        |b| {
            b.set("/linux/readonlyPaths", json!(["/etc/passwd"]));
        },
    )
    .has("busy");
}

fn read_only_paths_of_the_default_config(cx: &Cx) {
    cx.sh(
        "(echo 1 >/proc/sys/kernel/panic) 2>&1; \
         for p in bus fs irq sys; do awk -v p=/proc/$p '$5 == p {print $5, substr($6, 1, 2)}' /proc/self/mountinfo; done",
        |_| (),
    )
    .has("/proc/sys/kernel/panic: Read-only file system")
    .has("/proc/bus ro\n/proc/fs ro\n/proc/irq ro\n/proc/sys ro\n");
}

fn read_only_of_what_is_not_there(cx: &Cx) {
    cx.sh("echo fine", |b| {
        b.set(
            "/linux/readonlyPaths",
            json!(["/no/such", "/proc/none", "/proc/bus", "/proc/bus"]),
        )
    })
    .prints("fine");
}

fn masked_and_read_only(cx: &Cx) {
    cx.sh("cat /etc/passwd; echo end", |b| {
        b.set("/linux/maskedPaths", json!(["/etc/passwd"]));
        b.set("/linux/readonlyPaths", json!(["/etc"]));
    })
    .prints("end");
}

fn masks_hold_in_a_user_namespace(cx: &Cx) {
    cx.sh("cat /etc/passwd /proc/keys; (echo 1 >/proc/sys/kernel/panic) 2>&1 | grep -c Read-only; umount /etc/passwd 2>/dev/null || echo held", |b| {
        b.user_namespace();
        b.push("/linux/maskedPaths", json!("/etc/passwd"));
    })
    .prints("1\nheld");
}

fn masks_hold_for_exec(cx: &Cx) {
    let container = cx.sleeper();
    container
        .exec_sh(
            "cat /proc/keys | wc -c; (echo 1 >/proc/sys/kernel/panic) 2>&1 | grep -c Read-only",
        )
        .ok()
        .prints("0\n1");
    container.end();
}
