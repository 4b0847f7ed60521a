//! Overlays, copies, cgroups, user namespaces, and many mounts.

use super::*;

#[test]
fn a_thousand_binds_with_few_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if !is_root("a_thousand_binds_with_few_descriptors") {
        return;
    }
    let mounts: Vec<String> = (0..1000)
        .map(|n| format!(r#"{{"destination":"/m/{n}","source":"host/f","options":["bind","ro"]}}"#))
        .collect();
    let mounts = format!("[{PROC},{}]", mounts.join(","));
    for (namespaces, flags) in [
        (&["mount", "pid"][..], MNT),
        (
            &["mount", "pid", "user"][..],
            MNT | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID,
        ),
    ] {
        let bundle = Bundle::new();
        fs::write(bundle.path("host/f"), "x").unwrap();
        let plan = bundle.plan(namespaces, &mounts, "", "");
        // The limit is for this forked process: the harness keeps its own.
        let got = in_child(CloneFlags::empty(), || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, 64, hard)?;
            nix::unistd::chown(
                &bundle.path("rootfs"),
                Some(100_000.into()),
                Some(100_000.into()),
            )?;
            let table = run(&plan, flags, mountinfo).map_err(anyhow::Error::msg)?;
            Ok(table
                .lines()
                .filter(|line| line.contains(" /m/"))
                .count()
                .to_string())
        });
        assert_eq!(got.as_deref(), Ok("1000"), "{namespaces:?}");
    }
}

#[test]
fn a_user_namespace_gets_the_hosts_devices_and_volumes() {
    if !is_root("a_user_namespace_gets_the_hosts_devices_and_volumes") {
        return;
    }
    let bundle = Bundle::new();
    // A volume that the mapped root cannot walk to.
    fs::create_dir_all(bundle.path("private/vol")).unwrap();
    fs::write(bundle.path("private/vol/f"), "volume").unwrap();
    fs::set_permissions(bundle.path("private"), fs::Permissions::from_mode(0o700)).unwrap();
    nix::unistd::chown(
        &bundle.path("rootfs"),
        Some(100_000.into()),
        Some(100_000.into()),
    )
    .unwrap();
    let vol =
        r#"{"destination":"/vol","source":"private/vol","options":["rbind","ro","rprivate"]}"#;
    let mounts = DEFAULT.replacen('[', &format!("[{vol},"), 1);
    let linux = format!(
        r#"{GUARDS},"uidMappings":[{{"hostID":100000,"containerID":0,"size":65536}}],
           "gidMappings":[{{"hostID":100000,"containerID":0,"size":65536}}]"#
    );
    let plan = bundle.plan(
        &["mount", "pid", "network", "ipc", "user"],
        &mounts,
        &linux,
        "",
    );
    let table = run(&plan, all() | CloneFlags::CLONE_NEWUSER, || {
        ensure!(fs::read("/vol/f")? == b"volume");
        fs::write("/dev/null", "x").context("/dev/null")?;
        ensure!(fs::metadata("/dev/null")?.rdev() == 0x103);
        ensure!(fs::read("/proc/keys")?.is_empty());
        mountinfo()
    })
    .unwrap();
    assert!(options(&table, "/vol").0.starts_with("ro,"), "{table}");
    assert!(table.contains(" /dev/urandom "), "{table}");
    if std::env::var_os("SHOW_MOUNTINFO").is_some() {
        println!("{table}");
    }
}

#[test]
fn an_overlay_leaves_the_image_untouched() {
    if !is_root("an_overlay_leaves_the_image_untouched") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("top")).unwrap();
    fs::write(bundle.path("top/layer"), "top").unwrap();
    fs::set_permissions(bundle.path("top"), fs::Permissions::from_mode(0o751)).unwrap();
    let before = names(bundle.path("rootfs").to_str().unwrap()).unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.lower":"top:rootfs"}"#;
    let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, GUARDS, note);
    let look = || {
        ensure!(fs::read("/layer")? == b"top");
        fs::write("/etc/hostname", "changed")?;
        fs::write("/new", "")?;
        ensure!(fs::metadata("/")?.mode() & 0o7777 == 0o751);
        mountinfo()
    };
    let table = run(&plan, all(), look).unwrap();
    assert!(
        table.contains(" / / rw,relatime - overlay overlay "),
        "{table}"
    );
    assert_eq!(
        names(bundle.path("rootfs").to_str().unwrap()).unwrap(),
        before
    );
    assert_eq!(
        fs::read(bundle.path("rootfs/etc/hostname")).unwrap(),
        b"image"
    );
    // With directories of its own the upper layer is kept.
    fs::create_dir(bundle.path("up")).unwrap();
    fs::create_dir(bundle.path("work")).unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.upper":"up","org.rundlet.rootfs.overlay.work":"work"}"#;
    let plan = bundle.plan(&PLAIN, "[]", "", note);
    run(&plan, MNT, || {
        fs::write("/etc/hostname", "kept")
            .map(|()| String::new())
            .context("write")
    })
    .unwrap();
    assert_eq!(fs::read(bundle.path("up/etc/hostname")).unwrap(), b"kept");
    // In a user namespace.
    nix::unistd::chown(
        &bundle.path("rootfs"),
        Some(100_000.into()),
        Some(100_000.into()),
    )
    .unwrap();
    let note = r#","annotations":{"org.rundlet.rootfs.overlay.lower":""}"#;
    let plan = bundle.plan(&["mount", "pid", "user"], "[]", "", note);
    let flags = MNT | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUSER;
    run(&plan, flags, || {
        fs::write("/new", "")
            .map(|()| String::new())
            .context("write")
    })
    .unwrap();
    assert!(!bundle.path("rootfs/new").exists());
}

