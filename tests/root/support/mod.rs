//! What the tests stand on: the list of tests, the context of one test, and the two cgroup worlds.
//!
//! A topic file fills a table with `tests!`; `main` hands the tables to `runner`. A test gets a
//! [`Cx`] with a directory, a state root and a token of its own. The token is in every id, cgroup
//! path and file name of the test, so that `leak` can find whatever was left behind.

pub(crate) mod agent;
mod boxed;
pub(crate) mod bundle;
pub(crate) mod count;
pub(crate) mod leak;
mod observed;
pub(crate) mod older;
mod runner;
pub(crate) mod runtime;
pub(crate) mod steps;
pub(crate) mod stuck;
pub(crate) mod tty;
pub(crate) mod user;
pub(crate) mod watched;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use bundle::Bundle;
pub(crate) use runner::main;
pub(crate) use runtime::{Container, Output};

/// The exit code by which a test process says "skipped".
pub(crate) const SKIPPED: i32 = 77;

/// The cgroup under which every container of the suite lives.
pub(crate) const CGROUP_PARENT: &str = "rundlet-test";

/// Where a test runs: on the cgroups of the host, in a private view of cgroup2 alone, or both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worlds {
    Host,
    V2,
    Both,
    /// On the host, outside of a pid namespace: systemd has to know the processes by the same numbers.
    Systemd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Host,
    V2,
    Systemd,
}

#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    pub(crate) worlds: Worlds,
    /// Why the reference runtime (Debian's runc 1.1.5) is known not to pass.
    pub(crate) differs: Option<&'static str>,
    pub(crate) run: fn(&Cx),
}

/// Fills a topic's table: `tests! { both f; host g = "why runc differs"; }`.
macro_rules! tests {
    ($($world:ident $name:ident $(= $differs:literal)?;)*) => {
        pub(crate) const TESTS: &[crate::support::Test] = &[$(crate::support::Test {
            module: module_path!(),
            name: stringify!($name),
            worlds: crate::support::tests!(@world $world),
            differs: crate::support::tests!(@differs $($differs)?),
            run: $name,
        }),*];
    };
    (@world host) => { crate::support::Worlds::Host };
    (@world v2) => { crate::support::Worlds::V2 };
    (@world systemd) => { crate::support::Worlds::Systemd };
    (@world both) => { crate::support::Worlds::Both };
    (@differs) => { None };
    (@differs $reason:literal) => { Some($reason) };
}
pub(crate) use tests;

/// One test's surroundings.
pub(crate) struct Cx {
    /// A directory of this test alone; removed by the runner, whatever happens.
    pub(crate) dir: PathBuf,
    /// In every name the test uses.
    pub(crate) token: String,
    pub(crate) runtime: PathBuf,
    pub(crate) world: World,
}

impl Cx {
    /// The state root of this test.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A container id that carries the token.
    pub(crate) fn id(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.token)
    }

    /// False when the suite is aimed at runc or crun: wording is then not compared.
    pub(crate) fn is_rundlet(&self) -> bool {
        is_rundlet(&self.runtime)
    }

    /// True when the runtime under test sees a pure cgroup2 host.
    pub(crate) fn is_v2(&self) -> bool {
        self.world == World::V2 || host_is_v2()
    }

    /// This test on runc, with its state in `state` of `dir`: `RUNDLET_TEST_REFERENCE`, else the host's.
    pub(crate) fn on_runc(&self, dir: PathBuf) -> Cx {
        let given = std::env::var_os("RUNDLET_TEST_REFERENCE").map(PathBuf::from);
        let places = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"].map(PathBuf::from);
        let Some(runtime) = given.into_iter().chain(places).find(|p| p.exists()) else {
            self.skip("no runc to compare with");
        };
        Cx {
            dir,
            token: self.token.clone(),
            runtime,
            world: self.world,
        }
    }

    /// The directory of a container's cgroup; `controller` matters on v1 only.
    pub(crate) fn cgroup_dir(&self, controller: &str, id: &str) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        let top = if self.is_v2() {
            top.to_path_buf()
        } else {
            top.join(controller)
        };
        top.join(CGROUP_PARENT).join(id)
    }

    /// A file of this test's directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Leaves the test as skipped.
    #[allow(clippy::unused_self)] // reads as what it is: this test is skipped
    pub(crate) fn skip(&self, reason: &str) -> ! {
        println!("SKIP: {reason}");
        std::process::exit(SKIPPED)
    }
}

pub(crate) fn is_rundlet(runtime: &Path) -> bool {
    runtime
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("rundlet"))
}

/// True when /sys/fs/cgroup of the calling process is cgroup2 itself.
pub(crate) fn host_is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Polls until `check` holds; panics with `what` after `seconds`.
pub(crate) fn eventually(what: &str, seconds: u64, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !check() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// True while the process exists and is not a zombie.
pub(crate) fn alive(pid: i64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()))
        .is_some_and(|rest| !rest.starts_with('Z') && !rest.starts_with('X'))
}
