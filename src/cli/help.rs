//! Help pages and usage lines, from the same clap commands that parse. Called by `cli`; built only when shown.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Args as _, Command};

use super::globals::Globals;
use super::print;
use super::verbs::{self, VERBS, Verb, Words};
use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct HelpArgs {
    #[arg(hide = true)]
    topic: Vec<OsString>,
}

pub(super) fn run(_: &Context, args: &HelpArgs) -> Result<i32> {
    match args.topic.first() {
        None => print(&overview())?,
        Some(topic) => match verbs::find(&topic.to_string_lossy()) {
            Some(verb) => print(&page(verb))?,
            None => bail!("No help topic for '{}'", topic.display()),
        },
    }
    Ok(0)
}

const PAGE: &str =
    "NAME:\n   rundlet {name} - {about}\n\nUSAGE:\n   {usage}\n\nOPTIONS:\n{options}{after-help}\n";

const OVERVIEW: &str = "NAME:
   rundlet - Open Container Initiative runtime

   Creates and runs containers from OCI bundles: directories with a config.json and a root
   file system. A drop-in replacement for runc: the same verbs, flags, output and exit codes.

   To run a container from the bundle in the current directory:

       # rundlet run <container-id>

USAGE:
   rundlet [global option...] <verb> [option...] [argument...]

   Options are written --name value, --name=value or with one dash.

VERBS:
";

pub(super) fn dress(verb: &Verb, command: Command) -> Command {
    let options = if matches!(verb.words, Words::Any) {
        ""
    } else {
        "[option...] "
    };
    command
        .about(verb.about)
        .bin_name(format!("rundlet {}", verb.name))
        .override_usage(
            format!("rundlet {} {options}{}", verb.name, verb.usage)
                .trim_end()
                .to_owned(),
        )
        .help_template(PAGE)
}

pub(super) fn page(verb: &'static Verb) -> String {
    let command = dress(verb, (verb.define)(Command::new(verb.name)));
    let mut text = command
        .after_help(details(verb.name))
        .render_help()
        .to_string();
    text.truncate(text.trim_end().len());
    text + "\n"
}

pub(super) fn overview() -> String {
    let mut text = String::from(OVERVIEW);
    for verb in &VERBS {
        let (name, about) = (verb.name, verb.about);
        text.extend([format!("   {name:<12}{about}\n")]);
    }
    let globals = Globals::augment_args(Command::new("rundlet")).help_template("{options}");
    text.push_str("\nGLOBAL OPTIONS:\n");
    text.push_str(globals.clone().render_help().to_string().trim_end());
    text + "\n"
}

/// What goes in front of the error line when the command line was wrong.
pub(super) fn usage(verb: Option<&'static Verb>) -> String {
    match verb {
        None => "Usage: rundlet [global option...] <verb> [option...] [argument...]\nSee 'rundlet --help'.\n\n".into(),
        Some(verb) => {
            let command = dress(verb, (verb.define)(Command::new(verb.name)));
            let options = command.help_template("{options}").render_help().to_string();
            let options = options.trim_end();
            format!("Usage: rundlet {} [option...] {}\n\nOptions:\n{options}\n\n", verb.name, verb.usage)
        }
    }
}

