//! `top`: what containers use, as JSON, as plain tables and on a terminal.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Command};

use serde_json::{Value, json};

use super::cgroups::{MIB, limited, need};
use crate::support::tty::Terminal;
use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    both what_is_used_is_shown = "runc has no top";
    host a_limit_and_moved_bytes_are_shown = "runc has no top";
    host plain_tables_below_each_other = "runc has no top";
    both containers_come_and_go = "runc has no top";
    host the_named_ones_alone = "runc has no top";
    host many_at_once_vanish_without_an_error = "runc has no top";
    host drawn_in_place_on_a_terminal = "runc has no top";
    host a_signal_gives_the_terminal_back = "runc has no top";
    host wrong_words_are_refused = "runc has no top";
}

/// The lines printed so far, each as JSON. A last line without its end is not counted.
fn lines(text: &str) -> Vec<Value> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |line: &str| serde_json::from_str(line).expect("a line is JSON");
    whole.lines().map(parse).collect()
}

fn of<'a>(lines: &'a [Value], id: &str) -> Option<&'a Value> {
    lines.iter().find(|line| line["id"] == *id)
}

fn busy(cx: &Cx) -> Bundle {
    let mut bundle = cx.named_bundle("busy");
    bundle.sh("while :; do :; done");
    bundle
}

