//! The table of verbs: their flags, their line in the help, how their words may look, and what runs them.
//! Read by `cli`, its help and its documents. Only the verb that was asked for has its clap command built.

use std::ffi::OsString;

use anyhow::Result;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::globals::{self, Globals};
use super::grammar::{self, Lexed};
use super::{
    check, checkpoint, create, delete, doctor, events, exec, features, help, kill, list, mounts,
    pause, ps, restore, run, spec, start, state, top, update,
};
use crate::container::options::Context;

/// How a verb's words may look.
#[derive(Clone, Copy)]
pub(super) enum Words {
    /// Exactly so many; flags may stand anywhere.
    Exactly(usize),
    /// From and to; flags may stand anywhere.
    Between(usize, usize),
    /// The same; flags end after the first word.
    IdThen(usize, usize),
    /// Anything: the verb reads none of it as a flag.
    Any,
}

/// One verb: its line in the help, its flags, and what it does.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) usage: &'static str,
    pub(super) words: Words,
    pub(super) define: fn(Command) -> Command,
    pub(super) run: fn(&Context, &ArgMatches) -> Result<i32>,
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
pub(super) static VERBS: [Verb; 22] = [
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
        Words::Exactly(1),
        "<container-id>",
        "print statistics and OOM kills of a container"
    ),
    verb!(
        "top",
        top::run(TopArgs),
        Words::Between(0, ANY),
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
        "mounts",
        mounts::run(MountsArgs),
        Words::Between(2, 3),
        "add|remove <container-id> <file>|-  |  list <container-id>",
        "give mounts to a running container, or take them away again"
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

pub(super) fn find(name: &str) -> Option<&'static Verb> {
    let name = if name == "h" { "help" } else { name };
    VERBS.iter().find(|verb| verb.name == name)
}

/// Lexes what follows the verb. Global flags are taken there too, where the verb has none of that name.
pub(super) fn lex(
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

pub(super) fn count_words(verb: &Verb, lexed: &Lexed) -> Result<(), String> {
    let count = lexed.words.len();
    let name = verb.name;
    match verb.words {
        Words::Exactly(wanted) if count != wanted => Err(format!(
            "rundlet: \"{name}\" requires exactly {wanted} argument(s)"
        )),
        Words::IdThen(least, _) | Words::Between(least, _) if count < least => Err(format!(
            "rundlet: \"{name}\" requires a minimum of {least} argument(s)"
        )),
        Words::IdThen(_, most) | Words::Between(_, most) if count > most => Err(format!(
            "rundlet: \"{name}\" requires a maximum of {most} argument(s)"
        )),
        _ => Ok(()),
    }
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
