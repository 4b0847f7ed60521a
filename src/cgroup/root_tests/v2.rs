//! A private view of cgroup v2.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::{SECOND, Top, error, exec_in, gone, in_v2, pid_of, planned, sleeper, value};
use crate::cgroup::record::Places;
use crate::cgroup::{Cgroup, Denied, Driver};
use crate::plan::delegation::Delegation;
use crate::plan::mounts::CgroupMounts;
use crate::plan::resources::Resources;

/// A limit that this host has on v2, with the file it is in: all but hugetlb may be bound to v1.
fn a_limit() -> (&'static str, &'static str, &'static str, &'static str) {
    let controllers = value(Path::new("/sys/fs/cgroup"), "", "cgroup.controllers");
    if controllers.split(' ').any(|c| c == "hugetlb") {
        let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
        (json, "hugepageLimits", "hugetlb.2MB.max", "4194304")
    } else {
        let json = r#"{"memory":{"limit":67108864}}"#;
        (json, "memory.limit", "memory.max", "67108864")
    }
}

/// By `cgroup.procs`, since a test can not clone.
fn enter(cgroup: &Cgroup, child: &std::process::Child) {
    cgroup.for_exec(&[]).unwrap().attach(pid_of(child)).unwrap();
}

#[test]
fn v2_life() {
    in_v2("v2_life", |layout| {
        let top = Top::new(layout, "life");
        let (json, _, file, limit) = a_limit();
        let r = planned(json);
        let cgroup = Cgroup::create(layout, Some(&top.path("a/c")), "id", &r).unwrap();
        assert!(cgroup.clone_into_fd().is_some());
        cgroup.apply(&r).unwrap();
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(value(root, &top.path("a/c"), file), limit);
        if file.starts_with("hugetlb") {
            assert_eq!(value(root, &top.path("a/c"), "hugetlb.2MB.rsvd.max"), limit);
        }

        let mut child = sleeper();
        enter(&cgroup, &child);
        let text = error(Cgroup::create(layout, Some(&top.path("a/c")), "id", &r));
        assert!(text.contains("is not empty: 1 process(es) found"), "{text}");
        assert!(root.join(top.path("a/c").trim_start_matches('/')).exists());

        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen().unwrap());
        let start = Instant::now();
        cgroup.kill_all(Signal::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(
            start.elapsed() < SECOND,
            "cgroup.kill reaches frozen processes"
        );
        let text = error(Cgroup::create(layout, Some(&top.path("a/c")), "id", &r));
        assert!(text.contains("unexpectedly frozen"), "{text}");
        cgroup.thaw().unwrap();

        // Sub-cgroups that the container made go with it.
        let sub = root.join(top.path("a/c/x/y").trim_start_matches('/'));
        std::fs::create_dir_all(&sub).unwrap();
        let place = exec_in(&cgroup, "x/y").unwrap();
        let mut child = sleeper();
        place.attach(pid_of(&child)).unwrap();
        assert_eq!(cgroup.pids().unwrap(), [pid_of(&child).as_raw()]);
        let beside = cgroup.for_exec_beside(pid_of(&child)).unwrap();
        assert!(beside.clone_into_fd().is_some());
        assert!(exec_in(&cgroup, "../c2").is_err());
        assert!(exec_in(&cgroup, "cpu:x").is_err());
        let record = cgroup.to_record();
        Cgroup::open(&record).unwrap().remove(2 * SECOND).unwrap();
        child.wait().unwrap();
        assert!(!root.join(top.path("a/c").trim_start_matches('/')).exists());
        gone(&record);
    });
}

