//! The host's v1 hierarchies.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{SECOND, Top, error, exec_in, gone, legacy, pid_of, planned, sleeper, value};
use crate::cgroup::Cgroup;
use crate::cgroup::record::Record;
use crate::plan::mounts::CgroupMounts;
use crate::plan::resources::Resources;

#[test]
fn v1_limits_read_back() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "limits");
    let path = top.path("c");
    let r = planned(
        r#"{"cpu":{"shares":512,"quota":20000,"period":50000,"burst":1000,"cpus":"0","mems":"0"},
            "memory":{"limit":33554432,"swap":67108864,"reservation":16777216,"swappiness":10,"disableOOMKiller":true},
            "pids":{"limit":17},
            "devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#,
    );
    let mut cgroup = Cgroup::create(&layout, Some(&path), "id", &r).unwrap();
    assert!(cgroup.clone_into_fd().is_none());
    let mut child = sleeper();
    cgroup.place(pid_of(&child)).unwrap();
    cgroup.apply(&r).unwrap();
    let read = |controller: &str, file: &str| {
        value(&Path::new("/sys/fs/cgroup").join(controller), &path, file)
    };
    for (controller, file, want) in [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("memory", "memory.memsw.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "16777216"),
        ("memory", "memory.swappiness", "10"),
        ("pids", "pids.max", "17"),
    ] {
        assert_eq!(read(controller, file), want, "{file}");
    }
    assert!(read("memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    let devices = read("devices", "devices.list");
    assert!(
        devices.contains("c 10:229 rw") && devices.contains("c 1:3 rwm"),
        "{devices}"
    );
    assert!(!devices.contains('a'), "{devices}");
    assert_eq!(cgroup.pids().unwrap(), [pid_of(&child).as_raw()]);
    assert_eq!(cgroup.oom_kill_count().unwrap(), 0);

    // An update in both directions: the kernel wants memory+swap above memory at each moment.
    for limit in [8, 64] {
        let (limit, swap) = (limit << 20, limit << 21);
        cgroup
            .apply_limits(&planned(&format!(
                r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#
            )))
            .unwrap();
        assert_eq!(
            read("memory", "memory.memsw.limit_in_bytes"),
            swap.to_string()
        );
    }
    let CgroupMounts::V1 {
        hierarchies: mounts,
    } = cgroup.mount_info()
    else {
        panic!("v1 mounts")
    };
    assert!(
        mounts
            .iter()
            .any(|m| m.options == "name=systemd" && m.name == "systemd")
    );

    cgroup.kill_all(Signal::SIGKILL).unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.remove(SECOND).unwrap();
    child.wait().unwrap();
    assert!(mounts.iter().all(|m| !m.path.exists()));
}

#[test]
fn v1_refusals_and_rollback() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "refuse");
    let none = Resources::default();
    let text = error(Cgroup::create(
        &layout,
        Some(&top.path("c")),
        "id",
        &planned(r#"{"unified":{"a.b":"1"}}"#),
    ));
    assert!(text.contains("cannot use unified on cgroup v1"), "{text}");
    // A cpuset that the host does not have fails in the middle of the hierarchies.
    let text = error(Cgroup::create(
        &layout,
        Some(&top.path("c")),
        "id",
        &planned(r#"{"cpu":{"cpus":"4000"}}"#),
    ));
    assert!(
        text.starts_with("linux.resources.cpu.cpus: cpuset controller: write `4000`"),
        "{text}"
    );
    assert!(!top.exists(), "a failed create left something");

    let mut cgroup = Cgroup::create(&layout, Some(&top.path("c")), "id", &none).unwrap();
    let text = error(cgroup.apply(&planned(
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
    )));
    if !Path::new("/sys/fs/cgroup/hugetlb").exists() {
        assert!(
            text.contains("the hugetlb controller is not available in cgroup v1"),
            "{text}"
        );
    }
    let text = error(cgroup.apply(&planned(r#"{"cpu":{"shares":1000000}}"#)));
    assert!(
        text.contains("the maximum allowed cpu-shares is 262144"),
        "{text}"
    );
    let text = error(cgroup.apply(&planned(r#"{"memory":{"limit":4096,"swap":2048}}"#)));
    assert!(
        text.starts_with("linux.resources.memory.swap: memory+swap limit 2048"),
        "{text}"
    );

    let mut child = sleeper();
    cgroup.place(pid_of(&child)).unwrap();
    let text = error(Cgroup::create(&layout, Some(&top.path("c")), "id", &none));
    assert!(text.contains("is not empty: 1 process(es) found"), "{text}");
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.kill_all(Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    let text = error(Cgroup::create(&layout, Some(&top.path("c")), "id", &none));
    assert!(text.contains("unexpectedly frozen"), "{text}");
    cgroup.remove(SECOND).unwrap();
    cgroup.remove(SECOND).unwrap();
}

#[test]
fn v1_memory_limit_below_usage() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "usage");
    let r = Resources::default();
    let mut cgroup = Cgroup::create(&layout, Some(&top.path("c")), "id", &r).unwrap();
    let script = "read go; x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; sleep 300";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cgroup.place(pid_of(&child)).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.as_mut().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let checked = planned(r#"{"memory":{"limit":4194304,"checkBeforeUpdate":true}}"#);
    let text = error(cgroup.apply_limits(&checked));
    assert!(
        text.contains("rejecting memory limit 4194304 <= usage"),
        "{text}"
    );
    // With swap off for the group nothing can be reclaimed, so the kernel itself refuses.
    let limit = planned(r#"{"memory":{"limit":4194304,"swappiness":0}}"#);
    match cgroup.apply_limits(&limit) {
        Err(error) => {
            let text = format!("{error:#}");
            assert!(
                text.contains("unable to set memory limit to 4194304 (current usage: "),
                "{text}"
            );
        }
        Ok(()) => println!("not seen: the kernel found something to reclaim"),
    }
    cgroup.kill_all(Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    cgroup.remove(SECOND).unwrap();
}

#[test]
fn v1_exec_places_and_record() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "exec");
    let cgroup =
        Cgroup::create(&layout, Some(&top.path("c")), "id", &Resources::default()).unwrap();
    assert!(error(exec_in(&cgroup, "..")).ends_with(".. is not a sub cgroup path"));
    assert!(error(exec_in(&cgroup, "whaaat:/")).contains("unknown controller whaaat"));
    let text = error(exec_in(&cgroup, "cpu:nonexistent"));
    assert!(
        text.contains(" adding pid ") && text.contains("/nonexistent/cgroup.procs: "),
        "{text}"
    );
    std::fs::create_dir(format!("/sys/fs/cgroup/pids{}/sub", top.path("c"))).unwrap();
    let mut child = sleeper();
    exec_in(&cgroup, "pids:sub")
        .unwrap()
        .attach(pid_of(&child))
        .unwrap();
    let at = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(
        at.contains(&format!(":pids:{}\n", top.path("c/sub"))),
        "{at}"
    );
    assert!(
        at.contains(&format!(":freezer:{}\n", top.path("c"))),
        "{at}"
    );

    let record = serde_json::to_string(&cgroup.to_record()).unwrap();
    let again = Cgroup::open(&serde_json::from_str::<Record>(&record).unwrap()).unwrap();
    again.kill_all(Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    again.remove(SECOND).unwrap();
    gone(&again.to_record());
}

#[test]
fn removal_kills_what_is_left() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "left");
    let mut cgroup =
        Cgroup::create(&layout, Some(&top.path("c")), "id", &Resources::default()).unwrap();
    let mut child = sleeper();
    cgroup.place(pid_of(&child)).unwrap();
    // A zombie is in no cgroup any more, so the parent need not have waited.
    cgroup.remove(2 * SECOND).unwrap();
    assert!(!child.wait().unwrap().success());
}
