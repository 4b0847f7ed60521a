//! Picks the tests, runs each in a process of its own, several at a time, and reports.
//!
//! The process of a test is this binary with `--one LABEL WORLD DIR TOKEN RUNTIME`, inside the box
//! that `--box` makes; it leaves by 0, by [`SKIPPED`] or by a panic. This parent has the deadline
//! and removes the test's directory and cgroups.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Cx, SKIPPED, Test, World, Worlds, boxed, host_is_v2, is_rundlet, leak, observed};

const TEST_DEADLINE: Duration = Duration::from_secs(150);

/// For as many rounds as somebody has asked for.
const BY_HAND: Duration = Duration::from_secs(3600);

/// systemctl alone takes a second where the machine is busy, and one test makes 200 containers.
const SYSTEMD_DEADLINE: Duration = Duration::from_secs(300);

/// Tests at a time: the machine has two cores, and much of a test is waiting.
const JOBS: usize = 4;

/// So many failures may be a matter of tests that disturb each other, or of a busy machine; more are one of the runtime.
const SECOND_TRIES: usize = 5;

struct Job {
    test: Test,
    world: World,
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

pub(crate) fn main(tables: &[&[Test]]) -> ExitCode {
    let tests: Vec<Test> = tables
        .iter()
        .flat_map(|table| table.iter().copied())
        .collect();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--box") => return boxed::enter(&args),
        Some("--init") => return boxed::init(&args),
        Some("--one") => return one(&tests, &args),
        _ => {}
    }
    if args.iter().any(|arg| arg == "--list-differences") {
        for test in &tests {
            println!("{}\t{}", test.label(), test.differs.unwrap_or_default());
        }
        return ExitCode::SUCCESS;
    }
    let runtime = runtime();
    let jobs = select(&tests, &args);
    if args.iter().any(|arg| arg == "--list") {
        for job in &jobs {
            println!("{}: test", job.label());
        }
        return ExitCode::SUCCESS;
    }
    println!(
        "\nrunning {} root tests of {}",
        jobs.len(),
        runtime.display()
    );
    let mut verdicts = run_all(&jobs, &runtime);
    try_again(&jobs, &runtime, &mut verdicts);
    leak::remove_parents();
    report(&verdicts)
}

fn runtime() -> PathBuf {
    std::env::var_os("RUNDLET_TEST_RUNTIME").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_rundlet")),
        PathBuf::from,
    )
}

/// Every test in each of its worlds whose label contains one of the words; flags of cargo's own
/// harness are let through without effect.
fn select(tests: &[Test], args: &[String]) -> Vec<Job> {
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut jobs = Vec::new();
    for world in [World::Host, World::V2, World::Systemd] {
        for test in tests {
            let wanted = match world {
                World::Host => match test.worlds {
                    Worlds::Host | Worlds::Both => true,
                    Worlds::V2 => host_is_v2(),
                    Worlds::Systemd => false,
                },
                World::V2 => matches!(test.worlds, Worlds::V2 | Worlds::Both) && !host_is_v2(),
                World::Systemd => test.worlds == Worlds::Systemd,
            };
            let job = Job { test: *test, world };
            if wanted && (words.is_empty() || words.iter().any(|word| job.label().contains(*word)))
            {
                jobs.push(job);
            }
        }
    }
    jobs
}

impl Job {
    fn label(&self) -> String {
        let world = match self.world {
            World::Host => "",
            World::V2 => " [v2]",
            World::Systemd => " [systemd]",
        };
        format!("{}{world}", self.test.label())
    }
}

impl Test {
    fn label(&self) -> String {
        let module = self.module.rsplit("::").next().unwrap_or(self.module);
        format!("{module}::{}", self.name)
    }
}

fn run_all(jobs: &[Job], runtime: &Path) -> Vec<(String, Verdict)> {
    let reason = unable(runtime);
    let queue = Mutex::new(jobs.iter().enumerate());
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                loop {
                    let Some((number, job)) = queue.lock().unwrap().next() else {
                        break;
                    };
                    let start = Instant::now();
                    let verdict = match &reason {
                        Some(reason) => Verdict::Skipped(reason.clone()),
                        None => run_one(job, number, runtime),
                    };
                    let label = job.label();
                    let mut verdicts = verdicts.lock().unwrap();
                    let time = start.elapsed().as_millis();
                    match &verdict {
                        Verdict::Passed => println!("ok {label} ({time} ms)"),
                        Verdict::Failed(_) => println!("FAILED {label} ({time} ms)"),
                        Verdict::Skipped(reason) => println!("SKIP {label}: {reason}"),
                    }
                    verdicts.push((label, verdict));
                }
            });
        }
    });
    verdicts.into_inner().unwrap()
}

