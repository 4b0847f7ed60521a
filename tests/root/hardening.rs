//! What a hostile image, a strange host or a careless caller must not get: requirements that no other topic's tests see.
//! `conformance/security/requirements.md` says which test stands for which.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Bundle, Cx, Output, eventually, tests};

tests! {
    host nothing_of_the_old_root_is_left;
    host without_pivot_the_hosts_proc_is_gone;
    host a_null_of_the_host_that_is_none = "runc 1.1.5 takes the container's";
    host a_mask_that_cannot_be_made;
    host a_mount_of_the_host_whose_name_is_no_text;
    host masked_directories_share_one_tmpfs = "runc has one since 1.5";
    host a_device_of_the_host_that_is_another = "runc 1.1.5 binds what is there";
    host hooks_get_no_descriptor_of_the_caller;
    host cve_2024_21626_a_preserved_descriptor_as_working_directory;
    host a_namespace_of_another_type = "another text";
    host ambient_capabilities_of_the_caller_end;
    host every_verb_checks_the_id;
    host a_link_in_the_state_root_is_no_container = "runc 1.1.5 follows it";
    host a_config_without_end = "runc has no limit";
    host a_reader_of_state_sees_all_or_nothing;
    host closed_stdio_is_the_null_device;
    host the_runtimes_death_ends_the_init = "the init of runc 1.1.5 stays where it waits";
    host many_sources_of_a_user_namespace_with_few_descriptors = "runc 1.1.5 takes a descriptor for each";
}

/// The runtime's verb in a shell of the host, with words before and behind it.
fn line(cx: &Cx, before: &str, rest: &str) -> Output {
    cx.host(&format!(
        "{before} {} --root {} {rest}",
        cx.runtime.display(),
        cx.root().display()
    ))
}

fn run_line(cx: &Cx, bundle: &Bundle, before: &str, flags: &str) -> Output {
    bundle.write();
    let rest = format!(
        "run --bundle {} {flags} {}",
        bundle.path.display(),
        bundle.id
    );
    line(cx, before, &rest)
}

/// M3: the table of mounts shows all that could be got at.
fn nothing_of_the_old_root_is_left(cx: &Cx) {
    let output = cx.sh("cat /proc/self/mountinfo", |_| ());
    let points: Vec<&str> = output
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert_eq!(
        points.iter().filter(|at| **at == "/").count(),
        1,
        "{output}"
    );
    let own = ["/proc", "/dev", "/sys"];
    for point in points.iter().filter(|at| **at != "/") {
        assert!(own.iter().any(|dir| point.starts_with(dir)), "{output}");
    }
}

/// The kernel makes a proc in a user namespace only where a whole one can be seen already: the container's own is masked, so it
/// is the host's that would let it.
fn without_pivot_the_hosts_proc_is_gone(cx: &Cx) {
    let mut bundle = cx.script(
        "unshare -U -m -p -f -r mount -t proc proc /mnt 2>/dev/null && echo a new proc; echo end",
    );
    bundle.set("/process/noNewPrivileges", json!(false));
    run_line(cx, &bundle, "", "--no-pivot").ok().prints("end");
}

/// K1: in a mount namespace whose null device is a file.
fn a_null_of_the_host_that_is_none(cx: &Cx) {
    let file = cx.file("null", "secret");
    let mut bundle = cx.script("cat /etc/passwd");
    bundle.set("/linux/maskedPaths", json!(["/etc/passwd"]));
    bundle.write();
    let rest = format!("run --bundle {} {}", bundle.path.display(), bundle.id);
    let output = cx.host(&format!(
        "exec unshare -m sh -c 'mount --bind {} /dev/null && exec {} --root {} {rest}'",
        file.display(),
        cx.runtime.display(),
        cx.root().display()
    ));
    assert!(
        output.code != 0 && !output.stdout.contains("secret"),
        "{output}"
    );
    output.says("linux.maskedPaths");
}

/// K2: not "it is not there".
fn a_mask_that_cannot_be_made(cx: &Cx) {
    let mut bundle = cx.script("true");
    symlink("loop", bundle.rootfs().join("etc/loop")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/loop"]));
    let output = cx.run(&bundle);
    assert_ne!(output.code, 0, "{output}");
}

/// The runtime reads the host's mount table, in which a name is any bytes.
fn a_mount_of_the_host_whose_name_is_no_text(cx: &Cx) {
    let place = cx.dir.join(OsStr::from_bytes(b"odd\xff name"));
    std::fs::create_dir(&place).unwrap();
    let shown = format!("{}/odd*name", cx.dir.display());
    cx.host(&format!("mount -t tmpfs tmpfs {shown}")).ok();
    let bundle = cx.script("echo fine");
    run_line(cx, &bundle, "", "").ok().prints("fine");
    run_line(cx, &bundle, "", "--no-pivot").ok().prints("fine");
    cx.host(&format!("umount {shown}")).ok();
}

fn masked_directories_share_one_tmpfs(cx: &Cx) {
    let paths = ["/vault/1", "/vault/2", "/vault/3"];
    let output = cx.sh("stat -c %d /vault/* | sort -u | wc -l", |b| {
        for path in paths {
            std::fs::create_dir_all(b.rootfs().join(&path[1..])).unwrap();
        }
        b.set("/linux/maskedPaths", json!(paths));
    });
    output.prints("1");
}

/// D1: a user namespace gets the host's node, which must be the one that was asked for.
fn a_device_of_the_host_that_is_another(cx: &Cx) {
    let mut bundle = cx.script("true");
    bundle.user_namespace();
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 11}]),
    );
    let output = cx.run(&bundle);
    assert_ne!(output.code, 0, "{output}");
    output.says("/dev/zero");
}

