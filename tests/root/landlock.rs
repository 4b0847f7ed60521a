//! `org.rundlet.landlock.*`: what the program of a container, and what `exec` adds, may do to files, ports and other processes.

use std::os::unix::fs::symlink;

use nix::errno::Errno;
use serde_json::json;

use crate::support::older::refuse;
use crate::support::{Bundle, Container, Cx, tests};

tests! {
    both files_are_as_the_rules_say = "runc has no Landlock";
    host exec_is_under_the_rules = "runc has no Landlock";
    host ports_are_as_the_rules_say = "runc has no Landlock";
    host signals_stay_inside = "runc has no Landlock";
    host any_user_and_filter = "runc has no Landlock";
    host in_a_user_namespace = "runc has no Landlock";
    host a_mount_has_the_rules_of_its_place = "runc has no Landlock";
    host of_a_user_without_rights = "runc has no Landlock";
    host a_kernel_that_lacks_it = "runc has no Landlock";
    host mistakes_are_refused = "runc has no Landlock";
    host links_and_missing_files = "runc has no Landlock";
    host what_may_not_be_executed_is_not_created = "runc has no Landlock";
    host it_is_shown_before = "runc has no Landlock";
    host there_is_no_checkpoint = "runc has no Landlock";
}

const PREFIX: &str = "org.rundlet.landlock.";

fn rules(bundle: &mut Bundle, rules: &[(&str, &str)]) {
    for (key, value) in rules {
        bundle.config["annotations"][format!("{PREFIX}{key}")] = json!(value);
    }
}

/// Enough for a shell, and /tmp to write to.
const USUAL: [(&str, &str); 2] = [("fs.ro", "/bin:/etc"), ("fs.rw", "/tmp:/dev")];

fn needs_landlock(cx: &Cx) {
    let doctor = cx.call(&["doctor"]).stdout;
    let has = words(&doctor).contains("ok Landlock version");
    if cx.is_rundlet() && !has {
        cx.skip("a kernel without Landlock");
    }
}

const FILES: &str = "cat /etc/secret; echo x >/etc/secret || echo no-write; echo x >/etc/new || echo no-new; \
    rm -f /etc/secret || echo no-rm; ls /root || echo no-list; cat /root/f || echo no-read; \
    echo x >/root/f || echo no-root; echo kept >/tmp/f && mv /tmp/f /tmp/g && cat /tmp/g && rm /tmp/g && ls /tmp; \
    ln -s /root/f /tmp/l && cat /tmp/l || echo no-link; echo x >/dev/null && echo dev";
const FILES_SEEN: &str = "read-me no-write no-new no-rm no-list no-read no-root kept no-link dev";