#[test]
fn many_layers_of_a_mount() {
    if !is_root("many_layers_of_a_mount") {
        return;
    }
    let bundle = Bundle::new();
    let layers: Vec<String> = (0..40)
        .map(|n| {
            let layer = bundle.path(&format!("layer-{n}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(n.to_string()), "").unwrap();
            layer.display().to_string()
        })
        .collect();
    let mounts = format!(
        r#"[{{"destination":"/o","type":"overlay","source":"overlay","options":["ro","lowerdir={}"]}}]"#,
        layers.join(":")
    );
    let plan = bundle.plan(&PLAIN, &mounts, "", "");
    let got = run(&plan, MNT, || Ok(names("/o")?.len().to_string()));
    assert_eq!(got.as_deref(), Ok("40"));
}

#[test]
fn tmpcopyup_copies_what_it_covers() {
    if !is_root("tmpcopyup_copies_what_it_covers") {
        return;
    }
    let bundle = Bundle::new();
    let data = bundle.path("rootfs/data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o710)).unwrap();
    fs::write(data.join("sub/file"), "content").unwrap();
    fs::set_permissions(data.join("sub/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    nix::unistd::chown(&data.join("sub"), Some(12.into()), Some(34.into())).unwrap();
    symlink(bundle.path("host"), data.join("out")).unwrap();
    nix::unistd::mkfifo(&data.join("fifo"), FILE_MODE).unwrap();
    let mounts = r#"[{"destination":"/data","type":"tmpfs","options":["tmpcopyup","ro"]}]"#;
    let plan = bundle.plan(&PLAIN, mounts, "", "");
    let out = bundle.path("host");
    run(&plan, MNT, move || {
        ensure!(fs::read("/data/sub/file")? == b"content");
        ensure!(fs::metadata("/data/sub/file")?.mode() & 0o7777 == 0o4755);
        ensure!(fs::metadata("/data")?.mode() & 0o7777 == 0o710);
        ensure!(
            (
                fs::metadata("/data/sub")?.uid(),
                fs::metadata("/data/sub")?.gid()
            ) == (12, 34)
        );
        ensure!(fs::read_link("/data/out")? == out);
        ensure!(fs::symlink_metadata("/data/fifo")?.file_type().is_fifo());
        ensure!(fs::write("/data/x", "").is_err(), "ro");
        Ok(String::new())
    })
    .unwrap();
}

/// Runs with a cgroup mount; `look` gets the table of mounts.
fn run_cgroup(bundle: &Bundle, namespaced: bool, cgroups: &CgroupMounts) -> Result<String, String> {
    let list: &[&str] = if namespaced {
        &["mount", "pid", "cgroup"]
    } else {
        &PLAIN
    };
    let cgroup = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup",
        "options":["nosuid","noexec","nodev","relatime","ro"]}"#;
    let plan = bundle.plan(list, &format!("[{PROC},{cgroup}]"), "", "");
    let flags = if namespaced {
        MNT | CloneFlags::CLONE_NEWCGROUP
    } else {
        MNT
    };
    in_child(flags, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let root = prepare(&plan, Sources::default(), Some(cgroups), &mut || Ok(()))?;
        root.pivot(&plan, RootChange::Pivot)?;
        root.finish(&plan)?;
        ensure!(
            fs::create_dir("/sys/fs/cgroup/x").is_err(),
            "the top can be written"
        );
        Ok(format!(
            "{}\n{}",
            names("/sys/fs/cgroup")?.join(" "),
            mountinfo()?
        ))
    })
}

#[test]
fn cgroup_mounts() {
    if !is_root("cgroup_mounts") {
        return;
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = |fstype: &str, option: &str| {
        table.lines().find_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let found = back.starts_with(&format!("{fstype} "))
                && back.split([',', ' ']).any(|word| word == option);
            found.then(|| PathBuf::from(front.split(' ').nth(4).unwrap_or_default()))
        })
    };
    let bundle = Bundle::new();
    let got = run_cgroup(&bundle, true, &CgroupMounts::Unavailable).unwrap();
    assert_eq!(got.lines().next(), Some(""), "{got}");
    if let Some(path) = point("cgroup2", "rw") {
        for namespaced in [true, false] {
            let got = run_cgroup(
                &bundle,
                namespaced,
                &CgroupMounts::V2 { path: path.clone() },
            )
            .unwrap();
            assert!(got.contains(" cgroup.procs "), "{got}");
            assert_eq!(
                options(&got, "/sys/fs/cgroup").0,
                "ro,nosuid,nodev,noexec,relatime"
            );
        }
    } else {
        println!("cgroup_mounts: no cgroup2 mount here, that part is skipped");
    }
    let (Some(pids), Some(systemd)) = (point("cgroup", "pids"), point("cgroup", "name=systemd"))
    else {
        println!("cgroup_mounts: no cgroup v1 hierarchies here, that part is skipped");
        return;
    };
    let hierarchies = [("pids", "pids", pids), ("name=systemd", "systemd", systemd)];
    let hierarchies = hierarchies.map(|(options, name, path)| plan::mounts::V1Hierarchy {
        options: options.to_owned(),
        name: name.to_owned(),
        mountpoint: path.clone(),
        path,
    });
    for namespaced in [true, false] {
        let v1 = CgroupMounts::V1 {
            hierarchies: hierarchies.to_vec(),
        };
        let got = run_cgroup(&bundle, namespaced, &v1).unwrap();
        assert!(got.starts_with("pids systemd\n"), "{got}");
        for point in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/systemd",
        ] {
            assert!(
                options(&got, point).0.starts_with("ro,nosuid,nodev,noexec"),
                "{point}: {got}"
            );
        }
        assert!(got.contains(" - cgroup cgroup "), "{got}");
    }
}
