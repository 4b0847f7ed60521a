//! Runs the runtime under test: output into files (a container may keep the descriptors for
//! ever), always with a deadline.

use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bundle, Cx, alive, eventually};

/// No command of the suite takes longer; one that does is killed and the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Output {
    what: String,
    /// The exit code, or 128 + signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: exit code {}", self.what, self.code)?;
        writeln!(f, "stdout: {:?}\nstderr: {}", self.stdout, self.stderr)
    }
}

impl Output {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.is(0)
    }

    #[track_caller]
    pub(crate) fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// The output of a program, without the blanks around it.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self}");
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert_eq!(self.text(), text, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in {self}");
        self
    }
}

/// A command that was started and whose output is being collected.
pub(crate) struct Running {
    what: String,
    pub(crate) child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits for the end, at most until the deadline.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let end = Instant::now() + DEADLINE;
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!(
                    "{}: still running after {DEADLINE:?}\nstderr: {}",
                    self.what,
                    read(&self.stderr)
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        Output {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            what: self.what,
        }
    }

    /// What it has printed so far.
    pub(crate) fn so_far(&self) -> String {
        read(&self.stdout)
    }
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Cx {
    /// The runtime with this test's state root and these arguments, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.root()).args(args);
        command
    }

    /// Starts any command with its output going to files and no input.
    pub(crate) fn spawn(&self, command: Command) -> Running {
        self.spawn_from(command, Stdio::null())
    }

    /// The same with a text as its standard input.
    pub(crate) fn spawn_with_input(&self, command: Command, input: &str) -> Running {
        let path = self.file("input", input);
        self.spawn_from(command, File::open(path).unwrap().into())
    }

    fn spawn_from(&self, mut command: Command, input: Stdio) -> Running {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let stdout = self.dir.join(format!("out-{number}"));
        let stderr = self.dir.join(format!("err-{number}"));
        command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        command.stdin(input);
        let what = format!("{command:?}");
        Running {
            child: command.spawn().expect("the command starts"),
            what,
            stdout,
            stderr,
        }
    }

    /// Runs the runtime to its end.
    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Output {
        self.spawn(self.command(args)).wait()
    }

    /// Runs a shell command of the host.
    #[track_caller]
    pub(crate) fn host(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        self.spawn(command).wait()
    }

    /// `run` in the foreground.
    #[track_caller]
    pub(crate) fn run(&self, bundle: &Bundle) -> Output {
        self.run_with(bundle, &[])
    }

    #[track_caller]
    pub(crate) fn run_with(&self, bundle: &Bundle, flags: &[&str]) -> Output {
        bundle.write();
        let mut args = vec!["run", "--bundle", bundle.path.to_str().unwrap()];
        args.extend(flags);
        args.push(&bundle.id);
        self.call(&args)
    }

    /// `create`, whatever comes of it.
    #[track_caller]
    pub(crate) fn try_create(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call(&[
            "create",
            "--bundle",
            bundle.path.to_str().unwrap(),
            &bundle.id,
        ])
    }

    #[track_caller]
    pub(crate) fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.try_create(bundle).ok();
        Container {
            cx: self,
            id: bundle.id.clone(),
        }
    }

    /// A container that exists already.
    pub(crate) fn container(&self, id: &str) -> Container<'_> {
        Container {
            cx: self,
            id: id.to_owned(),
        }
    }

    /// create and start.
    #[track_caller]
    pub(crate) fn start(&self, bundle: &Bundle) -> Container<'_> {
        let container = self.create(bundle);
        container.call("start").ok();
        container
    }

    /// A running container that sleeps.
    #[track_caller]
    pub(crate) fn sleeper(&self) -> Container<'_> {
        self.start(&self.bundle())
    }

    /// Runs a script in the template's container after an edit; the output of a good end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str, edit: impl FnOnce(&mut Bundle)) -> Output {
        let mut bundle = self.script(script);
        edit(&mut bundle);
        self.run(&bundle).ok()
    }
}

/// A container by its id. The test deletes it; what it forgets, the leak check reports.
pub(crate) struct Container<'a> {
    pub(crate) cx: &'a Cx,
    pub(crate) id: String,
}

impl Container<'_> {
    #[track_caller]
    pub(crate) fn call(&self, verb: &str) -> Output {
        self.cx.call(&[verb, &self.id])
    }

    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) -> Output {
        self.cx.call(&["kill", &self.id, signal])
    }

    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        let output = self.call("state").ok();
        serde_json::from_str(&output.stdout).expect("state prints JSON")
    }

    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, status: &str) {
        eventually(&format!("status {status}"), 10, || self.status() == status);
    }

    /// `exec` by flags.
    #[track_caller]
    pub(crate) fn exec_with(&self, flags: &[&str], args: &[&str]) -> Output {
        let mut all = vec!["exec"];
        all.extend(flags);
        all.push(&self.id);
        all.extend(args);
        self.cx.call(&all)
    }

    #[track_caller]
    pub(crate) fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args)
    }

    #[track_caller]
    pub(crate) fn exec_sh(&self, script: &str) -> Output {
        self.exec_with(&[], &["sh", "-c", script])
    }

    /// SIGKILL, wait, delete.
    #[track_caller]
    pub(crate) fn end(self) {
        let pid = self.pid();
        self.kill("KILL").ok();
        if pid > 0 {
            eventually("the container's init is gone", 10, || !alive(pid));
        }
        self.wait_for("stopped");
        self.call("delete").ok();
    }
}
