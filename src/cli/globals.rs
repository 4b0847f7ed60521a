//! The flags before the verb, and what follows from them for every verb. Called by `cli`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::grammar::{Flag, Kind};
use crate::container::options::{Context, Rootless};
use crate::plan::host::in_initial_user_namespace;
use crate::{log, timings};

/// For the help text; the values are read from the lexer's output by `take`, which spares a clap parse.
#[derive(clap::Args, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(super) struct Globals {
    /// directory of the state of containers (default: /run/rundlet, or $XDG_RUNTIME_DIR/rundlet for a user
    /// who is not root)
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// file to append the log to (default: standard error)
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// format of the log: text (default) or json
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
    /// log debug messages too
    #[arg(long)]
    pub(super) debug: bool,
    /// let systemd make the cgroup (linux.cgroupsPath: slice:prefix:name)
    #[arg(long)]
    pub(super) systemd_cgroup: bool,
    /// ignore permission errors of the cgroup file system: true, false or auto (default)
    #[arg(long, value_name = "WHEN")]
    pub(super) rootless: Option<String>,
    /// file to write to where the time of the command went (default: $RUNDLET_TIMINGS, else none)
    #[arg(long, value_name = "FILE")]
    pub(super) timings: Option<PathBuf>,
    /// format of that file: json, or chrome for trace events (default: chrome for a name that ends in `.trace`)
    #[arg(long, value_name = "FORMAT")]
    pub(super) timings_format: Option<String>,
    /// print the version
    #[arg(long, short = 'v')]
    pub(super) version: bool,
}

/// What the lexer needs of the struct above, without building it; a test keeps the two equal.
pub(super) const FLAGS: [Flag; 9] = [
    Flag {
        long: "root",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "log",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "log-format",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "debug",
        short: None,
        kind: Kind::Switch,
    },
    Flag {
        long: "systemd-cgroup",
        short: None,
        kind: Kind::Switch,
    },
    Flag {
        long: "rootless",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "timings",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "timings-format",
        short: None,
        kind: Kind::Value,
    },
    Flag {
        long: "version",
        short: Some('v'),
        kind: Kind::Switch,
    },
];

impl Globals {
    pub(super) fn take(&mut self, flags: Vec<(&'static str, Option<OsString>)>) {
        for (name, value) in flags {
            let value = value.unwrap_or_default();
            let text = || Some(value.to_string_lossy().into_owned());
            match name {
                "root" => self.root = Some(value.into()),
                "log" => self.log = Some(value.into()),
                "log-format" => self.log_format = text(),
                "rootless" => self.rootless = text(),
                "timings" => self.timings = Some(value.into()),
                "timings-format" => self.timings_format = text(),
                "debug" => self.debug = true,
                "systemd-cgroup" => self.systemd_cgroup = true,
                "version" => self.version = true,
                _ => {}
            }
        }
    }

    pub(super) fn log_format(&self) -> Result<log::Format, String> {
        match self.log_format.as_deref() {
            None | Some("text") => Ok(log::Format::Text),
            Some("json") => Ok(log::Format::Json),
            Some(other) => Err(format!("invalid log-format: {other}")),
        }
    }

    /// Where the timings go and how, if they are wanted.
    pub(super) fn timings(&self) -> Result<Option<(PathBuf, timings::Format)>, String> {
        let given = std::env::var_os("RUNDLET_TIMINGS").filter(|path| !path.is_empty());
        let Some(path) = self.timings.clone().or(given.map(PathBuf::from)) else {
            return Ok(None);
        };
        let is_trace = path.extension().is_some_and(|suffix| suffix == "trace");
        let format = match self.timings_format.as_deref() {
            Some("json") => timings::Format::Json,
            Some("chrome") => timings::Format::Chrome,
            Some(other) => return Err(format!("invalid timings-format: {other} (json or chrome)")),
            None if is_trace => timings::Format::Chrome,
            None => timings::Format::Json,
        };
        Ok(Some((path, format)))
    }

    pub(super) fn context(self) -> Result<Context> {
        let rootless = match self.rootless.as_deref() {
            None | Some("auto") => Rootless::Auto,
            Some(value) if ["true", "1", "t", "T", "TRUE", "True"].contains(&value) => {
                Rootless::Yes
            }
            Some(value) if ["false", "0", "f", "F", "FALSE", "False"].contains(&value) => {
                Rootless::No
            }
            Some(other) => {
                bail!("invalid value \"{other}\" for flag -rootless: true, false or auto")
            }
        };
        let runtime_dir = self.root.is_none().then(private_runtime_dir).flatten();
        let root = match (&self.root, &runtime_dir) {
            (Some(root), _) => cleaned_root(root)?,
            (None, Some(dir)) => cleaned_root(&dir.join("rundlet"))?,
            (None, None) => PathBuf::from("/run/rundlet"),
        };
        Ok(Context {
            root,
            root_is_private_default: runtime_dir.is_some(),
            systemd_cgroup: self.systemd_cgroup,
            rootless,
        })
    }
}

/// Absolute and without `.` and `..`, by words alone: a link named in it is still followed by the kernel.
fn cleaned_root(root: &Path) -> Result<PathBuf> {
    let absolute = if root.is_absolute() {
        root.to_owned()
    } else {
        std::env::current_dir()
            .context("find the current directory")?
            .join(root)
    };
    let mut cleaned = PathBuf::from("/");
    for part in absolute.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    ensure!(
        cleaned != Path::new("/"),
        "--root `{}`: the state root must not be `/`",
        root.display()
    );
    Ok(cleaned)
}

/// `$XDG_RUNTIME_DIR` where it is this user's own: not for the host's root, who may have inherited the variable.
fn private_runtime_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    if nix::unistd::geteuid().is_root() {
        // As runc: Podman calls without USER, Docker's rootless daemon may be told that it is root.
        let told_root = std::env::var_os("USER").is_some_and(|user| user == "root");
        if told_root || in_initial_user_namespace() {
            return None;
        }
    }
    Some(dir.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context_of(name: &'static str, value: &str) -> Result<Context> {
        let mut globals = Globals::default();
        globals.take(vec![(name, Some(value.into()))]);
        globals.context()
    }

    #[test]
    fn the_root_is_absolute_and_clean_and_never_the_root() {
        let root = |value| context_of("root", value).map(|context| context.root);
        assert_eq!(root("/run//x/./y/../z/").unwrap(), Path::new("/run/x/z"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(root("state").unwrap(), here.join("state"));
        for refused in ["/", "//", "/run/..", "/../.."] {
            assert!(root(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn rootless_takes_three_answers() {
        let rootless = |value| context_of("rootless", value).map(|context| context.rootless);
        assert_eq!(rootless("true").unwrap(), Rootless::Yes);
        assert_eq!(rootless("false").unwrap(), Rootless::No);
        assert_eq!(rootless("auto").unwrap(), Rootless::Auto);
        assert!(rootless("perhaps").is_err());
    }

    #[test]
    fn the_table_of_flags_is_the_one_that_help_shows() {
        use clap::Args as _;
        let defined =
            super::super::grammar::flags_of(&Globals::augment_args(clap::Command::new("rundlet")));
        assert_eq!(defined, FLAGS);
    }
}
