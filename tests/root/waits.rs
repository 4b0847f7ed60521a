//! Waits end, and say whom they were for.

use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use serde_json::json;

use crate::support::{Cx, tests};

tests! {
    host a_console_socket_that_accepts_nothing = "runc waits without end";
    host a_lock_that_is_not_given_back = "runc 1.1.5 has none";
    host an_init_that_is_stopped_is_killed_all_the_same;
    host a_passwd_that_is_a_fifo_does_not_block;
}

/// Its queue is full, and the peer does not care.
fn a_console_socket_that_accepts_nothing(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/terminal", json!(true));
    bundle.write();
    let path = cx.dir.join("full");
    let listening = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&listening);
    bind(raw, &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listening, Backlog::new(0).unwrap()).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let begun = Instant::now();
    let output = cx.call(&[
        "create",
        "--bundle",
        bundle.path.to_str().unwrap(),
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ]);
    assert!(begun.elapsed() < Duration::from_secs(40));
    assert_ne!(output.code, 0, "{output}");
    output
        .says("--console-socket: connect to")
        .says("accepts nobody");
}

/// The message has who holds it: this test.
fn a_lock_that_is_not_given_back(cx: &Cx) {
    let container = cx.sleeper();
    let dir = std::fs::File::open(cx.root().join(&container.id)).unwrap();
    let lock = Flock::lock(dir, FlockArg::LockExclusive).unwrap();
    let output = cx.call(&["delete", "--force", &container.id]);
    assert_ne!(output.code, 0, "{output}");
    output.says(&format!(": {} (", std::process::id()));
    drop(lock);
    container.end();
}

/// Between its messages, by whoever: create waits, and ends with it.
fn an_init_that_is_stopped_is_killed_all_the_same(cx: &Cx) {
    let mut bundle = cx.bundle();
    let stop = "kill -STOP $PPID; sleep 0.1";
    bundle.set(
        "/hooks/createContainer",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", stop]}]),
    );
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let running = cx.spawn(cx.command(&["create", "--bundle", path, &bundle.id]));
    crate::support::eventually("the init is stopped", 10, || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.contains("(rundlet:[init]) T")
        })
    });
    cx.call(&["delete", "--force", &bundle.id]).ok();
    assert_ne!(running.wait().code, 0);
}

/// For `list`, which names the owners: the host's own passwd, were it one.
fn a_passwd_that_is_a_fifo_does_not_block(cx: &Cx) {
    let container = cx.sleeper();
    let fifo = cx.dir.join("passwd");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    cx.host(&format!(
        "exec unshare -m sh -c 'mount --bind {} /etc/passwd && exec {} --root {} list'",
        fifo.display(),
        cx.runtime.display(),
        cx.root().display()
    ))
    .ok()
    .has(&container.id);
    container.end();
}