pub(super) fn details(name: &str) -> &'static str {
    match name {
        "create" => {
            "The bundle's config.json says what the container is. Its process is set up and then waits\n\
             for `rundlet start`. The id is made of letters, digits and `_+-.`. --dry-run makes nothing and prints what would\n\
             be done, in its order: namespaces, mounts with their flags, cgroup, capabilities, seccomp, hooks.\n\n\
             Annotations of config.json confine the process further by Landlock (rundlet(8) has more):\n\n    \
             \"org.rundlet.landlock.fs.ro\": \"/usr:/etc\", \"org.rundlet.landlock.fs.rw\": \"/tmp:/dev\",\n    \
             \"org.rundlet.landlock.net.bind\": \"8080\", \"org.rundlet.landlock.net.connect\": \"\""
        }
        "run" => {
            "The exit code is that of the container's process, or 128 plus the number of the signal that\n\
             ended it. With --detach it is 0 once the process has started."
        }
        "exec" => {
            "Options end at the container id: what follows is the command. The exit code is that of the\n\
             command, or 255 when it could not be run."
        }
        "kill" => {
            "The signal is a number or a name, with or without SIG.\n\n    # rundlet kill web HUP"
        }
        "ps" => {
            "Options end at the container id: what follows goes to the host's ps(1) (default: -ef), whose\n\
             output is filtered by process id and needs a PID column. With --format json only ids are printed."
        }
        "delete" => {
            "With --force a running container is killed first, and one that does not exist is no error.\n\n\
             It waits for another command that is changing the container (30s), for processes to die of SIGKILL (10s), and\n\
             for the cgroup to become empty (2s); --timeout is one time for all of these. Then the error names the processes\n\
             that do not go, their states and what they wait in, and the container's state is kept for another delete.\n\n\
             \x20   # rundlet delete --force --timeout 1m web"
        }
        "events" => {
            "One JSON object a line: `stats` at every interval, `oom` as soon as the kernel has killed a process\n\
             for want of memory. It ends when the container has no process left.\n\n\
             With --follow-all the lines are of all containers of the state root, each with its time, and it goes on until it\n\
             is ended: `present` for those that are there, then created, started, paused, resumed, stopped, deleted, with\n\
             what else there is.\n\n\
             \x20   # rundlet events --follow-all | jq -r 'select(.type != \"stats\") | \"\\(.time) \\(.id) \\(.type)\"'"
        }
        "top" => {
            "On a terminal the table is drawn in place, with the keys c m p i s n to sort by CPU, memory, processes, I/O,\n\
             pressure or id, and q to end. Elsewhere, and with --count or --once, the tables come one below the other, with\n\
             --format json an object a line for each container. CPU % is of one CPU. MEMORY is without file pages that were\n\
             not used lately; MEM % is of the limit, or of the host's memory. READ and WRITE are bytes of block devices.\n\
             PRESSURE is the part of the last ten seconds, in %, in which a process waited for CPU/memory/I/O (cgroup v2).\n\n\
             \x20   # rundlet top --once --sort memory"
        }
        "check" => {
            "Makes nothing and runs nothing. Tells all at once that create would refuse, fields that the specification does\n\
             not have (with the one that is probably meant), and what this host lacks for it: one line a finding, an error\n\
             (no container can be made), a warning or a note. The exit code is 1 when there is an error.\n\n\
             \x20   # rundlet check --strict /srv/web"
        }
        "doctor" => {
            "Looks at the kernel, the cgroups, the rights of the caller and the engines on this host, and changes nothing. One\n\
             line each: ok, limited (some containers will fail) or broken (none will work), with what to do about it. Called\n\
             by a user it tells what holds without root. The exit code is 1 when something is broken.\n\n\
             \x20   # rundlet doctor"
        }
        "list" => "The state root is chosen by the global option --root.",
        "spec" => {
            "The file is a start: it runs `sh` from the directory `rootfs`, with few rights and no network.\n\
             An existing config.json is not overwritten."
        }
        "features" => "The document is that of features.md in the runtime specification.",
        "update" => {
            "What is not named stays as it is. Device rules can be given in the file only, where they replace all\n\
             earlier ones.\n\n    # echo '{\"memory\": {\"limit\": 67108864}}' | rundlet update -r - web"
        }
        "mounts" => {
            "The file is a JSON array of mounts as in config.json, or an object with one; `-` is standard input. All of it is\n\
             added or nothing. Bind mounts and tmpfs can be added while the container is created, running or paused, and\n\
             removed again by their destination; what has a file of them open keeps it. `list` prints what was added.\n\n    \
             # echo '[{\"destination\": \"/data\", \"source\": \"/srv/data\", \"options\": [\"bind\", \"ro\"]}]' | rundlet mounts add web -\n    \
             # rundlet mounts list web | rundlet mounts remove web -"
        }
        "checkpoint" => {
            "CRIU 3.15 or later must be in PATH. Without --leave-running the container is deleted once it is saved."
        }
        "restore" => {
            "The container is made anew from its bundle: the config says what it may do, the images what runs in it.\n\
             The exit code is as with `run`."
        }
        _ => "",
    }
}
