//! The command line: from the words to a verb's run, and what becomes of an error. Called by `main`.
//!
//! Exit codes: 0; 1 for every failure and for wrong usage; 255 when `exec` fails before or beside
//! its process; otherwise what `run` and `exec` return, the code of the container's process.

mod check;
mod checkpoint;
mod create;
mod delete;
#[cfg(test)]
mod docs;
mod doctor;
pub(crate) mod duration;
mod events;
pub(crate) mod exec;
mod features;
mod globals;
pub(crate) mod grammar;
mod help;
pub(crate) mod kill;
mod list;
mod mounts;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod top;
pub(crate) mod update;
mod verbs;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use crate::error::Report;
use crate::{features as facts, log, sealed, timings};
use globals::Globals;
use verbs::Verb;
#[cfg(any(test, fuzzing))]
pub(crate) use verbs::{Definition, definitions};

/// Verbs that enter a container (E1).
const ENTERING: [&str; 5] = ["create", "run", "exec", "restore", "mounts"];

/// Why nothing was done, and what to print with it.
struct Misuse {
    message: String,
    usage: Usage,
}

enum Usage {
    /// The command line was not understood: how the verb, or rundlet as a whole, is called.
    Of(Option<&'static Verb>),
    /// It was, but what it names cannot be used.
    None,
}

/// Runs one command line (without the program's name) to its end.
pub(crate) fn run(args: &[OsString]) -> u8 {
    let exit = |code: i32| u8::try_from(code).unwrap_or(1);
    match dispatch(args) {
        Ok(Ok(code)) => exit(code),
        Ok(Err(Failure { error, code })) => {
            fatal(crate::error::report(&error));
            exit(code)
        }
        Err(misuse) => {
            // Before the error line: callers that read one line read the last.
            if let Usage::Of(verb) = misuse.usage {
                drop(std::io::stderr().write_all(help::usage(verb).as_bytes()));
            }
            fatal(Report {
                message: misuse.message,
                ..Report::default()
            });
            1
        }
    }
}

/// What did not come from the container's process is the runtime's own: the step is what it was doing.
fn fatal(mut report: Report) {
    report
        .step
        .get_or_insert_with(|| timings::step().to_owned());
    log::fatal(&report);
}

struct Failure {
    error: anyhow::Error,
    code: i32,
}

fn dispatch(args: &[OsString]) -> Result<Result<i32, Failure>, Misuse> {
    let misuse = |verb| {
        move |message| Misuse {
            message,
            usage: Usage::Of(verb),
        }
    };
    let outer = grammar::lex(&globals::FLAGS, args, Some(1)).map_err(misuse(None))?;
    let name = outer
        .words
        .first()
        .map(|word| word.to_string_lossy().into_owned());
    let verb = name.as_ref().and_then(|name| verbs::find(name));
    let inner = outer.words.get(1..).unwrap_or_default();
    let help = outer.help;
    let mut globals = Globals::default();
    globals.take(outer.flags);
    if globals.version {
        return Ok(print(&version()).map(|()| 0).map_err(failure(1)));
    }
    let Some(verb) = verb else {
        arm_log(&globals, None)?;
        return match name {
            Some(name) => Err(Misuse {
                message: format!("No help topic for '{name}': unknown verb"),
                usage: Usage::Of(None),
            }),
            None => Ok(print(&help::overview()).map(|()| 0).map_err(failure(1))),
        };
    };
    if ENTERING.contains(&verb.name) {
        // Before the work that the second execution does again. What goes wrong here is told below and by the verb, which try it
        // once more.
        if let Ok(Some((path, format))) = globals.timings() {
            drop(timings::start(&path, format));
        }
        if sealed::ensure().is_err() {
            timings::phase("command line");
        }
    }
    let (lexed, command) = match verbs::lex(verb, inner, &mut globals) {
        Ok(parts) => parts,
        Err(message) => {
            // A wrong flag of the verb is reported in the log too, where the global flags can be read.
            arm_log(&globals, Some(verb))?;
            return Err(Misuse {
                message,
                usage: Usage::Of(Some(verb)),
            });
        }
    };
    if help || lexed.help {
        return Ok(print(&help::page(verb)).map(|()| 0).map_err(failure(1)));
    }
    arm_log(&globals, Some(verb))?;
    arm_timings(&globals, verb)?;
    verbs::count_words(verb, &lexed).map_err(misuse(Some(verb)))?;
    let matches = command
        .try_get_matches_from(lexed.canonical())
        .map_err(|error| misuse(Some(verb))(first_line(&error)))?;
    let context = match globals.context() {
        Ok(context) => context,
        Err(error) => return Ok(Err(failure(1)(error))),
    };
    log::debug(format_args!(
        "rundlet {} {}, root {}",
        facts::VERSION,
        verb.name,
        context.root.display()
    ));
    let result = (verb.run)(&context, &matches);
    if let Err(error) = timings::finish(verb.name) {
        log::warn(format_args!("--timings: {}", crate::error::chain(&error)));
    }
    Ok(match verb.name {
        "exec" => result.context("exec failed").map_err(failure(255)),
        _ => result.map_err(failure(1)),
    })
}

fn failure(code: i32) -> impl Fn(anyhow::Error) -> Failure {
    move |error| Failure { error, code }
}

fn arm_log(globals: &Globals, verb: Option<&'static Verb>) -> Result<(), Misuse> {
    let format = globals.log_format().map_err(|message| Misuse {
        message,
        usage: Usage::Of(verb),
    })?;
    log::init(globals.log.as_deref(), format, globals.debug).map_err(|error| Misuse {
        message: format!("--log: {}", crate::error::chain(&error)),
        usage: Usage::None,
    })
}

fn arm_timings(globals: &Globals, verb: &'static Verb) -> Result<(), Misuse> {
    let wanted = globals.timings().map_err(|message| Misuse {
        message,
        usage: Usage::Of(Some(verb)),
    })?;
    let Some((path, format)) = wanted else {
        return Ok(());
    };
    timings::start(&path, format).map_err(|error| Misuse {
        message: format!("--timings: {}", crate::error::chain(&error)),
        usage: Usage::None,
    })
}

/// clap's sentence alone: "invalid value 'x' for '--preserve-fds <N>': invalid digit found in string".
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn version() -> String {
    format!(
        "rundlet version {}\ncommit: {}\nspec: {}\n",
        facts::VERSION,
        facts::COMMIT,
        facts::SPEC_VERSION
    )
}

/// Everything a verb has to say on stdout. A reader that went away is an error like any other.
fn print(text: &str) -> Result<()> {
    // As it stands: what Rust's library keeps of a line without an end would be one more call.
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(std::io::stdout(), rest) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("write to standard output"),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Made absolute now, because a verb may change its directory. Not resolved: what it names may not exist yet.
fn absolute(path: &Path) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Ok(std::env::current_dir()
        .context("find the current directory")?
        .join(path))
}

#[cfg(test)]
mod tests {
    /// What is done before libc starts has the verbs in its own words. One that it lacks is protected all the same, but later.
    #[test]
    fn verbs_that_enter_a_container_are_known_early() {
        let early = include_str!("../sys/early.rs");
        for verb in super::ENTERING {
            assert!(early.contains(&format!("is(c\"{verb}\")")), "{verb}");
        }
    }
}
