//! Capabilities, no_new_privs and the other marks of a process.

use super::process::status_line;
use crate::support::{Bundle, Cx, tests};
use serde_json::json;

tests! {
    host capabilities_of_root;
    host capabilities_of_a_user;
    host all_five_capability_sets;
    host no_capabilities_object;
    host empty_capabilities;
    host a_capability_the_host_lacks_is_left_out = "runc fails";
    host unknown_capabilities_are_left_out;
    host no_new_privileges;
    host no_new_privileges_off;
    host oom_score_adjustment;
    host no_oom_score_adjustment;
    host personality = "runc 1.1.5 does not know the field";
    host signals_are_reset = "runc hands an ignored signal 32 on";
    host own_session;
    host first_process_is_the_program;
}

/// Inheritable, permitted, effective, bounding, ambient as the program sees them.
fn sets(cx: &Cx, edit: impl FnOnce(&mut Bundle)) -> [u64; 5] {
    let output = cx.sh(&status_line("Cap"), edit);
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|name| {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(line, 16).unwrap()
    })
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;

fn capabilities_of_root(cx: &Cx) {
    let wanted = CHOWN | KILL;
    let seen = sets(cx, |b| b.capabilities(&["CAP_CHOWN", "CAP_KILL"]));
    assert_eq!(seen, [0, wanted, wanted, wanted, 0]);
}

fn capabilities_of_a_user(cx: &Cx) {
    let seen = sets(cx, |b| {
        b.capabilities(&["CAP_CHOWN", "CAP_KILL"]);
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    });
    // The program's exec takes them from a user without ambient ones.
    assert_eq!(seen, [0, 0, 0, CHOWN | KILL, 0]);
}

fn all_five_capability_sets(cx: &Cx) {
    let seen = sets(cx, |b| {
        b.set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_CHOWN", "CAP_KILL"],
                "ambient": ["CAP_CHOWN"]
            }),
        );
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    });
    assert_eq!(
        seen,
        [CHOWN | KILL, CHOWN, CHOWN, CHOWN | KILL | NET_RAW, CHOWN]
    );
}

fn no_capabilities_object(cx: &Cx) {
    let seen = sets(cx, |b| {
        b.config["process"]
            .as_object_mut()
            .unwrap()
            .remove("capabilities");
    });
    assert_eq!(seen, [0; 5]);
}

fn empty_capabilities(cx: &Cx) {
    assert_eq!(
        sets(cx, |b| b.set("/process/capabilities", json!({}))),
        [0; 5]
    );
}

fn a_capability_the_host_lacks_is_left_out(cx: &Cx) {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    if u64::from_str_radix(own, 16).unwrap() & (1 << 24) != 0 {
        cx.skip("this host grants CAP_SYS_RESOURCE");
    }
    let mut bundle = cx.script(&status_line("CapPrm"));
    bundle.capabilities(&["CAP_KILL", "CAP_SYS_RESOURCE"]);
    let output = cx.run(&bundle).ok().prints("CapPrm:0000000000000020");
    assert!(
        output.stderr.contains("CAP_SYS_RESOURCE"),
        "no warning: {output}"
    );
}

fn unknown_capabilities_are_left_out(cx: &Cx) {
    let mut bundle = cx.script(&status_line("CapPrm"));
    bundle.capabilities(&["CAP_KILL", "CAP_OF_THE_FUTURE"]);
    cx.run(&bundle).ok().prints("CapPrm:0000000000000020");
}

fn no_new_privileges(cx: &Cx) {
    cx.sh(&status_line("NoNewPrivs"), |_| ())
        .prints("NoNewPrivs:1");
}

fn no_new_privileges_off(cx: &Cx) {
    cx.sh(&status_line("NoNewPrivs"), |b| {
        b.set("/process/noNewPrivileges", json!(false))
    })
    .prints("NoNewPrivs:0");
}

fn oom_score_adjustment(cx: &Cx) {
    cx.sh("cat /proc/self/oom_score_adj", |b| {
        b.set("/process/oomScoreAdj", json!(456))
    })
    .prints("456");
}

fn no_oom_score_adjustment(cx: &Cx) {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    cx.sh("cat /proc/self/oom_score_adj", |_| ())
        .prints(own.trim());
}

fn personality(cx: &Cx) {
    // PER_LINUX32. `uname -m` is no witness: not every kernel answers by it.
    cx.sh("cat /proc/self/personality", |b| {
        b.set("/linux/personality", json!({"domain": "LINUX32"}))
    })
    .prints("00000008");
}

fn signals_are_reset(cx: &Cx) {
    let bundle = cx.script("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'");
    bundle.write();
    // X5: the caller ignores signals; the program must not.
    cx.host(&format!(
        "trap '' INT HUP QUIT PIPE USR1; exec {} --root {} run --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("SigBlk:0000000000000000\nSigIgn:0000000000000000");
}

fn own_session(cx: &Cx) {
    // Fields 5 and 6 of stat: process group and session.
    cx.sh("cut -d' ' -f5,6 /proc/1/stat", |_| ()).prints("1 1");
}

fn first_process_is_the_program(cx: &Cx) {
    cx.sh("cut -d' ' -f4 /proc/1/stat; cat /proc/1/comm; true", |_| ())
        .prints("0\nsh");
}
