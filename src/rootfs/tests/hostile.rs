//! Roots and neighbours that try to get out: the holes of other runtimes, one by one .

use super::*;

#[test]
fn a_hostile_dev_link_makes_nothing_on_the_host() {
    if !is_root("a_hostile_dev_link_makes_nothing_on_the_host") {
        return;
    }
    let bundle = Bundle::new();
    let host = bundle.path("host");
    fs::write(host.join("ptmx"), "precious").unwrap();
    // Once absolute, once by way of the parents: CVE-2026-41579, CVE-2026-47766, D1.
    for target in [host.clone(), Path::new("../host").to_owned()] {
        let dev = bundle.path("rootfs/dev");
        let _ = fs::remove_file(&dev);
        symlink(&target, &dev).unwrap();
        let plan = bundle.plan(&PLAIN, "[]", "", "");
        let got = run(&plan, MNT, || names("/dev").map(|names| names.join(" ")));
        assert_eq!(names(host.to_str().unwrap()).unwrap(), ["ptmx"]);
        assert_eq!(fs::read(host.join("ptmx")).unwrap(), b"precious");
        assert!(got.unwrap().contains("null"));
    }
}

#[test]
fn what_is_in_the_place_of_a_device_is_not_trusted() {
    if !is_root("what_is_in_the_place_of_a_device_is_not_trusted") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/dev")).unwrap();
    fs::write(bundle.path("host/file"), "precious").unwrap();
    symlink(bundle.path("host/file"), bundle.path("rootfs/dev/null")).unwrap();
    fs::write(bundle.path("rootfs/dev/zero"), "fake").unwrap();
    nix::unistd::mkfifo(&bundle.path("rootfs/dev/full"), FILE_MODE).unwrap();
    // A mount of the config in the place of a default device stays.
    let mounts = r#"[{"destination":"/dev/random","source":"/dev/urandom","options":["bind"]}]"#;
    let plan = bundle.plan(&PLAIN, mounts, "", "");
    run(&plan, MNT, || {
        for (name, device) in [
            ("null", 0x103),
            ("zero", 0x105),
            ("full", 0x107),
            ("random", 0x109),
        ] {
            let stat = fs::symlink_metadata(Path::new("/dev").join(name))?;
            ensure!(stat.rdev() == device, "{name}: {:#x}", stat.rdev());
        }
        Ok(String::new())
    })
    .unwrap();
    assert_eq!(fs::read(bundle.path("host/file")).unwrap(), b"precious");
    assert_eq!(
        fs::metadata(bundle.path("host/file")).unwrap().mode() & 0o777,
        0o644
    );
    fs::remove_file(bundle.path("rootfs/dev/tty")).unwrap();
    fs::create_dir(bundle.path("rootfs/dev/tty")).unwrap();
    let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
    assert!(error.contains("/dev/tty"), "{error}");
}