fn what_is_used_is_shown(cx: &Cx) {
    let busy = cx.start(&busy(cx));
    let paused = cx.sleeper();
    paused.call("pause").ok();
    let output = cx
        .call(&["top", "--once", "--interval", "300ms", "--format", "json"])
        .ok();
    let lines = lines(&output.stdout);
    assert_eq!(lines.len(), 2, "{output}");
    assert_eq!(lines[0]["id"], busy.id, "the busy one first: {output}");
    let line = &lines[0];
    assert_eq!(line["pid"], busy.pid());
    assert_eq!(line["status"], "running");
    assert_eq!(line["pids"]["current"], 1);
    // One process uses one CPU at most; how much of it depends on who else there is.
    let percent = line["cpu_percent"].as_f64().unwrap();
    assert!(percent > 0.0 && percent < 150.0, "{line}");
    assert!(line["cpu_ns"].as_u64().unwrap() > 0, "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    let psi = cx.cgroup_dir("", &busy.id).join("cpu.pressure").exists() && cx.is_v2();
    assert_eq!(line["pressure"]["cpu"]["some"]["avg10"].is_number(), psi);
    let line = &lines[1];
    assert_eq!(
        (&line["id"], &line["status"]),
        (&json!(paused.id), &json!("paused"))
    );
    assert_eq!(line["cpu_percent"], 0.0);
    busy.end();
    paused.end();
}

fn a_limit_and_moved_bytes_are_shown(cx: &Cx) {
    need(cx, "memory");
    need(cx, "pids");
    let mut bundle = limited(cx, "memory", json!({"limit": 64 * MIB}));
    bundle.set("/linux/resources/pids", json!({"limit": 42}));
    bundle.sh(
        "dd if=/dev/zero of=/dev/shm/f bs=1M count=8 2>/dev/null; : >/mnt/ready; exec sleep 1000",
    );
    let container = cx.start(&bundle);
    let ready = bundle.rootfs().join("mnt/ready");
    eventually("its memory", 15, || ready.exists());
    let once = ["top", "--once", "-i", "50ms"];
    let json = cx.call(&[&once[..], &["-f", "json"]].concat()).ok();
    let line = &lines(&json.stdout)[0];
    assert_eq!(line["memory"]["limit"], 64 * MIB);
    assert!(
        line["memory"]["working_set"].as_u64().unwrap() >= 8 * MIB,
        "{line}"
    );
    assert_eq!(line["pids"], json!({"current": 1, "limit": 42}));
    assert!(
        line["io"]["read"].is_number() && line["io"]["read_per_second"].is_number(),
        "{line}"
    );
    cx.call(&once).ok().has("64.0MiB").has("  1/42  ");
    container.end();
}

fn plain_tables_below_each_other(cx: &Cx) {
    let busy = cx.start(&busy(cx));
    let sleeper = cx.sleeper();
    let output = cx
        .call(&["top", "--count", "3", "--interval", "100ms"])
        .ok();
    assert!(output.stderr.is_empty(), "{output}");
    assert!(
        output
            .stdout
            .bytes()
            .all(|byte| byte == b'\n' || !byte.is_ascii_control()),
        "{output}"
    );
    let tables: Vec<&str> = output.stdout.split("\n\n").collect();
    assert_eq!(tables.len(), 3, "{output}");
    for table in tables {
        let rows: Vec<&str> = table.lines().collect();
        assert!(
            rows[0].starts_with("ID ") && rows[0].ends_with("PRESSURE"),
            "{output}"
        );
        assert_eq!(rows.len(), 3, "{output}");
        assert!(
            rows[1].starts_with(&busy.id) && rows[2].starts_with(&sleeper.id),
            "{output}"
        );
    }
    let ids = cx
        .call(&["top", "--once", "-i", "20ms", "--sort", "id"])
        .ok();
    let first = ids.stdout.lines().nth(1).unwrap();
    assert!(first.starts_with((&busy.id).min(&sleeper.id)), "{ids}");
    busy.end();
    sleeper.end();
}

fn containers_come_and_go(cx: &Cx) {
    let mut top = cx.spawn(cx.command(&["top", "--all", "-i", "20ms", "--format", "json"]));
    let container = cx.create(&cx.bundle());
    let id = container.id.clone();
    let seen = |status: &str| {
        let lines = lines(&top.so_far());
        lines
            .iter()
            .any(|line| line["id"] == *id && line["status"] == status)
    };
    eventually("it is there", 15, || seen("created"));
    container.call("start").ok();
    eventually("it runs", 15, || seen("running"));
    container.kill("KILL").ok();
    eventually("it is stopped", 15, || seen("stopped"));
    container.call("delete").ok();
    let other = cx.start(&cx.named_bundle("other"));
    eventually("the next one", 15, || {
        of(&lines(&top.so_far()), &other.id).is_some()
    });
    let before = lines(&top.so_far()).len();
    eventually("more of the next one", 15, || {
        lines(&top.so_far()).len() > before + 2
    });
    assert!(
        of(&lines(&top.so_far())[before..], &id).is_none(),
        "it has gone"
    );
    // The first line of a container has nothing to compare with, the next has.
    let all = lines(&top.so_far());
    let of_other: Vec<&Value> = all.iter().filter(|line| line["id"] == other.id).collect();
    assert!(of_other[0]["cpu_percent"].is_null() && of_other[1]["cpu_percent"].is_number());
    assert!(top.child.try_wait().unwrap().is_none(), "it goes on");
    top.child.kill().unwrap();
    assert!(top.wait().stderr.is_empty());
    other.end();
}

fn the_named_ones_alone(cx: &Cx) {
    let container = cx.sleeper();
    let other = cx.start(&cx.named_bundle("other"));
    let named = cx.spawn(cx.command(&["top", &container.id, "-i", "20ms", "-f", "json"]));
    eventually("lines", 15, || lines(&named.so_far()).len() > 1);
    container.end();
    let output = named.wait().ok();
    assert!(of(&lines(&output.stdout), &other.id).is_none(), "{output}");
    let gone = cx.id("none");
    let output = cx.call(&["top", &other.id, &gone]).is(1);
    assert!(output.stdout.is_empty(), "{output}");
    output.says(&format!("container `{gone}` does not exist"));
    other.end();
}

fn many_at_once_vanish_without_an_error(cx: &Cx) {
    let bundles: Vec<Bundle> = (0..3).map(|n| cx.named_bundle(&format!("n{n}"))).collect();
    let mut top = cx.spawn(cx.command(&["top", "-i", "1ms"]));
    for _ in 0..4 {
        for bundle in &bundles {
            cx.start(bundle);
        }
        for bundle in &bundles {
            cx.call(&["delete", "--force", &bundle.id]).ok();
        }
    }
    let rows = |bundle: &Bundle| top.so_far().contains(&bundle.id);
    assert!(bundles.iter().all(rows));
    assert!(top.child.try_wait().unwrap().is_none(), "it goes on");
    top.child.kill().unwrap();
    let output = top.wait();
    assert!(output.stderr.is_empty(), "{output}");
}

/// `top` on a pty of this size, which is its standard input and output.
fn on_a_pty(cx: &Cx, rows: u16, columns: u16, flags: &[&str]) -> (Terminal, Child) {
    let (terminal, slave) = Terminal::open(rows, columns);
    let mut command = cx.command(&["top", "-i", "50ms"]);
    command.args(flags);
    command
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave);
    (terminal, command.spawn().unwrap())
}

fn mode(cx: &Cx, terminal: &Terminal) -> String {
    let slave = nix::unistd::ttyname(terminal.slave()).unwrap();
    cx.host(&format!("stty -a <{}", slave.display()))
        .ok()
        .stdout
}