/// Runs what failed once more, one after the other with nothing beside it. What passes then is named, with what it said before:
/// a test that depends on its neighbours is to be mended, but says nothing against the runtime.
fn try_again(jobs: &[Job], runtime: &Path, verdicts: &mut [(String, Verdict)]) {
    let failures = verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_)))
        .count();
    if failures > SECOND_TRIES {
        return;
    }
    for (label, verdict) in verdicts {
        let Verdict::Failed(before) = &*verdict else {
            continue;
        };
        let Some(number) = jobs.iter().position(|job| job.label() == *label) else {
            continue;
        };
        let again = run_one(&jobs[number], jobs.len() + number, runtime);
        if matches!(again, Verdict::Passed) {
            println!(
                "UNSTEADY {label}: passes alone; beside others it said:\n{}",
                before.trim_end()
            );
            *verdict = again;
        }
    }
}

/// Why nothing can be run here at all.
fn unable(runtime: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox (package busybox-static)".to_owned());
    }
    (!runtime.exists()).then(|| format!("no runtime at {}", runtime.display()))
}

fn run_one(job: &Job, number: usize, runtime: &Path) -> Verdict {
    // The "z" keeps one token from being the beginning of another.
    let token = format!("rt{}x{number}z", std::process::id());
    let dir = std::env::temp_dir().join(&token);
    std::fs::create_dir(&dir).unwrap();
    // A container's root mapped to an unprivileged id of the host walks through it.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = dir.join("test.log");
    let output = File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--box")
        .arg(job.test.label())
        .arg(match job.world {
            World::Host => "host",
            World::V2 => "v2",
            World::Systemd => "systemd",
        })
        .arg(&dir)
        .arg(&token)
        .arg(runtime)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let deadline = deadline(job);
    let end = Instant::now() + deadline;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > end {
            // The box's init has it as its death signal, and takes the box along.
            leak::thaw(&token);
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let verdict = judge(job, code, &text, runtime);
    if matches!(verdict, Verdict::Passed | Verdict::Skipped(_)) && is_rundlet(runtime) {
        let passed = matches!(verdict, Verdict::Passed);
        observed::keep(&job.test.label(), job.world, &text, passed);
    }
    leak::remove(&Cx {
        dir,
        token,
        runtime: runtime.to_owned(),
        world: job.world,
    });
    verdict
}

fn deadline(job: &Job) -> Duration {
    match job.world {
        World::Systemd => SYSTEMD_DEADLINE,
        World::Host | World::V2
            if ["RUNDLET_TEST_CHAOS", "RUNDLET_TEST_STEPS"]
                .iter()
                .any(|name| std::env::var_os(name).is_some()) =>
        {
            BY_HAND
        }
        World::Host | World::V2 => TEST_DEADLINE,
    }
}

fn judge(job: &Job, code: Option<i32>, text: &str, runtime: &Path) -> Verdict {
    match code {
        Some(0) => {
            if let Some(reason) = job.test.differs.filter(|_| !is_rundlet(runtime)) {
                println!(
                    "note: {} passes on the reference, marked \"{reason}\"",
                    job.label()
                );
            }
            Verdict::Passed
        }
        Some(SKIPPED) => {
            let reason = text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("SKIP: "));
            Verdict::Skipped(reason.unwrap_or("no reason").to_owned())
        }
        _ => match job
            .test
            .differs
            .filter(|_| !is_rundlet(runtime) && !strict())
        {
            Some(reason) => Verdict::Skipped(format!("the reference is known to differ: {reason}")),
            None if code.is_none() => Verdict::Failed(format!(
                "{text}\nkilled, or no end within {:?}",
                deadline(job)
            )),
            None => Verdict::Failed(text.to_owned()),
        },
    }
}

/// `RUNDLET_TEST_STRICT=1` shows why the reference differs instead of skipping.
fn strict() -> bool {
    std::env::var_os("RUNDLET_TEST_STRICT").is_some()
}

fn report(verdicts: &[(String, Verdict)]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (label, verdict) in verdicts {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Failed(text) => {
                failed += 1;
                println!("\n---- {label}\n{}", text.trim_end());
            }
        }
    }
    if let Err(difference) = observed::settle() {
        failed += 1;
        println!("\n---- fields\n{}", difference.trim_end());
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The process of one test.
fn one(tests: &[Test], args: &[String]) -> ExitCode {
    let [_, label, world, dir, token, runtime] = args else {
        eprintln!("--one MODULE::NAME WORLD DIR TOKEN RUNTIME");
        return ExitCode::FAILURE;
    };
    let test = tests
        .iter()
        .find(|test| test.label() == *label)
        .expect("a test of that name");
    let world = match world.as_str() {
        "v2" => World::V2,
        "systemd" => World::Systemd,
        _ => World::Host,
    };
    let cx = Cx {
        dir: dir.into(),
        token: token.clone(),
        runtime: runtime.into(),
        world,
    };
    (test.run)(&cx);
    let left = leak::settle(&cx);
    if !left.is_empty() {
        eprintln!("left behind:\n{}", left.join("\n"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