/// F2: they are the runtime's children as well.
fn hooks_get_no_descriptor_of_the_caller(cx: &Cx) {
    let secret = cx.file("secret", "secret");
    let list = cx.dir.join("list");
    let mut bundle = cx.script("true");
    for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
        let look = format!("ls -l /proc/self/fd >>{}", list.display());
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", look]}]);
        bundle.set(&format!("/hooks/{kind}"), hook);
    }
    bundle.write();
    let rest = format!(
        "run --bundle {} {} 5<{}",
        bundle.path.display(),
        bundle.id,
        secret.display()
    );
    line(cx, "exec", &rest).ok();
    let list = std::fs::read_to_string(list).unwrap();
    assert!(list.contains("pipe:") && !list.contains("secret"), "{list}");
}

/// W1: the one descriptor of the host that the container does get.
fn cve_2024_21626_a_preserved_descriptor_as_working_directory(cx: &Cx) {
    let mut bundle = cx.script("pwd; ls");
    for cwd in [
        "/proc/self/fd/3",
        "/proc/self/fd/3/etc",
        "/proc/self/fd/3/..",
    ] {
        bundle.set("/process/cwd", json!(cwd));
        bundle.write();
        let rest = format!(
            "run --preserve-fds 1 --bundle {} {} 3</",
            bundle.path.display(),
            bundle.id
        );
        let output = line(cx, "exec", &rest);
        assert!(output.code != 0 && output.stdout.is_empty(), "{output}");
    }
    let container = cx.start(&cx.named_bundle("running"));
    let rest = format!(
        "exec --preserve-fds 1 --cwd /proc/self/fd/3 {} pwd 3</",
        container.id
    );
    let output = line(cx, "exec", &rest);
    assert!(output.code != 0 && output.stdout.is_empty(), "{output}");
    container.end();
}

/// U5: told before anything is made.
fn a_namespace_of_another_type(cx: &Cx) {
    for (path, words) in [
        ("/proc/self/ns/uts", "is a namespace of another type"),
        ("/etc/passwd", "is not a namespace"),
    ] {
        let mut bundle = cx.named_bundle(words.rsplit(' ').next().unwrap());
        bundle.args(&["true"]);
        bundle.without_namespace("network");
        bundle.push(
            "/linux/namespaces",
            json!({"type": "network", "path": path}),
        );
        let output = cx.run(&bundle);
        assert_ne!(output.code, 0, "{output}");
        output.says(words);
    }
}

/// C3: with the capability still permitted and inheritable, which alone does not take it away.
fn ambient_capabilities_of_the_caller_end(cx: &Cx) {
    let mut bundle = cx.script("grep CapAmb /proc/self/status");
    let one = ["CAP_NET_RAW"];
    bundle.capabilities(&one);
    bundle.set("/process/capabilities/inheritable", json!(one));
    let before = "exec setpriv --inh-caps +net_raw --ambient-caps +net_raw";
    let output = run_line(cx, &bundle, before, "").ok();
    assert!(output.text().ends_with("0000000000000000"), "{output}");
}

/// S1: before a path is made of it.
fn every_verb_checks_the_id(cx: &Cx) {
    let outside = cx.dir.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("state.json"), "{}").unwrap();
    std::fs::create_dir_all(cx.root()).unwrap();
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let verbs: &[&[&str]] = &[
        &["create", "--bundle", path],
        &["run", "--bundle", path],
        &["start"],
        &["state"],
        &["kill"],
        &["delete"],
        &["delete", "--force"],
        &["exec"],
        &["pause"],
        &["resume"],
        &["ps"],
        &["events", "--stats"],
        &["update", "--pids-limit", "5"],
        &["mounts", "list"],
    ];
    for verb in verbs {
        for id in ["../outside", ".", "..", "a/b", "a b", "a\nb", "\u{e4}"] {
            let mut args = verb.to_vec();
            args.push(id);
            if verb[0] == "exec" {
                args.push("true");
            }
            let output = cx.call(&args);
            assert_ne!(output.code, 0, "{output}");
            if cx.is_rundlet() {
                output.says("invalid container id");
            }
        }
    }
    assert!(outside.join("state.json").exists());
}