fn with_files(cx: &Cx, name: &str) -> Bundle {
    let bundle = cx.named_bundle(name);
    std::fs::write(bundle.rootfs().join("etc/secret"), "read-me\n").unwrap();
    std::fs::write(bundle.rootfs().join("root/f"), "hidden\n").unwrap();
    bundle
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn files_are_as_the_rules_say(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = with_files(cx, "c");
    bundle.sh(FILES);
    rules(&mut bundle, &USUAL);
    let output = cx.run(&bundle).ok();
    assert_eq!(words(&output.stdout), FILES_SEEN, "{output}");
    // Without the annotations the same script does all of it.
    let mut bundle = with_files(cx, "d");
    bundle.sh(FILES);
    let output = cx.run(&bundle).ok();
    assert!(!output.stdout.contains("no-"), "{output}");
}

fn exec_is_under_the_rules(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = with_files(cx, "c");
    rules(&mut bundle, &USUAL);
    let container = cx.start(&bundle);
    let output = container.exec_sh(FILES).ok();
    assert_eq!(words(&output.stdout), FILES_SEEN, "{output}");
    // Nor does a process.json lead out, or a shell that is root with everything.
    let process = json!({"args": ["sh", "-c", "cat /root/f || echo no-read"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}});
    let file = cx.file("process.json", &process.to_string());
    let file = file.to_str().unwrap();
    let output = cx.call(&["exec", "--process", file, &container.id]).ok();
    assert_eq!(output.text(), "no-read", "{output}");
    container.end();
}

/// What trying to reach a port of the container's own loopback says: nobody listens there.
fn connects(container: &Container<'_>, port: u16) -> String {
    let script = format!("nc 127.0.0.1 {port} </dev/null 2>&1");
    container.exec_sh(&script).stdout
}

fn binds(container: &Container<'_>, port: u16) -> String {
    let script = format!("timeout 1 nc -l -p {port} </dev/null 2>&1");
    container.exec_sh(&script).stdout
}

fn ports_are_as_the_rules_say(cx: &Cx) {
    needs_landlock(cx);
    let denied = |text: String| text.contains("Permission denied");
    let mut bundle = cx.bundle();
    rules(
        &mut bundle,
        &[("net.bind", "8080,9000-9001"), ("net.connect", "443")],
    );
    let container = cx.start(&bundle);
    let seen = [8080, 9000, 9001, 8081, 443].map(|port| denied(binds(&container, port)));
    assert_eq!(seen, [false, false, false, true, true]);
    let text = connects(&container, 443);
    assert!(text.contains("Connection refused"), "{text}");
    assert!(denied(connects(&container, 80)) && denied(connects(&container, 8080)));
    // Files and signals are not restricted by rules about ports.
    container.exec_sh("echo x >/root/f && kill -0 1").ok();
    container.end();

    // One of the two alone; an empty list allows none.
    let mut bundle = cx.named_bundle("d");
    rules(&mut bundle, &[("net.connect", "")]);
    let container = cx.start(&bundle);
    assert!(denied(connects(&container, 443)));
    assert!(!denied(binds(&container, 8081)));
    container.end();
}

fn signals_stay_inside(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.bundle();
    rules(&mut bundle, &[("scope", "signal,abstract-unix-socket")]);
    let container = cx.start(&bundle);
    // What exec starts has the same rules, and is a world of its own.
    container
        .exec_sh("kill -0 1 2>&1 || echo refused")
        .ok()
        .has("refused");
    container
        .exec_sh("sleep 100 & kill $! && echo sent")
        .ok()
        .prints("sent");
    // The runtime is not under them.
    container.end();
}

/// Each order in which ids, capabilities, no_new_privs and the filter are set.
fn any_user_and_filter(cx: &Cx) {
    needs_landlock(cx);
    let filter: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/seccomp/docker.json")).unwrap();
    let mut without = filter.clone();
    for rule in without["syscalls"].as_array_mut().unwrap() {
        let names = rule["names"].as_array_mut().unwrap();
        names.retain(|name| !name.as_str().unwrap().starts_with("landlock_"));
    }
    let script = "id -u; echo $HOME; cat /root/f 2>&1 || cat /bin/mark";
    for (user, no_new_privs, filter) in [
        (0, false, None),
        (1000, false, None),
        (1000, true, None),
        (1000, false, Some(&filter)),
        (1000, true, Some(&filter)),
        // The container's filter need not let Landlock be called.
        (1000, false, Some(&without)),
        (1000, true, Some(&without)),
    ] {
        let mut bundle = cx.script(script);
        std::fs::write(bundle.rootfs().join("root/f"), "hidden\n").unwrap();
        std::fs::write(bundle.rootfs().join("bin/mark"), "confined\n").unwrap();
        std::fs::write(
            bundle.rootfs().join("etc/passwd"),
            "me:x:1000:1000::/home/me:/bin/sh\nroot:x:0:0::/root:/bin/sh\n",
        )
        .unwrap();
        bundle.set("/process/user", json!({"uid": user, "gid": user}));
        bundle.set("/process/noNewPrivileges", json!(no_new_privs));
        if let Some(filter) = filter {
            bundle.set("/linux/seccomp", filter.clone());
        }
        // Not /etc: HOME is found all the same.
        rules(&mut bundle, &[("fs.ro", "/bin")]);
        let output = cx.run(&bundle).ok();
        let home = if user == 0 { "/root" } else { "/home/me" };
        let seen = words(&output.stdout);
        assert!(seen.starts_with(&format!("{user} {home} ")), "{output}");
        assert!(seen.ends_with("Permission denied confined"), "{output}");
        std::fs::remove_dir_all(&bundle.path).unwrap();
    }
}

fn in_a_user_namespace(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.script("cat /etc/f; cat /root/f || echo closed");
    for place in ["etc/f", "root/f"] {
        std::fs::write(bundle.rootfs().join(place), "open\n").unwrap();
    }
    bundle.user_namespace();
    rules(&mut bundle, &USUAL);
    let output = cx.run(&bundle).ok();
    assert_eq!(words(&output.stdout), "open closed", "{output}");
}

/// What a running container is given as well.
fn a_mount_has_the_rules_of_its_place(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.bundle();
    rules(&mut bundle, &USUAL);
    let container = cx.start(&bundle);
    let volume = cx.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("f"), "seen\n").unwrap();
    let bind = |place: &str| json!({"destination": place, "source": volume, "options": ["bind"]});
    let list = json!([bind("/tmp/in"), bind("/etc/in"), bind("/mnt/in")]);
    let list = cx.file("list.json", &list.to_string());
    cx.call(&["mounts", "add", &container.id, list.to_str().unwrap()])
        .ok();
    let script = "cat /tmp/in/f /etc/in/f; echo x >/tmp/in/g && echo w; echo x >/etc/in/g || echo ro; cat /mnt/in/f || echo no";
    let output = container.exec_sh(script).ok();
    assert_eq!(words(&output.stdout), "seen seen w ro no", "{output}");
    container.end();
}

