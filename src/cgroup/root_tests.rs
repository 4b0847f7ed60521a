//! Tests that need a kernel and root. v1 ones use the host's hierarchies, below groups of their own; v2 ones run
//! themselves again in a mount namespace with cgroup2 on /sys/fs/cgroup. Skipped with a printed reason elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use super::detect::Layout;
use super::record::Record;
use super::{Cgroup, CgroupMounts};
use crate::plan::resources::{self, Resources};

const SECOND: Duration = Duration::from_secs(1);

fn planned(json: &str) -> Resources {
    resources::plan(&serde_json::from_str(json).unwrap()).unwrap()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("300").spawn().unwrap()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn error<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// A top-level group of one test, taken away at its end together with what is below it.
struct Top {
    name: String,
    mounts: Vec<PathBuf>,
}

impl Top {
    fn new(layout: &Layout, test: &str) -> Self {
        let mounts = match layout {
            Layout::Unified { mount } => vec![mount.clone()],
            Layout::Legacy { hierarchies } => hierarchies.iter().map(|h| h.mount.clone()).collect(),
        };
        Self {
            name: format!("rundlet-test-{}-{test}", std::process::id()),
            mounts,
        }
    }

    fn path(&self, below: &str) -> String {
        format!("/{}/{below}", self.name)
    }

    fn exists(&self) -> bool {
        self.mounts.iter().any(|m| m.join(&self.name).exists())
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        for mount in &self.mounts {
            if let Ok(root) = super::dir::Dir::mount(mount) {
                let _ = super::tree::remove(&root, &self.name, SECOND);
            }
        }
    }
}

fn legacy() -> Option<Layout> {
    if !geteuid().is_root() {
        println!("skipped: not root");
        return None;
    }
    match Layout::detect() {
        Ok(layout @ Layout::Legacy { .. }) => Some(layout),
        other => {
            println!("skipped: no cgroup v1 host: {other:?}");
            None
        }
    }
}

/// Runs `test` in a private view of cgroup v2: the test program starts itself once more for it.
fn in_v2(name: &str, test: impl FnOnce(&Layout)) {
    const MARK: &str = "RUNDLET_TEST_V2_VIEW";
    if std::env::var_os(MARK).is_some() {
        return test(&Layout::detect().unwrap());
    }
    if !geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let status = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t cgroup2 none /sys/fs/cgroup || exit 77; exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            &format!("cgroup::root_tests::{name}"),
        ])
        .env(MARK, "1")
        .status()
        .unwrap();
    if status.code() == Some(77) {
        println!("skipped: cgroup2 can not be mounted");
        return;
    }
    assert!(status.success(), "{name} failed in the v2 view");
}

fn value(mount: &Path, path: &str, file: &str) -> String {
    let file = mount.join(path.trim_start_matches('/')).join(file);
    std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        .trim()
        .to_owned()
}

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
    let cgroup = Cgroup::create(&layout, Some(&path), "id", &r).unwrap();
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
    let CgroupMounts::V1(mounts) = cgroup.mount_info() else {
        panic!("v1 mounts")
    };
    assert!(
        mounts
            .iter()
            .any(|m| m.subsystem == "name=systemd" && m.name == "systemd")
    );

    cgroup.kill_all(Signal::SIGKILL).unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    cgroup.remove(SECOND).unwrap();
    child.wait().unwrap();
    assert!(mounts.iter().all(|m| !m.mount.join(&m.path).exists()));
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

    let cgroup = Cgroup::create(&layout, Some(&top.path("c")), "id", &none).unwrap();
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
        text.starts_with("linux.resources.memory.swap: memory controller"),
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
    let cgroup = Cgroup::create(&layout, Some(&top.path("c")), "id", &r).unwrap();
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
    let args = |list: &[&str]| list.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    assert!(error(cgroup.for_exec(&args(&[".."]))).ends_with(".. is not a sub cgroup path"));
    assert!(error(cgroup.for_exec(&args(&["whaaat:/"]))).contains("unknown controller whaaat"));
    let text = error(cgroup.for_exec(&args(&["cpu:nonexistent"])));
    assert!(
        text.contains(" adding pid ") && text.contains("/nonexistent/cgroup.procs: "),
        "{text}"
    );
    std::fs::create_dir(format!("/sys/fs/cgroup/pids{}/sub", top.path("c"))).unwrap();
    let mut child = sleeper();
    cgroup
        .for_exec(&args(&["pids:sub"]))
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

