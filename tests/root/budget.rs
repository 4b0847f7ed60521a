//! What each verb may cost: system calls, peak memory, page faults, and the bytes of the binary and of a process that waits for
//! `start`, against the figures in `tests/budget.txt`.
//! More than 3 % above one of them fails. `RUNDLET_WRITE_BUDGET=1` writes them anew; a commit that does says why.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::count::Cost;
use crate::support::{Cx, World, tests};

tests! {
    v2 nothing_costs_more_than_its_budget = "the budget is rundlet's";
}

const BUDGET: &str = include_str!("../budget.txt");

/// The kernel maps 64 KiB of the binary around a fault: where the linker has put a function decides on a window or two.
const WINDOWS_KIB: u64 = 128;

/// The same, for the faults of such a window and of its neighbours.
const FAULTS: u64 = 8;

/// The smallest of so many runs: a signal that comes at another moment costs a call or two.
const RUNS: usize = 5;

fn nothing_costs_more_than_its_budget(cx: &Cx) {
    let binary = std::fs::read(&cx.runtime).unwrap();
    let loader = b"ld-linux";
    if !cx.is_rundlet() || binary.windows(loader.len()).any(|bytes| bytes == loader) {
        cx.skip("the budget is for the static binary that is shipped (make test)");
    }
    if cx.world != World::V2 {
        cx.skip("the budget is that of a cgroup v2 without controllers, and this host's has some");
    }
    let copy = Copy::of(&binary, &cx.token);
    let runtime = copy.0.join("rundlet");
    let cx = &Cx {
        dir: cx.dir.clone(),
        token: cx.token.clone(),
        runtime,
        world: cx.world,
    };
    let mut measured = vec![("binary bytes".to_owned(), binary.len() as u64)];
    let (costs, waiting) = costs(cx);
    for what in ["Rss", "Private_Dirty"] {
        let kib = waiting.iter().map(|rollup| kib(rollup, what)).min();
        measured.push((format!("created {what} KiB"), kib.unwrap()));
    }
    for (verb, costs) in costs {
        let least = |of: fn(&Cost) -> u64| costs.iter().map(of).min().unwrap();
        measured.push((format!("{verb} calls"), least(|cost| cost.calls)));
        measured.push((format!("{verb} peak KiB"), least(|cost| cost.peak_kib)));
        measured.push((format!("{verb} faults"), least(|cost| cost.faults)));
    }
    if std::env::var_os("RUNDLET_WRITE_BUDGET").is_some() {
        return write(&measured);
    }
    let mut over = String::new();
    for (what, value) in measured {
        let budget = budget(&what).unwrap_or_else(|| panic!("tests/budget.txt has no `{what}`"));
        println!("{what}: {value} of {budget}");
        let slack = match what.rsplit(' ').next() {
            Some("KiB") => WINDOWS_KIB,
            Some("faults") => FAULTS,
            _ => 0,
        };
        if value > budget + (budget * 3 / 100).max(slack) {
            writeln!(over, "{what}: {value}, the budget is {budget}").unwrap();
        }
    }
    assert!(over.is_empty(), "more than 3 % over the budget:\n{over}");
}

/// The directory of a copy of the binary. Not in the temporary one: from a tmpfs the program protects itself with more calls.
struct Copy(PathBuf);

impl Copy {
    /// How a file came into the page cache decides how much of it the kernel maps around a fault: the larger the pieces, the
    /// more (filemap_map_pages), and how large they are is another with each copy, 320 KiB of a peak were seen. What is
    /// written page by page is kept so.
    fn of(binary: &[u8], token: &str) -> Copy {
        let copy = Copy(Path::new(env!("CARGO_TARGET_TMPDIR")).join(token));
        std::fs::create_dir_all(&copy.0).unwrap();
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o755);
        let mut file = options.open(copy.0.join("rundlet")).unwrap();
        for page in binary.chunks(4096) {
            file.write_all(page).unwrap();
        }
        // Until it is on the disk its pages count as written by who maps them.
        file.sync_all().unwrap();
        copy
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Of a line of smaps_rollup (proc_pid_smaps(5)).
fn kib(rollup: &str, what: &str) -> u64 {
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Of each verb; and how much memory each created container's process had.
fn costs(cx: &Cx) -> (Vec<(&'static str, Vec<Cost>)>, Vec<String>) {
    let mut costs: Vec<(&str, Vec<Cost>)> = Vec::new();
    let mut waiting = Vec::new();
    let mut add = |verb, cost| match costs.iter_mut().find(|(name, _)| *name == verb) {
        Some((_, costs)) => costs.push(cost),
        None => costs.push((verb, vec![cost])),
    };
    let mut bundle = cx.bundle();
    // Paths that every kernel has, so that it is the same work everywhere.
    bundle.set(
        "/linux/maskedPaths",
        json!(["/proc/irq", "/proc/interrupts"]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/fs"]));
    let path = bundle.path.to_str().unwrap().to_owned();
    let id = bundle.id.clone();
    // Leaves the state root behind.
    bundle.args(&["/bin/true"]);
    cx.run(&bundle).ok();
    for _ in 0..RUNS {
        bundle.args(&["/bin/true"]);
        bundle.write();
        add("version", cx.cost(&["--version"]));
        add("run", cx.cost(&["run", "--bundle", &path, &id]));
        bundle.args(&["/bin/sleep", "1000"]);
        bundle.write();
        add("create", cx.cost(&["create", "--bundle", &path, &id]));
        let container = cx.container(&id);
        // It is told of as created a moment before it waits.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let rollup = format!("/proc/{}/smaps_rollup", container.pid());
        waiting.push(std::fs::read_to_string(rollup).unwrap());
        add("start", cx.cost(&["start", &id]));
        container.wait_for("running");
        add("state", cx.cost(&["state", &id]));
        add("exec", cx.cost(&["exec", &id, "/bin/true"]));
        add("kill", cx.cost(&["kill", &id, "KILL"]));
        container.wait_for("stopped");
        add("delete", cx.cost(&["delete", &id]));
    }
    (costs, waiting)
}

fn budget(what: &str) -> Option<u64> {
    let line = BUDGET
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

fn write(measured: &[(String, u64)]) {
    let mut text =
        "# What tests/root/budget.rs holds the static binary to; written by it.\n".to_owned();
    for (what, value) in measured {
        writeln!(text, "{what}: {value}").unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/budget.txt");
    std::fs::write(path, text).unwrap();
}
