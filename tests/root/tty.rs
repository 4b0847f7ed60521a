//! Terminals: the console socket, `run` and `exec` through a pty, sizes, /dev/console.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::tty::Terminal;
use crate::support::{Bundle, Cx, Output, tests};

tests! {
    both console_socket_gets_one_terminal;
    host console_size_is_set;
    host terminal_is_the_controlling_one;
    host terminal_belongs_to_the_user;
    host dev_console_is_the_terminal;
    host exec_with_a_console_socket;
    host run_through_a_pty;
    host run_takes_the_size_of_the_pty;
    host size_follows_the_pty;
    host exec_through_a_pty;
    host keys_make_signals;
    host terminal_without_a_socket_is_refused;
    host socket_without_a_terminal_is_refused;
    host missing_socket_is_refused;
    host a_file_is_not_a_socket;
    host terminal_is_restored_after_run;
    host in_a_user_namespace;
}

fn with_terminal(cx: &Cx, script: &str) -> Bundle {
    let mut bundle = cx.script(script);
    bundle.set("/process/terminal", json!(true));
    bundle
}

/// `create` with this console socket.
pub(crate) fn create_on(cx: &Cx, bundle: &Bundle, socket: &Path) -> Output {
    bundle.write();
    let (path, socket) = (bundle.path.to_str().unwrap(), socket.to_str().unwrap());
    cx.call(&[
        "create",
        "--bundle",
        path,
        "--console-socket",
        socket,
        &bundle.id,
    ])
}

/// create with a console socket, start, and the master.
pub(crate) fn started<'a>(
    cx: &'a Cx,
    bundle: &Bundle,
) -> (crate::support::Container<'a>, Terminal) {
    let socket = cx.console_socket();
    create_on(cx, bundle, &socket.path).ok();
    let terminal = socket.terminal();
    let container = cx.container(&bundle.id);
    container.call("start").ok();
    (container, terminal)
}

fn console_socket_gets_one_terminal(cx: &Cx) {
    let bundle = with_terminal(cx, "tty; read line; echo \"got $line\"; read end");
    let socket = cx.console_socket();
    create_on(cx, &bundle, &socket.path).ok();
    // It was sent before `create` ended: it waits in the socket.
    let received = socket.receive();
    assert_eq!(received.fds.len(), 1);
    assert!(
        !received.data.is_empty() && received.data.len() < 4096,
        "{} bytes of name",
        received.data.len()
    );
    let mut terminal = Terminal::of_master(received.fds.into_iter().next().unwrap());
    let container = cx.container(&bundle.id);
    container.call("start").ok();
    terminal.expect("/dev/pts/0");
    terminal.write("hello\n");
    terminal.expect("got hello");
    container.end();
}

fn console_size_is_set(cx: &Cx) {
    let mut bundle = with_terminal(cx, "stty size; read end");
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 111}));
    let (container, mut terminal) = started(cx, &bundle);
    terminal.expect("33 111");
    container.end();
}

fn terminal_is_the_controlling_one(cx: &Cx) {
    let (container, mut terminal) = started(
        cx,
        &with_terminal(
            cx,
            "echo to-dev-tty >/dev/tty; test -t 0 && test -t 1 && test -t 2 && echo all; read end",
        ),
    );
    terminal.expect("to-dev-tty");
    terminal.expect("all");
    container.end();
}

