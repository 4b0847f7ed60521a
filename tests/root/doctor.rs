//! `doctor`: what it says of this host is what this host shows otherwise.

use std::fs;

use serde_json::Value;

use crate::support::{Cx, tests};

tests! {
    both what_it_sees_is_there = "runc has no such verb";
    host an_unusable_root_is_an_error = "runc has no such verb";
}

fn examined(cx: &Cx) -> Vec<Value> {
    let output = cx.call(&["doctor", "--json"]).ok();
    serde_json::from_str(&output.stdout).unwrap()
}

fn what_it_sees_is_there(cx: &Cx) {
    let found = examined(cx);
    let of = |what: &str| {
        found
            .iter()
            .find(|one| one["what"] == what)
            .unwrap_or_else(|| panic!("{what}: {found:?}"))
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(of("version")["seen"], release.trim());
    assert_eq!(of("namespaces")["verdict"], "ok");
    let hierarchy = of("hierarchy");
    assert_eq!(hierarchy["verdict"] == "ok", cx.is_v2(), "{hierarchy}");
    let systemd = fs::metadata("/run/systemd/system").is_ok();
    assert_eq!(
        of("systemd")["verdict"],
        if systemd { "ok" } else { "limited" }
    );
    // Bit 24.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let permitted = status
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:\t"))
        .unwrap();
    let may = u64::from_str_radix(permitted, 16).unwrap() & 1 << 24 != 0;
    assert_eq!(found.iter().any(|one| one["what"] == "limits"), !may);
    let docker =
        fs::metadata("/usr/sbin/dockerd").is_ok() || fs::metadata("/usr/bin/dockerd").is_ok();
    assert_eq!(found.iter().any(|one| one["what"] == "docker"), docker);
    for one in &found {
        assert_eq!(one["verdict"] == "ok", one["fix"].is_null(), "{one}");
    }
    let text = cx.call(&["doctor"]).ok().stdout;
    let lines = text.lines().filter(|line| {
        ["ok ", "limited ", "broken "]
            .iter()
            .any(|word| line.starts_with(word))
    });
    assert_eq!(lines.count(), found.len());
    assert!(!cx.root().exists(), "it only looks");
}

fn an_unusable_root_is_an_error(cx: &Cx) {
    let mut command = std::process::Command::new(&cx.runtime);
    let file = cx.file("a-file", "");
    command.arg("--root").arg(file.join("below")).arg("doctor");
    cx.spawn(command)
        .wait()
        .is(1)
        .has("broken   state root")
        .says("containers will not work for this caller: state root");
}