#[test]
fn v2_refusals_and_rollback() {
    in_v2("v2_refusals_and_rollback", |layout| {
        let top = Top::new(layout, "refuse");
        let controllers = value(Path::new("/sys/fs/cgroup"), "", "cgroup.controllers");
        if !controllers.contains("memory") {
            let r = planned(r#"{"memory":{"limit":4194304}}"#);
            let text = error(Cgroup::create(layout, Some(&top.path("c")), "id", &r));
            assert!(
                text.starts_with(
                    "linux.resources.memory.limit: the memory controller is not available"
                ),
                "{text}"
            );
            assert!(!top.exists(), "a failed create left something");
        }
        let r = planned(r#"{"memory":{"swappiness":5}}"#);
        let text = error(Cgroup::create(layout, Some(&top.path("c")), "id", &r));
        assert_eq!(
            text,
            "linux.resources.memory.swappiness: not available on cgroup v2"
        );

        let plain = Resources::default();
        let cgroup = Cgroup::create(layout, Some(&top.path("c")), "id", &plain).unwrap();
        let text = error(cgroup.apply(&planned(r#"{"unified":{"cgroup.nonsense":"1"}}"#)));
        assert!(
            text.contains("linux.resources.unified[cgroup.nonsense]"),
            "{text}"
        );
        // A cgroup with processes can not pass controllers on.
        let mut child = sleeper();
        enter(&cgroup, &child);
        let (json, field, ..) = a_limit();
        let text = error(Cgroup::create(
            layout,
            Some(&top.path("c/below")),
            "id",
            &planned(json),
        ));
        assert!(text.contains(field) && text.contains("busy"), "{text}");
        cgroup.kill_all(Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        cgroup.remove(SECOND).unwrap();
    });
}

/// Opens a node inside the cgroup; what the shell says about it.
fn open_inside(cgroup: &Cgroup, node: &Path) -> String {
    let mut child = Command::new("sh")
        .args([
            "-c",
            "read go; : < \"$0\" && : < /dev/null && echo opened",
            &node.to_string_lossy(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    enter(cgroup, &child);
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let out = child.wait_with_output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

#[test]
fn v2_device_program_denies_and_is_replaced() {
    in_v2("v2_device_program_denies_and_is_replaced", |layout| {
        let tmp = tempfile::tempdir().unwrap();
        let node = tmp.path().join("kmsg");
        let status = Command::new("mknod")
            .arg(&node)
            .args(["c", "1", "11"])
            .status()
            .unwrap();
        assert!(status.success());
        let top = Top::new(layout, "devices");
        let closed = Resources::default();
        let cgroup = Cgroup::create(layout, Some(&top.path("c")), "id", &closed).unwrap();
        assert_eq!(
            open_inside(&cgroup, &node),
            "opened\n",
            "before any program"
        );
        cgroup.apply(&closed).unwrap();
        assert!(open_inside(&cgroup, &node).contains("not permitted"));
        // Another process changes the rules: the program is replaced, not added.
        let open =
            planned(r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#);
        let again = Cgroup::open(&cgroup.to_record()).unwrap();
        again.apply(&open).unwrap();
        assert_eq!(open_inside(&cgroup, &node), "opened\n");
        again.apply(&closed).unwrap();
        assert!(open_inside(&cgroup, &node).contains("not permitted"));
        let fd = cgroup.clone_into_fd().unwrap();
        assert_eq!(crate::sys::bpf::query(&fd).unwrap().len(), 1);
        let all = planned(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
        again.apply(&all).unwrap();
        assert_eq!(open_inside(&cgroup, &node), "opened\n");
        cgroup.remove(SECOND).unwrap();
    });
}

#[test]
fn relative_and_empty_paths() {
    in_v2("relative_and_empty_paths", |layout| {
        let id = format!("rundlet-test-{}-own", std::process::id());
        let cgroup = Cgroup::create(layout, None, &id, &Resources::default()).unwrap();
        let Places::V2(at) = cgroup.to_record().places else {
            panic!("v2 record")
        };
        let own = crate::cgroup::detect::own_unified().unwrap();
        let beside = crate::cgroup::path::join(crate::cgroup::path::split(&own).0, &id);
        assert_eq!(at.path, beside);
        cgroup.remove(SECOND).unwrap();
        assert!(Cgroup::create(layout, Some("/.."), &id, &Resources::default()).is_err());
    });
}

#[test]
fn a_planned_cgroup_harms_nobody() {
    in_v2("a_planned_cgroup_harms_nobody", |layout| {
        let top = Top::new(layout, "planned");
        let path = top.path("c");
        let other = Cgroup::create(layout, Some(&path), "other", &Resources::default()).unwrap();
        let mut child = sleeper();
        enter(&other, &child);
        // The loser of a fight for one path cleans up, in this process and by its early record.
        let mut loser =
            Cgroup::plan(layout, Driver::Cgroupfs, Some(&path), "loser", Denied::Fail).unwrap();
        let record = loser.to_record();
        assert!(
            loser
                .make(&Resources::default(), &Delegation::default())
                .is_err()
        );
        for loser in [loser, Cgroup::open(&record).unwrap()] {
            loser.kill_all(Signal::SIGKILL).unwrap();
            loser.remove(SECOND).unwrap();
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the other container was killed"
        );
        assert_eq!(other.pids().unwrap().len(), 1);
        other.kill_all(Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        // What a crash between making and storing left is empty, and goes.
        Cgroup::open(&record).unwrap().remove(SECOND).unwrap();
        assert!(
            !Path::new("/sys/fs/cgroup")
                .join(path.trim_start_matches('/'))
                .exists()
        );
    });
}

#[test]
fn rootless_goes_without() {
    in_v2("rootless_goes_without", |layout| {
        let status = Command::new("mount")
            .args(["-o", "remount,bind,ro", "/sys/fs/cgroup"])
            .status();
        assert!(status.unwrap().success());
        let id = format!("rundlet-test-{}-ro", std::process::id());
        let plain = Resources::default();
        assert!(Cgroup::create(layout, None, &id, &plain).is_err());
        let mut cgroup =
            Cgroup::plan(layout, Driver::Cgroupfs, None, &id, Denied::GoWithout).unwrap();
        cgroup.make(&plain, &Delegation::default()).unwrap();
        assert_eq!(cgroup.to_record().places, Places::None);
        assert_eq!(cgroup.mount_info(), CgroupMounts::Unavailable);
        cgroup.apply(&plain).unwrap();
        cgroup.remove(SECOND).unwrap();
        let mut cgroup =
            Cgroup::plan(layout, Driver::Cgroupfs, None, &id, Denied::GoWithout).unwrap();
        let text = error(cgroup.make(
            &planned(r#"{"unified":{"cgroup.max.depth":"1"}}"#),
            &Delegation::default(),
        ));
        assert!(text.contains("rootless needs no limits"), "{text}");
        let mut cgroup =
            Cgroup::plan(layout, Driver::Cgroupfs, Some("/x"), &id, Denied::GoWithout).unwrap();
        assert!(cgroup.make(&plain, &Delegation::default()).is_err());
    });
}