fn terminal_belongs_to_the_user(cx: &Cx) {
    let mut bundle = with_terminal(
        cx,
        "stat -c 'owner %u' $(tty); echo x >$(tty) && echo opened; read end",
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let (container, mut terminal) = started(cx, &bundle);
    terminal.expect("owner 1000");
    terminal.expect("opened");
    container.end();
}

fn dev_console_is_the_terminal(cx: &Cx) {
    let (container, mut terminal) = started(
        cx,
        &with_terminal(
            cx,
            "echo by-console >/dev/console; test -c /dev/console && echo char; grep -c /dev/console /proc/mounts; read end",
        ),
    );
    terminal.expect("by-console");
    terminal.expect("char\r\n1");
    container.end();
}

fn exec_with_a_console_socket(cx: &Cx) {
    let container = cx.sleeper();
    let socket = cx.console_socket();
    let path = socket.path.to_str().unwrap();
    container
        .exec_with(
            &["--tty", "--detach", "--console-socket", path],
            &["sh", "-c", "tty; read line; echo \"got $line\"; read end"],
        )
        .ok();
    let mut terminal = socket.terminal();
    terminal.expect("/dev/pts/0");
    terminal.write("there\n");
    terminal.expect("got there");
    container.end();
}

/// The runtime with a pty as its own terminal, as a person's shell gives it.
fn on_a_pty(cx: &Cx, rows: u16, columns: u16, args: &[&str]) -> (Terminal, std::process::Child) {
    let (terminal, slave) = Terminal::open(rows, columns);
    let mut command = Command::new("setsid");
    command
        .arg("--ctty")
        .arg("--wait")
        .arg(&cx.runtime)
        .arg("--root")
        .arg(cx.root())
        .args(args);
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    (terminal, command.spawn().unwrap())
}

fn run_on_a_pty(
    cx: &Cx,
    rows: u16,
    columns: u16,
    bundle: &Bundle,
) -> (Terminal, std::process::Child) {
    bundle.write();
    on_a_pty(
        cx,
        rows,
        columns,
        &["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id],
    )
}

fn run_through_a_pty(cx: &Cx) {
    let bundle = with_terminal(cx, "tty; read line; echo \"got $line\"; exit 6");
    let (mut terminal, mut child) = run_on_a_pty(cx, 24, 80, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.write("typed\n");
    terminal.expect("got typed");
    assert_eq!(child.wait().unwrap().code(), Some(6));
}

fn run_takes_the_size_of_the_pty(cx: &Cx) {
    // The size is set while the program starts, so it asks until it is there.
    let bundle = with_terminal(cx, "while ! stty size | grep '31 97'; do sleep 0.02; done");
    let (mut terminal, mut child) = run_on_a_pty(cx, 31, 97, &bundle);
    terminal.expect("31 97");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn size_follows_the_pty(cx: &Cx) {
    let bundle = with_terminal(
        cx,
        "echo ready; while ! stty size | grep '50 132'; do sleep 0.02; done",
    );
    let (mut terminal, mut child) = run_on_a_pty(cx, 24, 80, &bundle);
    terminal.expect("ready");
    // stty sets the size on the slave side, and the kernel signals the foreground group.
    let slave = nix::unistd::ttyname(terminal.slave()).unwrap();
    cx.host(&format!("stty rows 50 cols 132 <{}", slave.display()))
        .ok();
    terminal.expect("50 132");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn exec_through_a_pty(cx: &Cx) {
    let container = cx.sleeper();
    let (mut terminal, mut child) = on_a_pty(
        cx,
        24,
        80,
        &[
            "exec",
            "--tty",
            &container.id,
            "sh",
            "-c",
            "tty; read line; echo \"got $line\"; exit 4",
        ],
    );
    terminal.expect("/dev/pts/0");
    terminal.write("typed\n");
    terminal.expect("got typed");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    container.end();
}

fn keys_make_signals(cx: &Cx) {
    let bundle = with_terminal(
        cx,
        "trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done",
    );
    let (mut terminal, mut child) = run_on_a_pty(cx, 24, 80, &bundle);
    terminal.expect("ready");
    terminal.write("\u{3}");
    terminal.expect("interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(8));
}

fn terminal_without_a_socket_is_refused(cx: &Cx) {
    let bundle = with_terminal(cx, "true");
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains("console socket"), "{output}");
}

fn socket_without_a_terminal_is_refused(cx: &Cx) {
    let bundle = cx.script("true");
    let socket = cx.console_socket();
    let output = create_on(cx, &bundle, &socket.path).is(1);
    assert!(output.stderr.contains("console socket"), "{output}");
}

fn missing_socket_is_refused(cx: &Cx) {
    let bundle = with_terminal(cx, "true");
    let output = create_on(cx, &bundle, Path::new("/no/such/socket")).is(1);
    assert!(
        output
            .stderr
            .to_lowercase()
            .contains("no such file or directory"),
        "{output}"
    );
}

fn a_file_is_not_a_socket(cx: &Cx) {
    let bundle = with_terminal(cx, "true");
    let file = cx.file("not-a-socket", "");
    create_on(cx, &bundle, &file).is(1);
}

fn terminal_is_restored_after_run(cx: &Cx) {
    let bundle = with_terminal(cx, "stty -echo; echo ready; read line");
    let (mut terminal, mut child) = run_on_a_pty(cx, 24, 80, &bundle);
    let slave = nix::unistd::ttyname(terminal.slave()).unwrap();
    terminal.expect("ready");
    // While it runs, the outer terminal passes every key through.
    cx.host(&format!("stty -a <{}", slave.display()))
        .ok()
        .has("-icanon")
        .has("-echo");
    terminal.write("\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let after = cx.host(&format!("stty -a <{}", slave.display())).ok();
    assert!(
        !after.stdout.contains("-icanon") && !after.stdout.contains("-echo "),
        "{after}"
    );
}

fn in_a_user_namespace(cx: &Cx) {
    let mut bundle = with_terminal(cx, "tty; stat -c 'owner %u' $(tty); read end");
    bundle.user_namespace();
    let (container, mut terminal) = started(cx, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.expect("owner 0");
    container.end();
}
