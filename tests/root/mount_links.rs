//! Binds whose source or destination is a symbolic link: crun's words `copy-symlink`, `src-nofollow` and `dest-nofollow`.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Bundle, Cx, tests};

tests! {
    host without_a_word_links_are_followed;
    host a_link_is_copied = "a word of crun";
    host a_copy_of_a_link_in_a_user_namespace = "a word of crun";
    host a_copy_does_not_replace_anything = "a word of crun";
    host a_link_is_mounted_itself = "a word of crun";
    host a_link_is_mounted_on = "a word of crun";
    host links_of_other_mounts_are_refused = "a word of crun";
}

/// A link to a file in the test's directory, and a bundle with a bind of it on /tmp/there.
fn bundle(cx: &Cx, name: &str, words: &[&str], script: &str) -> Bundle {
    let file = cx.dir.join("file");
    fs::write(&file, "content\n").unwrap();
    let link = cx.dir.join("link");
    let _ = symlink("file", &link);
    let mut bundle = cx.named_bundle(name);
    bundle.sh(script);
    let mut options = vec!["bind"];
    options.extend(words);
    bundle.mount("/tmp/there", "bind", link.to_str().unwrap(), &options);
    bundle
}

const LOOK: &str =
    "readlink /tmp/there || cat /tmp/there; grep -c ' /tmp/there ' /proc/self/mountinfo || true";

fn without_a_word_links_are_followed(cx: &Cx) {
    cx.run(&bundle(cx, "c", &[], LOOK))
        .ok()
        .prints("content\n1");
}

fn a_link_is_copied(cx: &Cx) {
    let bundle_of_link = bundle(cx, "c", &["copy-symlink"], LOOK);
    cx.run(&bundle_of_link).is(0).prints("file\n0");
    // A second time it is there already.
    cx.run(&bundle_of_link).ok().prints("file\n0");
    // Of what is no link it is a bind as any other.
    let mut plain = bundle(cx, "plain", &["copy-symlink"], LOOK);
    let last = plain.config["mounts"].as_array().unwrap().len() - 1;
    plain.set(
        &format!("/mounts/{last}/source"),
        json!(cx.dir.join("file")),
    );
    cx.run(&plain).ok().prints("content\n1");
}

fn a_copy_of_a_link_in_a_user_namespace(cx: &Cx) {
    let mut bundle = bundle(cx, "c", &["copy-symlink"], LOOK);
    bundle.user_namespace();
    cx.run(&bundle).ok().prints("file\n0");
}

fn a_copy_does_not_replace_anything(cx: &Cx) {
    for (name, other) in [("link", true), ("file", false)] {
        let bundle = bundle(cx, name, &["copy-symlink"], LOOK);
        let there = bundle.rootfs().join("tmp/there");
        if other {
            symlink("elsewhere", &there).unwrap();
        } else {
            fs::write(&there, "kept").unwrap();
        }
        let output = cx.try_create(&bundle);
        assert_ne!(output.code, 0, "{output}");
        output
            .says("mounts[7]")
            .says("the target exists and is not a link to `file`");
        if !other {
            assert_eq!(fs::read_to_string(&there).unwrap(), "kept");
        }
    }
}

fn a_link_is_mounted_itself(cx: &Cx) {
    cx.run(&bundle(cx, "c", &["src-nofollow"], LOOK))
        .ok()
        .prints("file\n1");
}

fn a_link_is_mounted_on(cx: &Cx) {
    let bundle = bundle(
        cx,
        "c",
        &["dest-nofollow"],
        "cat /tmp/there /tmp/behind; grep -c ' /tmp/there ' /proc/self/mountinfo",
    );
    fs::write(bundle.rootfs().join("tmp/behind"), "behind\n").unwrap();
    symlink("behind", bundle.rootfs().join("tmp/there")).unwrap();
    cx.run(&bundle).ok().prints("content\nbehind\n1");
    // Where there is none it is made, as without the word.
    fs::remove_file(bundle.rootfs().join("tmp/there")).unwrap();
    cx.run(&bundle).ok().prints("content\nbehind\n1");
}

fn links_of_other_mounts_are_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["copy-symlink"]);
    cx.run(&bundle).is(1).says("mounts[7].options: ");
}