/// All that must work when somebody else has removed the cgroup.
fn gone(record: &Record) {
    let cgroup = Cgroup::open(record).unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_frozen().unwrap());
    assert_eq!(cgroup.oom_kill_count().unwrap(), 0);
    cgroup.kill_all(Signal::SIGKILL).unwrap();
    cgroup.remove(SECOND).unwrap();
    assert!(
        cgroup
            .apply_limits(&planned(r#"{"pids":{"limit":1}}"#))
            .is_err()
    );
}

#[test]
fn removal_kills_what_is_left() {
    let Some(layout) = legacy() else { return };
    let top = Top::new(&layout, "left");
    let cgroup =
        Cgroup::create(&layout, Some(&top.path("c")), "id", &Resources::default()).unwrap();
    let mut child = sleeper();
    cgroup.place(pid_of(&child)).unwrap();
    // A zombie is in no cgroup any more, so the parent need not have waited.
    cgroup.remove(2 * SECOND).unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn v2_life() {
    in_v2("v2_life", |layout| {
        let top = Top::new(layout, "life");
        let r = planned(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#);
        let cgroup = Cgroup::create(layout, Some(&top.path("a/c")), "id", &r).unwrap();
        assert!(cgroup.clone_into_fd().is_some());
        cgroup.apply(&r).unwrap();
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(value(root, &top.path("a/c"), "hugetlb.2MB.max"), "4194304");
        assert_eq!(
            value(root, &top.path("a/c"), "hugetlb.2MB.rsvd.max"),
            "4194304"
        );

        let mut child = sleeper();
        cgroup.place(pid_of(&child)).unwrap();
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
        let place = cgroup.for_exec(&["x/y".to_owned()]).unwrap();
        let mut child = sleeper();
        place.attach(pid_of(&child)).unwrap();
        assert_eq!(cgroup.pids().unwrap(), [pid_of(&child).as_raw()]);
        let beside = cgroup.for_exec_beside(pid_of(&child)).unwrap();
        assert!(beside.clone_into_fd().is_some());
        assert!(cgroup.for_exec(&["../c2".to_owned()]).is_err());
        assert!(cgroup.for_exec(&["cpu:x".to_owned()]).is_err());
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
        let text = error(cgroup.apply(&planned(r#"{"unified":{"hugetlb.nonsense":"1"}}"#)));
        assert!(
            text.contains("linux.resources.unified[hugetlb.nonsense]"),
            "{text}"
        );
        // A cgroup with processes can not pass controllers on.
        let mut child = sleeper();
        cgroup.place(pid_of(&child)).unwrap();
        let huge = planned(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#);
        let text = error(Cgroup::create(
            layout,
            Some(&top.path("c/below")),
            "id",
            &huge,
        ));
        assert!(
            text.contains("hugepageLimits") && text.contains("busy"),
            "{text}"
        );
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
    cgroup.place(pid_of(&child)).unwrap();
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
        let Record::V2(at) = cgroup.to_record() else {
            panic!("v2 record")
        };
        let own = super::detect::own_unified().unwrap();
        let beside = super::path::join(super::path::split(&own).0, &id);
        assert_eq!(at.path, beside);
        assert_eq!(at.made, [beside]);
        cgroup.remove(SECOND).unwrap();
        assert!(Cgroup::create(layout, Some("/.."), &id, &Resources::default()).is_err());
    });
}
