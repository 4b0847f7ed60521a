//! On a plain directory with the names of a resctrl file system: what is read, written, made and removed, and where.

use super::*;

fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["info/L3", "info/MB", "info/L3_MON", "mon_groups"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    dir
}

fn plan(class: Option<&str>, schemata: &[&str]) -> Rdt {
    Rdt {
        class: class.map(str::to_owned),
        schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
        monitoring: Monitoring::Off,
    }
}

fn put(path: &Path, text: &str) {
    std::io::Write::write_all(
        &mut std::fs::File::create_new(path).unwrap(),
        text.as_bytes(),
    )
    .unwrap();
}

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// resctrl removes a group with its files; a plain directory must be empty.
fn empty(group: &Path) {
    for file in ["schemata", "tasks"] {
        let _ = std::fs::remove_file(group.join(file));
    }
}

#[test]
fn an_own_group_is_made_filled_and_removed() {
    let dir = root();
    let root = dir.path();
    let group = Group::make(root, "c1", &plan(None, &["L3:0=f", "MB:0=50"])).unwrap();
    group.place(Pid::from_raw(42)).unwrap();
    assert_eq!(text(root.join("c1/schemata")), "L3:0=f\nMB:0=50\n");
    assert_eq!(text(root.join("c1/tasks")), "42");
    let stored = serde_json::to_string(group.record()).unwrap();
    let group = Group::open(&serde_json::from_str(&stored).unwrap());
    let old = group.change(&["L3:0=3".to_owned()]).unwrap();
    assert_eq!(old, ["L3:0=f", "MB:0=50"]);
    assert!(group.change(&["L9:0=3".to_owned()]).is_err());
    assert_eq!(text(root.join("c1/schemata")), "L3:0=3\n");
    empty(&root.join("c1"));
    group.remove().unwrap();
    assert!(!root.join("c1").exists());
    // Repeatable.
    group.remove().unwrap();
}

#[test]
fn a_named_group_must_be_there_or_be_described_and_stays() {
    let dir = root();
    let root = dir.path();
    let error = Group::make(root, "c1", &plan(Some("gold"), &[])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("linux.intelRdt.closID: there is no group"),
        "{error}"
    );
    assert!(!root.join("gold").exists());
    let group = Group::make(root, "c1", &plan(Some("gold"), &["L3:0=f"])).unwrap();
    group.remove().unwrap();
    assert!(root.join("gold").is_dir());
    // The next one finds it, and leaves its schemata alone.
    let mut second = Group::make(root, "c2", &plan(Some("gold"), &[])).unwrap();
    second.undo();
    second.remove().unwrap();
    assert_eq!(text(root.join("gold/schemata")), "L3:0=f\n");
}

#[test]
fn a_shared_group_is_compared_and_not_changed() {
    let dir = root();
    let root = dir.path();
    std::fs::create_dir(root.join("gold")).unwrap();
    let file = root.join("gold/schemata");
    put(&file, "    MB:0=100;1= 50\n    L3:0=00ff;1=fff0\n");
    for (lines, good) in [
        (&["L3:1=fff0;0=ff"][..], true),
        (&["L3:0=ff", "MB:1=50"], true),
        (&["L3:0=fe"], false),
        (&["L3:2=ff"], false),
        (&["MB:0=50"], false),
    ] {
        let made = Group::make(root, "c", &plan(Some("gold"), lines));
        assert_eq!(made.is_ok(), good, "{lines:?}: {made:?}");
    }
    assert!(text(file).starts_with("    MB:0=100"));
    assert!(root.join("gold").is_dir());
}

#[test]
fn the_root_group_is_never_removed() {
    let dir = root();
    let group = Group::make(dir.path(), "c", &plan(Some("/"), &[])).unwrap();
    group.place(Pid::from_raw(7)).unwrap();
    assert_eq!(text(dir.path().join("tasks")), "7");
    group.remove().unwrap();
    assert!(dir.path().is_dir());
}

#[test]
fn monitoring_has_a_group_of_the_containers_own() {
    let dir = root();
    let root = dir.path();
    std::fs::create_dir_all(root.join("gold/mon_groups")).unwrap();
    let mut wanted = plan(Some("gold"), &[]);
    wanted.monitoring = Monitoring::On;
    let group = Group::make(root, "c1", &wanted).unwrap();
    group.place(Pid::from_raw(9)).unwrap();
    let own = root.join("gold/mon_groups/c1");
    assert_eq!(text(root.join("gold/tasks")), "9");
    assert_eq!(text(own.join("tasks")), "9");
    empty(&own);
    group.remove().unwrap();
    assert!(!own.exists() && root.join("gold").is_dir());
}

#[test]
fn what_the_machine_lacks_is_refused_before_anything_is_made() {
    let dir = root();
    let root = dir.path();
    let error = Group::make(root, "c", &plan(None, &["L2:0=3"])).unwrap_err();
    assert!(error.to_string().contains("no control of `L2`"), "{error}");
    for (id, class) in [("info", None), ("c", Some("mon_groups"))] {
        let error = Group::make(root, id, &plan(class, &[])).unwrap_err();
        assert!(error.to_string().contains("of resctrl itself"), "{error}");
    }
    std::fs::remove_dir(root.join("info/L3_MON")).unwrap();
    let mut wanted = plan(None, &[]);
    wanted.monitoring = Monitoring::On;
    let error = Group::make(root, "c", &wanted).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("linux.intelRdt.enableMonitoring: "),
        "{error}"
    );
    assert!(!root.join("c").exists());
}

#[test]
fn a_failure_takes_back_what_was_made_and_has_the_kernels_words() {
    let dir = root();
    let root = dir.path();
    put(&root.join("info/last_cmd_status"), "out of CLOSIDs\n");
    // No directory for monitoring groups: the last step fails.
    let mut wanted = plan(Some("gold"), &["L3:0=f"]);
    wanted.monitoring = Monitoring::On;
    let error = Group::make(root, "c", &wanted).unwrap_err();
    assert!(error.to_string().contains("(out of CLOSIDs)"), "{error}");
    empty(&root.join("gold"));
    let group = Group {
        made: vec![root.join("gold")],
        ..Group::make(root, "c", &plan(Some("gold"), &[])).unwrap()
    };
    let mut group = group;
    group.undo();
    assert!(!root.join("gold").exists());
}

#[test]
fn the_mount_is_found_by_its_type() {
    let table = b"30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n\
                 41 25 0:37 / /mnt/cache\\040groups rw,relatime shared:20 - resctrl resctrl rw\n";
    assert_eq!(find_mount(table), Some(PathBuf::from("/mnt/cache groups")));
    assert_eq!(
        find_mount(b"1 2 0:1 / /resctrl rw - tmpfs resctrl rw\n"),
        None
    );
}