fn of_a_user_without_rights(cx: &Cx) {
    needs_landlock(cx);
    let user = cx.user();
    let mut bundle = cx.bundle();
    bundle.rootless();
    std::fs::write(bundle.rootfs().join("root/f"), "open\n").unwrap();
    rules(&mut bundle, &USUAL);
    let id = bundle.id.clone();
    user.create(&bundle).ok();
    user.call(&["start", &id]).ok();
    user.exec_sh(&id, "echo x >/tmp/f && cat /root/f || echo closed")
        .ok()
        .prints("closed");
    user.call(&["delete", "--force", &id]).ok();
    user.left_nothing();
}

/// An error, and with `best-effort` a warning.
fn a_kernel_that_lacks_it(cx: &Cx) {
    let mut bundle = cx.script("echo ran");
    let run = |bundle: &Bundle| {
        bundle.write();
        let mut command =
            cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
        // The question for the version has a size of 0.
        refuse(
            &mut command,
            libc::SYS_landlock_create_ruleset,
            0,
            Errno::EOPNOTSUPP,
        );
        cx.spawn(command).wait()
    };
    run(&bundle).ok().prints("ran");
    rules(&mut bundle, &USUAL);
    let lacks = "to restrict access to files needs Landlock version 5 (Linux 6.10), this kernel has no Landlock";
    run(&bundle).is(1).says(lacks).says("level=error");
    rules(&mut bundle, &[("compat", "best-effort")]);
    run(&bundle)
        .ok()
        .says(lacks)
        .says("level=warning")
        .prints("ran");
}

/// As it stands in a line of the log.
fn quoted(text: &str) -> String {
    text.replace('"', "\\\"")
}

