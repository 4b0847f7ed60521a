//! The command line: global flags, the table of verbs, help, and what becomes of an error.
//! Called by `main`. Only the verb that was asked for has its clap command built.
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
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod top;
pub(crate) mod update;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use nix::errno::Errno;

use crate::container::options::Context;
use crate::error::Report;
use crate::{features as facts, log, sealed, timings};
use globals::Globals;
use grammar::Lexed;

/// How a verb's words may look.
#[derive(Clone, Copy)]
enum Words {
    /// Exactly so many; flags may stand anywhere.
    Exactly(usize),
    /// Exactly so many, or none with this switch; flags may stand anywhere.
    ExactlyUnless(usize, &'static str),
    /// From and to; flags end after the first word.
    IdThen(usize, usize),
    /// As many as there are; flags may stand anywhere.
    Many,
    /// Anything: the verb reads none of it as a flag.
    Any,
}

/// One verb: its line in the help, its flags, and what it does.
struct Verb {
    name: &'static str,
    about: &'static str,
    usage: &'static str,
    words: Words,
    define: fn(Command) -> Command,
    run: fn(&Context, &ArgMatches) -> Result<i32>,
}

/// Binds a file's flags (`Args` struct) and its `run` into a row of the table.
macro_rules! verb {
    ($name:literal, $file:ident :: $run:ident ($args:ident), $words:expr, $usage:literal, $about:literal) => {
        Verb {
            name: $name,
            about: $about,
            usage: $usage,
            words: $words,
            define: <$file::$args as Args>::augment_args,
            run: |context, matches| $file::$run(context, &$file::$args::from_arg_matches(matches)?),
        }
    };
}

const ANY: usize = usize::MAX;

/// In the order of the help text.
static VERBS: [Verb; 21] = [
    verb!(
        "create",
        create::run(OnlyCreateArgs),
        Words::Exactly(1),
        "<container-id>",
        "create a container"
    ),
    verb!(
        "start",
        start::run(StartArgs),
        Words::Exactly(1),
        "<container-id>",
        "start the process of a created container"
    ),
    verb!(
        "run",
        run::run(RunArgs),
        Words::Exactly(1),
        "<container-id>",
        "create and start a container, and wait for its end"
    ),
    verb!(
        "exec",
        exec::run(ExecArgs),
        Words::IdThen(1, ANY),
        "<container-id> <command> [argument...]  |  --process FILE <container-id>",
        "run one more process in a running container"
    ),
    verb!(
        "state",
        state::run(StateArgs),
        Words::Exactly(1),
        "<container-id>",
        "print the state of a container as JSON"
    ),
    verb!(
        "list",
        list::run(ListArgs),
        Words::Exactly(0),
        "",
        "list the containers below the state root"
    ),
    verb!(
        "ps",
        ps::run(PsArgs),
        Words::IdThen(1, ANY),
        "<container-id> [ps option...]",
        "list the processes in a container"
    ),
    verb!(
        "events",
        events::run(EventsArgs),
        Words::ExactlyUnless(1, "follow-all"),
        "<container-id>  |  --follow-all",
        "print statistics and OOM kills of a container, or what becomes of all"
    ),
    verb!(
        "top",
        top::run(TopArgs),
        Words::Many,
        "[container-id...]",
        "watch what containers use: CPU, memory, processes, I/O, pressure"
    ),
    verb!(
        "kill",
        kill::run(KillArgs),
        Words::IdThen(1, 2),
        "<container-id> [signal]",
        "send a signal (default: SIGTERM) to a container's process"
    ),
    verb!(
        "pause",
        pause::pause(PauseArgs),
        Words::Exactly(1),
        "<container-id>",
        "freeze all processes of a container"
    ),
    verb!(
        "resume",
        pause::resume(PauseArgs),
        Words::Exactly(1),
        "<container-id>",
        "thaw all processes of a paused container"
    ),
    verb!(
        "delete",
        delete::run(DeleteArgs),
        Words::Exactly(1),
        "<container-id>",
        "remove a stopped container"
    ),
    verb!(
        "spec",
        spec::run(SpecArgs),
        Words::Exactly(0),
        "",
        "write a config.json to start from"
    ),
    verb!(
        "check",
        check::run(CheckArgs),
        Words::Exactly(1),
        "<bundle>",
        "look for mistakes in a bundle, and for what this host lacks"
    ),
    verb!(
        "doctor",
        doctor::run(DoctorArgs),
        Words::Exactly(0),
        "",
        "tell what this host lacks for containers, and what to do about it"
    ),
    verb!(
        "features",
        features::run(FeaturesArgs),
        Words::Exactly(0),
        "",
        "print what this version supports as JSON"
    ),
    verb!(
        "update",
        update::run(UpdateArgs),
        Words::Exactly(1),
        "<container-id>",
        "change the resource limits of a container"
    ),
    verb!(
        "checkpoint",
        checkpoint::run(CheckpointArgs),
        Words::Exactly(1),
        "<container-id>",
        "save a running container to files"
    ),
    verb!(
        "restore",
        restore::run(RestoreArgs),
        Words::Exactly(1),
        "<container-id>",
        "make a container again from a checkpoint"
    ),
    verb!(
        "help",
        help::run(HelpArgs),
        Words::Any,
        "[verb]",
        "print help on rundlet or on a verb"
    ),
];

/// A verb as the fuzzer knows it.
#[cfg(any(test, fuzzing))]
pub(crate) struct Definition {
    pub(crate) flags: Vec<grammar::Flag>,
    pub(crate) command: Command,
}

#[cfg(any(test, fuzzing))]
pub(crate) fn definitions() -> Vec<Definition> {
    let define = |verb: &Verb| {
        let command = (verb.define)(Command::new(verb.name));
        let flags = grammar::flags_of(&command);
        Definition { flags, command }
    };
    VERBS.iter().map(define).collect()
}

/// Verbs that enter a container (E1).
const ENTERING: [&str; 4] = ["create", "run", "exec", "restore"];

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
    let verb = name.as_ref().and_then(|name| find(name));
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
    let (lexed, command) = match verb_line(verb, inner, &mut globals) {
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
    count_words(verb, &lexed).map_err(misuse(Some(verb)))?;
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

fn find(name: &str) -> Option<&'static Verb> {
    let name = if name == "h" { "help" } else { name };
    VERBS.iter().find(|verb| verb.name == name)
}

/// Lexes what follows the verb. Global flags are taken there too, where the verb has none of that name.
fn verb_line(
    verb: &'static Verb,
    args: &[OsString],
    globals: &mut Globals,
) -> Result<(Lexed, Command), String> {
    let command = (verb.define)(Command::new(verb.name));
    if matches!(verb.words, Words::Any) {
        return Ok((any_words(args), command));
    }
    let mut flags = grammar::flags_of(&command);
    let own = flags.len();
    for flag in globals::FLAGS.iter().filter(|flag| flag.long != "version") {
        if !flags[..own].iter().any(|given| given.long == flag.long) {
            flags.push(flag.clone());
        }
    }
    let stop_after = match verb.words {
        Words::IdThen(..) => Some(1),
        _ => None,
    };
    let mut lexed = grammar::lex(&flags, args, stop_after)?;
    let is_global = |name: &str| flags[own..].iter().any(|flag| flag.long == name);
    let (outer, inner) = lexed
        .flags
        .into_iter()
        .partition(|(name, _)| is_global(name));
    lexed.flags = inner;
    globals.take(outer);
    Ok((lexed, command))
}

/// `help`: what it is asked about may be anything.
fn any_words(args: &[OsString]) -> Lexed {
    let help = args
        .iter()
        .any(|arg| ["-h", "-help", "--help"].iter().any(|flag| arg == flag));
    Lexed {
        flags: Vec::new(),
        words: args.to_vec(),
        help,
    }
}

fn count_words(verb: &Verb, lexed: &Lexed) -> Result<(), String> {
    let count = lexed.words.len();
    let name = verb.name;
    let words = match verb.words {
        Words::ExactlyUnless(wanted, switch) => {
            let given = lexed.flags.iter().any(|(flag, _)| *flag == switch);
            Words::Exactly(if given { 0 } else { wanted })
        }
        other => other,
    };
    match words {
        Words::Exactly(wanted) if count != wanted => Err(format!(
            "rundlet: \"{name}\" requires exactly {wanted} argument(s)"
        )),
        Words::IdThen(least, _) if count < least => Err(format!(
            "rundlet: \"{name}\" requires a minimum of {least} argument(s)"
        )),
        Words::IdThen(_, most) if count > most => Err(format!(
            "rundlet: \"{name}\" requires a maximum of {most} argument(s)"
        )),
        _ => Ok(()),
    }
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
    use super::*;

    #[test]
    fn every_verb_has_a_sound_definition_and_its_own_name() {
        for (i, verb) in VERBS.iter().enumerate() {
            help::dress(verb, (verb.define)(Command::new(verb.name))).debug_assert();
            assert!(VERBS[..i].iter().all(|other| other.name != verb.name));
        }
    }

    #[test]
    fn the_table_of_global_flags_is_the_one_that_help_shows() {
        let defined = grammar::flags_of(&Globals::augment_args(Command::new("rundlet")));
        assert_eq!(defined, globals::FLAGS);
    }

    #[test]
    fn no_verb_has_two_flags_of_one_name() {
        for verb in &VERBS {
            let flags = grammar::flags_of(&(verb.define)(Command::new(verb.name)));
            for (i, flag) in flags.iter().enumerate() {
                assert!(flags[..i].iter().all(|other| other.long != flag.long
                    && (flag.short.is_none() || other.short != flag.short)));
            }
        }
    }
}