/// What is still to be read.
fn rest(terminal: &mut Terminal) -> String {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut text = std::mem::take(&mut terminal.seen);
    let mut data = [0; 4096];
    while poll(
        &mut [PollFd::new(terminal.master.as_fd(), PollFlags::POLLIN)],
        PollTimeout::ZERO,
    ) == Ok(1)
    {
        let count = terminal.master.read(&mut data).unwrap_or(0);
        if count == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&data[..count]));
    }
    text
}

const OTHER_SCREEN: &str = "\x1b[?1049h";
const FIRST_SCREEN: &str = "\x1b[?1049l";

fn drawn_in_place_on_a_terminal(cx: &Cx) {
    let containers: Vec<_> = (0..3)
        .map(|n| cx.start(&cx.named_bundle(&format!("n{n}"))))
        .collect();
    let (mut terminal, mut child) = on_a_pty(cx, 4, 200, &["--sort", "id"]);
    terminal.expect(OTHER_SCREEN);
    terminal.expect(": 3 containers, by id (keys: ");
    terminal.expect(&containers[1].id);
    assert!(mode(cx, &terminal).contains("-icanon"));
    // Two lines above, room for two of three; each page stands where the one before stood.
    terminal.expect("\x1b[J\x1b[H");
    let page = terminal.seen.split("\x1b[H").nth(1).unwrap().to_owned();
    assert_eq!(page.matches("\r\n").count(), 3, "{page:?}");
    assert!(!page.contains(&containers[2].id), "{page:?}");
    terminal.write("m");
    terminal.expect("by memory");
    let slave = nix::unistd::ttyname(terminal.slave()).unwrap();
    cx.host(&format!("stty rows 10 cols 20 <{}", slave.display()))
        .ok();
    eventually("a page of the new size", 10, || {
        terminal.seen.clear();
        terminal.expect("\x1b[J\x1b[H");
        terminal.expect("\x1b[J");
        let page = terminal.seen.split("\x1b[H").nth(1).unwrap();
        let first = page.split("\x1b[K").next().unwrap();
        first.len() == 20 && page.matches("\r\n").count() == 4
    });
    terminal.write("q");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    shows_the_first_screen(&mut terminal);
    let mode = mode(cx, &terminal);
    assert!(
        mode.contains(" icanon") && !mode.contains("-echo "),
        "{mode}"
    );
    for container in containers {
        container.end();
    }
}

/// With the cursor, and nothing after it.
fn shows_the_first_screen(terminal: &mut Terminal) {
    let shown = rest(terminal);
    assert!(
        shown.ends_with(&format!("\x1b[?25h{FIRST_SCREEN}")),
        "{shown:?}"
    );
}

fn a_signal_gives_the_terminal_back(cx: &Cx) {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let (mut terminal, mut child) = on_a_pty(cx, 24, 80, &[]);
        terminal.expect(OTHER_SCREEN);
        terminal.expect(": 0 containers, by cpu");
        cx.host(&format!("kill -{signal} {}", child.id())).ok();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        shows_the_first_screen(&mut terminal);
        let mode = mode(cx, &terminal);
        assert!(
            !mode.contains("-icanon") && !mode.contains("-echo "),
            "{mode}"
        );
    }
    // With a count it is plain on a terminal, too.
    let (mut terminal, mut child) = on_a_pty(cx, 24, 80, &["--once"]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let shown = rest(&mut terminal);
    assert!(
        shown.starts_with("ID ") && !shown.contains('\x1b'),
        "{shown:?}"
    );
}

fn wrong_words_are_refused(cx: &Cx) {
    for (flags, says) in [
        (
            &["--sort", "size"][..],
            "--sort: unknown key `size` (id, cpu",
        ),
        (
            &["--format", "xml"],
            "--format: invalid format option `xml`",
        ),
        (&["--interval", "0s"], "--interval: must be greater than 0"),
        (&["--interval", "-1s"], "--interval: must be greater than 0"),
        (&["--interval", "5"], "interval"),
        (&["--count", "0"], "--count: must be greater than 0"),
        (&["--count", "x"], "count"),
        (
            &["--once", "--count", "2"],
            "--once, --count: one of them alone",
        ),
        (&["a/b"], "invalid container id format"),
    ] {
        let args = [&["top"][..], flags].concat();
        let output = cx.call(&args).is(1);
        assert!(output.stdout.is_empty(), "{output}");
        output.says(says);
    }
    // Without a state root there is nothing, which is no error.
    let mut command = Command::new(&cx.runtime);
    command.arg("--root").arg(cx.dir.join("none"));
    command.args(["top", "--once", "-i", "1ms"]);
    let output = cx.spawn(command).wait().ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
}