/// S2: as if the directory it leads to were a container's.
fn a_link_in_the_state_root_is_no_container(cx: &Cx) {
    let container = cx.sleeper();
    let real = cx.root().join(&container.id);
    let outside = cx.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::copy(real.join("state.json"), outside.join("state.json")).unwrap();
    symlink(&outside, cx.root().join("link")).unwrap();
    for args in [
        &["state", "link"][..],
        &["kill", "link", "KILL"],
        &["delete", "--force", "link"],
        &["exec", "link", "true"],
    ] {
        let output = cx.call(args);
        assert_ne!(output.code, 0, "{output}");
    }
    assert!(outside.join("state.json").exists());
    assert_eq!(container.status(), "running");
    let listed = cx.call(&["list", "-q"]).ok();
    assert!(!listed.stdout.contains("link"), "{listed}");
    std::fs::remove_file(cx.root().join("link")).unwrap();
    container.end();
}

/// V1: a file of zeros, far larger than any config.
fn a_config_without_end(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let config = bundle.path.join("config.json");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&config)
        .unwrap();
    file.set_len(200 << 20).unwrap();
    let id = &bundle.id;
    let output = cx.call(&["create", "--bundle", bundle.path.to_str().unwrap(), id]);
    assert_ne!(output.code, 0, "{output}");
    output.says("is larger than");
}

/// Z1: by somebody who does not stop reading.
fn a_reader_of_state_sees_all_or_nothing(cx: &Cx) {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let stop = AtomicBool::new(false);
    let read = AtomicUsize::new(0);
    let container = cx.sleeper();
    let file = cx.root().join(&container.id).join("state.json");
    let torn = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut torn = 0;
            while !stop.load(Ordering::Relaxed) {
                if let Ok(text) = std::fs::read(&file) {
                    torn += usize::from(text.last() != Some(&b'}'));
                    read.fetch_add(1, Ordering::Relaxed);
                }
            }
            torn
        });
        for limit in 0..60 {
            let limit = (100 + limit).to_string();
            cx.call(&["update", "--pids-limit", &limit, &container.id]);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    eventually("the reader has read", 1, || {
        read.load(Ordering::Relaxed) > 0
    });
    assert_eq!(torn, 0, "of {} readings", read.load(Ordering::Relaxed));
    container.end();
}

/// F1: and nothing that the runtime has opened.
fn closed_stdio_is_the_null_device(cx: &Cx) {
    let bundle = cx.script(
        "found=$(for n in 0 1 2; do readlink /proc/1/fd/$n; done); echo \"$found\" >/mnt/list",
    );
    bundle.write();
    for (closed, count) in [("<&-", 1), ("<&- >&-", 2), ("<&- >&- 2>&-", 3)] {
        let rest = format!(
            "run --bundle {} {} {closed}",
            bundle.path.display(),
            bundle.id
        );
        line(cx, "exec", &rest).ok();
        let list = std::fs::read_to_string(bundle.rootfs().join("mnt/list")).unwrap();
        let found: Vec<&str> = list.lines().collect();
        assert_eq!(found.len(), 3, "{closed}: {list}");
        let null = found.iter().take(count).all(|link| *link == "/dev/null");
        assert!(null, "{closed}: {list}");
    }
}

/// M6: they wait in the kernel for the process that is in the user namespace.
fn many_sources_of_a_user_namespace_with_few_descriptors(cx: &Cx) {
    let mut bundle = cx.script("grep -c ' /mnt/' /proc/mounts");
    let source = cx.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    bundle.user_namespace();
    bundle.set("/process/rlimits", json!([]));
    for number in 0..200 {
        // The mapped root may not make them.
        std::fs::create_dir(bundle.rootfs().join(format!("mnt/{number}"))).unwrap();
        bundle.bind(&source, &format!("/mnt/{number}"), &["ro"]);
    }
    run_line(cx, &bundle, "ulimit -n 64; exec", "")
        .ok()
        .prints("200");
}

/// X4: by itself, with nobody to delete it.
fn the_runtimes_death_ends_the_init(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mark = cx.dir.join("mark");
    let hook = format!(": >{}; exec sleep 1000", mark.display());
    bundle.set(
        "/hooks/createRuntime",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", hook]}]),
    );
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let mut running = cx.spawn(cx.command(&["create", "--bundle", path, &bundle.id]));
    eventually("the hook runs", 10, || mark.exists());
    let inits = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.contains("(rundlet:[init]) ") && !stat.contains(") Z ")
        })
        .count()
    };
    assert_eq!(inits(), 1);
    running.child.kill().unwrap();
    running.wait();
    eventually("the init has ended", 10, || inits() == 0);
    cx.call(&["delete", "--force", &bundle.id]).ok();
    // What a hook leaves is its own.
    cx.host("kill -9 $(pidof sleep)");
}
