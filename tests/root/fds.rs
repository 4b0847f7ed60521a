//! Descriptors: what the program gets, what must not reach it, and the runtime's own (F1-F3, E1).

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::support::{Bundle, Cx, tests};

tests! {
    both only_standard_descriptors;
    host callers_descriptors_do_not_leak;
    host exec_leaks_none;
    both created_init_holds_nothing_of_the_host;
    host working_directory_by_descriptor_is_refused;
    host preserved_descriptors;
    host preserved_descriptor_that_is_not_open = "numbers 4 and 5 are open in any Go program";
    host listen_fds;
    host listen_fds_of_another_process;
    host listen_fds_and_preserved;
    host notify_socket;
    host closed_standard_descriptors;
    host a_closed_pipe_ends_quietly;
    host own_binary_is_protected = "runc 1.1.5 clones itself in another way";
    host output_to_a_pipe_that_fills;
}

/// The runtime's `run` in a shell of the host, with redirections and variables before it.
fn run_line(
    cx: &Cx,
    bundle: &Bundle,
    before: &str,
    flags: &str,
    redirections: &str,
) -> crate::support::Output {
    bundle.write();
    cx.host(&format!(
        "{before} exec {} --root {} run --bundle {} {flags} {} {redirections}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
}

/// The last number is the directory that ls itself has open.
const LIST: &str = "exec ls /proc/self/fd";

fn only_standard_descriptors(cx: &Cx) {
    cx.sh(LIST, |_| ()).prints("0\n1\n2\n3");
}

fn callers_descriptors_do_not_leak(cx: &Cx) {
    let file = cx.file("secret", "secret");
    let bundle = cx.script(LIST);
    let redirections = format!("5<{0} 7<{0} 9</ 3<{0}", file.display());
    run_line(cx, &bundle, "", "", &redirections)
        .ok()
        .prints("0\n1\n2\n3");
}

fn exec_leaks_none(cx: &Cx) {
    let container = cx.sleeper();
    cx.host(&format!(
        "exec {} --root {} exec {} ls /proc/self/fd 5</ 8</",
        cx.runtime.display(),
        cx.root().display(),
        container.id
    ))
    .ok()
    .prints("0\n1\n2\n3");
    container.end();
}

fn created_init_holds_nothing_of_the_host(cx: &Cx) {
    // F3: before start it waits; a neighbour may look into its /proc/PID/fd.
    let container = cx.create(&cx.bundle());
    let dir = format!("/proc/{}/fd", container.pid());
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let name = target.to_string_lossy().into_owned();
        assert!(
            !name.contains("cgroup"),
            "{} is {name}",
            entry.path().display()
        );
        let kind = fs::metadata(entry.path());
        assert!(
            !kind.is_ok_and(|meta| meta.is_dir()),
            "{} is the directory {name}",
            entry.path().display()
        );
    }
    container.end();
}

fn working_directory_by_descriptor_is_refused(cx: &Cx) {
    // W1, CVE-2024-21626: whichever number might be a directory of the host.
    for number in [3, 5, 6, 7, 8, 9] {
        let mut bundle = cx.named_bundle(&format!("n{number}"));
        bundle.sh("pwd; ls ..");
        bundle.set(
            "/process/cwd",
            serde_json::json!(format!("/proc/self/fd/{number}")),
        );
        let output = cx.run(&bundle);
        assert!(output.code == 1, "{output}");
    }
    let container = cx.sleeper();
    for number in [3, 6, 7, 8] {
        container
            .exec_with(&["--cwd", &format!("/proc/self/fd/{number}")], &["pwd"])
            .is(255);
    }
    container.end();
}

fn preserved_descriptors(cx: &Cx) {
    let (one, two) = (cx.file("one", "one\n"), cx.file("two", "two\n"));
    let bundle = cx.script(&format!("cat <&3; cat <&4; {LIST}"));
    let redirections = format!("3<{} 4<{} 5</", one.display(), two.display());
    run_line(cx, &bundle, "", "--preserve-fds 2", &redirections)
        .ok()
        .prints("one\ntwo\n0\n1\n2\n3\n4\n5");
}

fn preserved_descriptor_that_is_not_open(cx: &Cx) {
    let bundle = cx.script("true");
    run_line(cx, &bundle, "", "--preserve-fds 3", "3</dev/null").is(1);
}

fn listen_fds(cx: &Cx) {
    let file = cx.file("activated", "activated\n");
    let bundle = cx.script(&format!("echo $LISTEN_FDS $LISTEN_PID; cat <&3; {LIST}"));
    let before = "export LISTEN_FDS=1 LISTEN_PID=$$;";
    run_line(cx, &bundle, before, "", &format!("3<{}", file.display()))
        .ok()
        .prints("1 1\nactivated\n0\n1\n2\n3\n4");
}

fn listen_fds_of_another_process(cx: &Cx) {
    let bundle = cx.script(&format!("echo [$LISTEN_FDS]; {LIST}"));
    run_line(
        cx,
        &bundle,
        "export LISTEN_FDS=1 LISTEN_PID=1;",
        "",
        "3</dev/null",
    )
    .ok()
    .prints("[]\n0\n1\n2\n3");
}

fn listen_fds_and_preserved(cx: &Cx) {
    let (one, two) = (cx.file("one", "listen\n"), cx.file("two", "preserve\n"));
    let bundle = cx.script("cat <&3; cat <&4");
    let redirections = format!("3<{} 4<{}", one.display(), two.display());
    run_line(
        cx,
        &bundle,
        "export LISTEN_FDS=1 LISTEN_PID=$$;",
        "--preserve-fds 1",
        &redirections,
    )
    .ok()
    .prints("listen\npreserve");
}

fn notify_socket(cx: &Cx) {
    let path = cx.dir.join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let bundle = cx.script("test -S $NOTIFY_SOCKET && echo socket >/mnt/seen; echo $NOTIFY_SOCKET >>/mnt/seen; exec sleep 1000");
    bundle.write();
    let mut command = cx.command(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]);
    command.env("NOTIFY_SOCKET", &path);
    cx.spawn(command).wait().ok();
    // start waits for READY=1, which is sent here in the program's place.
    let mut command = cx.command(&["start", &bundle.id]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = cx.spawn(command);
    let seen = bundle.rootfs().join("mnt/seen");
    crate::support::eventually("the program runs", 5, || {
        fs::read_to_string(&seen)
            .is_ok_and(|text| text.contains("/run/notify") || text.lines().count() > 1)
    });
    let text = fs::read_to_string(&seen).unwrap();
    assert!(text.starts_with("socket\n"), "{text}");
    assert!(
        running.child.try_wait().unwrap().is_none(),
        "start did not wait for READY"
    );
    let inside = text.lines().nth(1).unwrap().to_owned();
    let pid = cx.container(&bundle.id).pid();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(format!("/proc/{pid}/root{inside}")).unwrap();
    sender.send(b"STATUS=nearly\n").unwrap();
    sender.send(b"READY=1\nSTATUS=there\n").unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    let mut data = [0; 512];
    let mut count = socket.recv(&mut data).unwrap();
    assert!(String::from_utf8_lossy(&data[..count]).contains("READY=1"));
    // The rest: MAINPID (runc sends it in the same datagram) and a barrier, whose descriptor goes with the socket.
    while !String::from_utf8_lossy(&data[..count]).contains("BARRIER") {
        match socket.recv(&mut data) {
            Ok(received) => count = received,
            Err(_) => break,
        }
    }
    drop(socket);
    running.wait().ok();
    cx.container(&bundle.id).end();
}

fn closed_standard_descriptors(cx: &Cx) {
    // F1: no file of the runtime may land on 0, 1 or 2.
    let mut bundle = cx.script("exec ls -l /proc/self/fd >/mnt/list 2>&1");
    bundle.set("/process/terminal", serde_json::json!(false));
    for redirections in ["<&-", ">&-", "<&- >&- 2>&-"] {
        let output = run_line(cx, &bundle, "", "", redirections);
        assert!(output.code == 0 || output.code == 1, "{output}");
        let list = fs::read_to_string(bundle.rootfs().join("mnt/list")).unwrap_or_default();
        assert!(
            !list.contains(&cx.token) && !list.contains("state"),
            "{redirections}: {list}"
        );
    }
}

fn a_closed_pipe_ends_quietly(cx: &Cx) {
    let bundle = cx.script("yes 2>/dev/null; true");
    bundle.write();
    cx.host(&format!(
        "{} --root {} run --bundle {} {} | head -1",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("y");
}

fn own_binary_is_protected(cx: &Cx) {
    // E1: what a container sees as /proc/PID/exe is not the file on the host, or can't be written.
    let container = cx.create(&cx.bundle());
    let exe = format!("/proc/{}/exe", container.pid());
    let same = fs::metadata(&exe).is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt;
        let own = fs::metadata(&cx.runtime).unwrap();
        (meta.dev(), meta.ino()) == (own.dev(), own.ino())
    });
    assert!(!same, "{exe} is the runtime's own file");
    container.end();
}

fn output_to_a_pipe_that_fills(cx: &Cx) {
    let bundle = cx.script("i=0; while [ $i -lt 5000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done");
    bundle.write();
    cx.host(&format!(
        "{} --root {} run --bundle {} {} | (sleep 0.3; wc -l)",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("5000");
}