fn mistakes_are_refused(cx: &Cx) {
    let mut bundle = cx.bundle();
    for (key, value, words) in [
        ("fs.ro", "etc", "`etc` is not an absolute path"),
        ("fs.write", "/", "no such annotation"),
        ("net.bind", "http", "neither a port nor a range"),
        (
            "scope",
            "files",
            "neither `abstract-unix-socket` nor `signal`",
        ),
        ("compat", "best-effort", "without a rule there is nothing"),
    ] {
        bundle.set("/annotations", json!({}));
        rules(&mut bundle, &[(key, value)]);
        let at = quoted(&format!("annotations[\"{PREFIX}{key}\"]: "));
        cx.try_create(&bundle).is(1).says(&at).says(words);
        cx.call(&["state", &bundle.id]).is(1).says("does not exist");
    }
}

fn links_and_missing_files(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.script("cat /root/f || echo closed");
    std::fs::write(bundle.rootfs().join("root/f"), "open\n").unwrap();
    symlink("/root", bundle.rootfs().join("data")).unwrap();
    for (path, reason) in [
        (
            "/data",
            "too many symbolic links encountered (hint: links are not followed",
        ),
        ("/data/f", "too many symbolic links encountered"),
        (
            "/missing",
            "no such file or directory (hint: the path is one of the container",
        ),
    ] {
        rules(&mut bundle, &[("fs.ro", &format!("/bin:{path}"))]);
        let at = quoted(&format!(
            "annotations[\"{PREFIX}fs.ro\"]: `{path}`: {reason}"
        ));
        cx.run(&bundle).is(1).says(&at);
    }
    // The image cannot widen what was meant, and one policy does for several images.
    rules(&mut bundle, &[("fs.ro", "/bin:-/data:-/missing")]);
    cx.run(&bundle).ok().prints("closed");
    // A file alone.
    rules(&mut bundle, &[("fs.ro", "/bin:/root/f")]);
    cx.run(&bundle).ok().prints("open");
}

fn what_may_not_be_executed_is_not_created(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.bundle();
    rules(&mut bundle, &[("fs.ro", "/etc")]);
    let output = cx.try_create(&bundle);
    if output.code == 0 {
        // Linux before 6.14 says so at the end only.
        cx.call(&["delete", "--force", &bundle.id]).ok();
        cx.skip("a kernel that cannot be asked");
    }
    output
        .is(1)
        .says("process.args[0]: exec `/bin/sleep` under Landlock: permission denied (hint: org.rundlet.landlock.fs.ro");
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

fn it_is_shown_before(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.bundle();
    rules(&mut bundle, &USUAL);
    rules(&mut bundle, &[("net.bind", "80"), ("scope", "signal")]);
    bundle.write();
    let path = bundle.path.to_str().unwrap().to_owned();
    let path = path.as_str();
    let shown = cx
        .call(&["create", "--dry-run", "--bundle", path, &bundle.id])
        .ok();
    for line in [
        "Landlock: `/etc`: read and execute\n",
        "Landlock: `/tmp`: everything\n",
        "Landlock: bind TCP ports [80] and no others\n",
        "Landlock: no signal beyond",
    ] {
        assert!(shown.stdout.contains(line), "{shown}");
    }
    rules(
        &mut bundle,
        &[("fs.rw", "/tmpp:-/no"), ("scope", "signals")],
    );
    bundle.write();
    let found = cx.call(&["check", path]).is(1);
    assert!(
        found.stdout.contains("scope\"]: `signals` is neither")
            && found
                .stdout
                .contains("fs.rw\"]: `/tmpp` is not in the root file system")
            && !found.stdout.contains("/no`"),
        "{found}"
    );
}

fn there_is_no_checkpoint(cx: &Cx) {
    needs_landlock(cx);
    let mut bundle = cx.bundle();
    rules(&mut bundle, &USUAL);
    let container = cx.start(&bundle);
    let images = cx.dir.join("images");
    std::fs::create_dir(&images).unwrap();
    cx.call(&[
        "checkpoint",
        "--image-path",
        images.to_str().unwrap(),
        &container.id,
    ])
    .is(1)
    .says("restored without it");
    assert_eq!(container.status(), "running");
    container.end();
}