#[test]
fn proc_and_sys_must_be_real_directories() {
    if !is_root("proc_and_sys_must_be_real_directories") {
        return;
    }
    // CVE-2019-19921, CVE-2023-28642, CVE-2025-54867: P5.
    let cases = [
        ("proc", "etc", PROC),
        ("proc", "/nowhere", PROC),
        ("sys", "etc", r#"{"destination":"//sys/","type":"sysfs"}"#),
        (
            "sys",
            "etc",
            r#"{"destination":"/sys","source":"/sys","options":["rbind"]}"#,
        ),
        (
            "proc",
            "etc",
            r#"{"destination":"/proc/uptime","source":"/etc/hostname","options":["bind"]}"#,
        ),
    ];
    for (name, target, mount) in cases {
        let bundle = Bundle::new();
        symlink(target, bundle.path("rootfs").join(name)).unwrap();
        let plan = bundle.plan(&PLAIN, &format!("[{mount}]"), "", "");
        let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
        assert!(
            error.starts_with("mounts[0]: ") && error.contains("symbolic link"),
            "{error}"
        );
    }
}

#[test]
fn a_link_into_proc_is_no_target() {
    if !is_root("a_link_into_proc_is_no_target") {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/proc")).unwrap();
    symlink("/proc/sys", bundle.path("rootfs/data")).unwrap();
    let bind = r#"{"destination":"/data/kernel","source":"/etc","options":["bind"]}"#;
    let plan = bundle.plan(&PLAIN, &format!("[{PROC},{bind}]"), "", "");
    let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
    assert!(
        error.starts_with("mounts[1]: ") && error.contains("into `/proc`"),
        "{error}"
    );
    // The same behind so many others that their file system is known by now.
    let other =
        |index| format!(r#"{{"destination":"/mnt/{index}","source":"/etc","options":["bind"]}}"#);
    let others: Vec<_> = (0..40).map(other).collect();
    let plan = bundle.plan(
        &PLAIN,
        &format!("[{PROC},{},{bind}]", others.join(",")),
        "",
        "",
    );
    let error = run(&plan, MNT, || Ok(String::new())).unwrap_err();
    assert!(
        error.starts_with("mounts[41]: ") && error.contains("into `/proc`"),
        "{error}"
    );
    // A bind of something else on /proc, and of a procfs (P5).
    let other = r#"[{"destination":"/proc","source":"/etc","options":["bind"]}]"#;
    let error = run(&bundle.plan(&PLAIN, other, "", ""), MNT, || {
        Ok(String::new())
    })
    .unwrap_err();
    assert!(error.contains("only a proc"), "{error}");
    let host = r#"[{"destination":"/proc","source":"/proc","options":["rbind"]}]"#;
    run(&bundle.plan(&PLAIN, host, "", ""), MNT, mountinfo).unwrap();
}

#[test]
fn hostile_targets_stay_in_the_root() {
    if !is_root("hostile_targets_stay_in_the_root") {
        return;
    }
    // CVE-2021-30465, CVE-2024-45310: P1.
    let bundle = Bundle::new();
    symlink("../../../../../../../..", bundle.path("rootfs/up")).unwrap();
    symlink(bundle.path("host"), bundle.path("rootfs/abs")).unwrap();
    symlink("/proc/self/root/host", bundle.path("rootfs/magic")).unwrap();
    let escape = bundle.path("host").display().to_string();
    let mounts = format!(
        r#"[{PROC},
        {{"destination":"/up{escape}/made","type":"tmpfs"}},
        {{"destination":"/abs/dir","type":"tmpfs"}},
        {{"destination":"/abs/file","source":"/etc/passwd","options":["bind"]}}]"#
    );
    let plan = bundle.plan(&PLAIN, &mounts, "", "");
    let got = run(&plan, MNT, mountinfo).unwrap();
    assert!(names(&escape).unwrap().is_empty());
    assert_eq!(
        got.lines()
            .filter(|line| line.contains(&format!(" {escape}/")))
            .count(),
        3,
        "{got}"
    );
    let magic = format!(r#"[{PROC},{{"destination":"/magic/x","type":"tmpfs"}}]"#);
    let error = run(&bundle.plan(&PLAIN, &magic, "", ""), MNT, || {
        Ok(String::new())
    })
    .unwrap_err();
    assert!(error.contains("mounts[1]"), "{error}");
    assert!(names(&escape).unwrap().is_empty());
}

#[test]
fn a_mask_is_the_hosts_null_device() {
    if !is_root("a_mask_is_the_hosts_null_device") {
        return;
    }
    // CVE-2025-31133: neither a link, nor a file, nor nothing in the container's /dev/null matters.
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("rootfs/dev")).unwrap();
    fs::write(bundle.path("rootfs/secret"), "secret").unwrap();
    fs::write(bundle.path("rootfs/evil"), "evil").unwrap();
    fs::write(bundle.path("rootfs/second"), "secret").unwrap();
    fs::create_dir(bundle.path("rootfs/more")).unwrap();
    fs::write(bundle.path("rootfs/more/x"), "secret").unwrap();
    symlink("/evil", bundle.path("rootfs/dev/null")).unwrap();
    let mounts = r#"[{"destination":"/dev","source":"rootfs/dev","options":["bind"]}]"#;
    let linux = r#","maskedPaths":["/secret","/etc","/second","/more","/etc/below","/secret/below","/etc","/none"]"#;
    let plan = bundle.plan(&PLAIN, mounts, linux, "");
    assert!(plan.nodes.is_none());
    run(&plan, MNT, || {
        ensure!(fs::metadata("/secret")?.rdev() == 0x103);
        ensure!(fs::read("/secret")?.is_empty());
        ensure!(names("/etc")?.is_empty());
        ensure!(fs::metadata("/second")?.rdev() == 0x103);
        ensure!(names("/more")?.is_empty());
        ensure!(fs::write("/etc/x", "").is_err());
        ensure!(fs::read("/evil")? == b"evil");
        Ok(String::new())
    })
    .unwrap();
}

#[test]
fn a_mask_without_a_null_device_is_an_error() {
    // K2: whatever the reason, only a missing target is passed over.
    let bundle = Bundle::new();
    let root = pivot::open_directory(&bundle.path("rootfs")).unwrap();
    let mut masks = mask::Masks::new(None, None);
    let mut mask = |path: &str| masks.mask(root.as_fd(), Path::new(path));
    assert!(mask("/etc/none").is_ok());
    let error = mask("/etc/hostname").unwrap_err();
    assert!(error.to_string().contains("no null device"), "{error}");
}

#[test]
fn without_mounts_of_its_own_the_host_keeps_its_mounts() {
    if !is_root("without_mounts_of_its_own_the_host_keeps_its_mounts") {
        return;
    }
    // M5: the namespace stands for the host; nothing in it may change.
    let bundle = Bundle::new();
    let plan = bundle.plan(&["pid"], "[]", "", "");
    in_child(MNT, || {
        let before = mountinfo()?;
        // Opened before chroot(2), it goes on to show all mounts of the namespace.
        let mut table = fs::File::open("/proc/self/mountinfo")?;
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let root = prepare(&plan, Sources::open(&plan, None)?, None, &mut || Ok(()))?;
        root.pivot(&plan, RootChange::Pivot)?;
        root.finish(&plan)?;
        ensure!(fs::read("/etc/hostname")? == b"image");
        let mut after = String::new();
        std::io::Read::read_to_string(&mut table, &mut after)?;
        ensure!(before == after, "mounts changed:\n{before}\n{after}");
        Ok(String::new())
    })
    .unwrap();
    assert!(bundle.path("rootfs/dev/null").exists());
}

#[test]
fn nothing_reaches_a_shared_host() {
    if !is_root("nothing_reaches_a_shared_host") {
        return;
    }
    // The outer namespace plays a host on which all is shared, as systemd makes it.
    let bundle = Bundle::new();
    for word in ["", "private", "slave", "shared", "rshared", "unbindable"] {
        let linux = match word {
            "" => String::new(),
            word => format!(r#","rootfsPropagation":"{word}""#),
        };
        let plan = bundle.plan(&["mount", "pid", "network", "ipc"], DEFAULT, &linux, "");
        let got = in_child(MNT, || {
            let slash = pivot::open_directory(Path::new("/"))?;
            let shared = Attr {
                propagation: libc::MS_SHARED,
                ..Attr::default()
            };
            set_attr(
                slash.as_fd(),
                Depth::Recursive,
                Attr {
                    propagation: libc::MS_PRIVATE,
                    ..shared
                },
            )?;
            set_attr(slash.as_fd(), Depth::Recursive, shared)?;
            let before = mountinfo()?;
            run(&plan, all(), mountinfo).map_err(anyhow::Error::msg)?;
            ensure!(before == mountinfo()?, "the host's mounts changed");
            Ok(String::new())
        });
        assert_eq!(got.as_deref(), Ok(""), "{word}");
    }
}

#[test]
fn a_target_exchanged_all_the_time_stays_in_the_root() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    use std::sync::atomic::{AtomicBool, Ordering};
    if !is_root("a_target_exchanged_all_the_time_stays_in_the_root") {
        return;
    }
    // CVE-2021-30465, CVE-2024-45310: a neighbour that shares the volume swaps a directory for a link to the host.
    let bundle = Bundle::new();
    let (real, link) = (bundle.path("rootfs/vol"), bundle.path("rootfs/link"));
    fs::create_dir(&real).unwrap();
    symlink(bundle.path("host"), &link).unwrap();
    let mounts = r#"[{"destination":"/vol/a/b","type":"tmpfs"},{"destination":"/vol/c/f","source":"/etc/passwd","options":["bind"]}]"#;
    let plan = bundle.plan(
        &PLAIN,
        mounts,
        r#","devices":[{"path":"/vol/d/null","type":"c","major":1,"minor":3}]"#,
        "",
    );
    let stop = AtomicBool::new(false);
    let mut done = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                let _ = renameat2(AT_FDCWD, &real, AT_FDCWD, &link, flags);
            }
        });
        for _ in 0..60 {
            done += i32::from(run(&plan, MNT, || Ok(String::new())).is_ok());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        names(bundle.path("host").to_str().unwrap())
            .unwrap()
            .is_empty()
    );
    assert!(done > 0);
}
