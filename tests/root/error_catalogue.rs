//! `conformance/errors.md`: the one line that each of these mistakes gets, and what the JSON log says of it in parts. Every row
//! is what rundlet said when the test ran; a change of wording shows as a difference of that file, which
//! `RUNDLET_WRITE_ERRORS=PATH` writes anew.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::error_mistakes::{attributes, limits_and_hooks, process_and_mounts, programs};
use super::errors::EDITS;
use crate::support::{Bundle, Cx, tests};

tests! {
    host every_mistake_has_its_own_words = "the wording is rundlet's";
}

const FILE: &str = include_str!("../../conformance/errors.md");

const HEAD: &str = "\
# What rundlet says

One line for each mistake, as it stands on stderr and in the `msg` of the log, with the other keys of a JSON log (`step`, `field`,
`errno`) beside it; `hint` is what stands in the message behind that word. The step is that of the container's process, or the
phase of the runtime, as `--timings` names them. Written by a test
(`RUNDLET_WRITE_ERRORS=$PWD/conformance/errors.md cargo test --test root -- catalogue`), which `make test` compares. DIR is the
test's directory, ID the container.

| mistake | message | field | step | errno |
|---|---|---|---|---|
";

/// Of these the kernel's words, or whether it is a mistake at all, differ from host to host: only the field is compared.
const OF_THE_HOST: &[&str] = &[
    "unknown_apparmor_profile",
    "no_resctrl",
    "rlimit_not_permitted",
    "selinux_label_without_selinux",
    "landlock_path_that_is_missing",
    // The files of the cgroup version.
    "cpus_that_are_not_there",
    "cpus_not_a_list",
    "cpu_quota_too_small",
    "hugepages_of_no_size",
    "memory_limit_too_small_to_start",
];

pub(super) struct Catalogue<'a> {
    pub(super) cx: &'a Cx,
    rows: Vec<[String; 5]>,
    /// Names of those that were no mistakes.
    taken: Vec<String>,
}

impl Catalogue<'_> {
    /// Runs a command that must fail and takes down what it said.
    pub(super) fn note(&mut self, name: &str, args: &[&str]) {
        let cx = self.cx;
        let log = cx.dir.join("log");
        let _ = fs::remove_file(&log);
        let mut line = vec!["--log", log.to_str().unwrap(), "--log-format", "json"];
        line.extend(args);
        let output = cx.call(&line);
        if output.code == 0 {
            self.taken.push(name.to_owned());
            if args[0] == "create" {
                cx.call(&["delete", "--force", args[args.len() - 1]]);
            }
            return;
        }
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 1, "{name}: one record: {text}");
        let record: Value = serde_json::from_str(&text).unwrap();
        let part = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let message = part("msg");
        let last = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, message, "{name}: stderr and log say the same");
        assert!(!message.contains('\n'), "{name}");
        assert_ne!(part("step"), "", "{name}: no step");
        let hint = part("hint");
        assert!(
            message.contains(&format!("(hint: {hint}")) || hint.is_empty(),
            "{name}: {message}: {hint}"
        );
        self.rows.push([
            name.to_owned(),
            self.plain(&message),
            part("field"),
            part("step"),
            part("errno"),
        ]);
    }

    /// Names and commands in one string each; `ID` stands for the container, `DIR` for the test's directory.
    fn lines(&mut self, id: &str, lines: &[(&str, &str)]) {
        let dir = self.cx.dir.to_str().unwrap();
        for (name, line) in lines {
            let line = line.replace("ID", id).replace("DIR", dir);
            self.note(name, &line.split(' ').collect::<Vec<_>>());
        }
    }

    /// Without what is this run's alone.
    fn plain(&self, message: &str) -> String {
        let dir = self.cx.dir.to_str().unwrap();
        let mut text = message.replace(dir, "DIR").replace(&self.cx.token, "ID");
        // Process ids: digits behind these words.
        for before in ["process ", "pid "] {
            while let Some(at) = text
                .match_indices(before)
                .map(|(at, _)| at + before.len())
                .find(|at| text[*at..].starts_with(|c: char| c.is_ascii_digit()))
            {
                let end = text[at..]
                    .find(|c: char| !c.is_ascii_digit())
                    .map_or(text.len(), |end| at + end);
                text.replace_range(at..end, "PID");
            }
        }
        text.replace('|', "\\|")
    }

    pub(super) fn create(&mut self, name: &str, edit: impl FnOnce(&Cx, &mut Bundle)) {
        self.create_with(name, &[], edit);
    }

    fn create_with(&mut self, name: &str, flags: &[&str], edit: impl FnOnce(&Cx, &mut Bundle)) {
        let cx = self.cx;
        let _ = fs::remove_dir_all(cx.dir.join("bundle-c"));
        let mut bundle = cx.bundle();
        edit(cx, &mut bundle);
        if !bundle.path.join("config.json").exists() {
            bundle.write();
        }
        let mut args = vec!["create", "--bundle", bundle.path.to_str().unwrap()];
        args.extend(flags);
        args.push(&bundle.id);
        self.note(name, &args);
        cx.call(&["state", &bundle.id]).is(1).says("does not exist");
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for [name, message, field, step, errno] in &self.rows {
            let code = |part: &str| {
                if part.is_empty() {
                    String::new()
                } else {
                    format!("`{part}`")
                }
            };
            writeln!(
                text,
                "| {} | {message} | {} | {step} | {errno} |",
                name.replace('_', " "),
                code(field)
            )
            .unwrap();
        }
        text
    }
}

fn every_mistake_has_its_own_words(cx: &Cx) {
    let mut catalogue = Catalogue {
        cx,
        rows: Vec::new(),
        taken: Vec::new(),
    };
    for (name, edit) in EDITS {
        if *name == "no_resctrl"
            && fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(" - resctrl ")
        {
            continue;
        }
        catalogue.create(name, edit);
    }
    process_and_mounts(&mut catalogue);
    attributes(&mut catalogue);
    limits_and_hooks(&mut catalogue);
    programs(&mut catalogue);
    command_lines(&mut catalogue);
    containers(&mut catalogue);
    assert!(
        catalogue.taken.is_empty(),
        "not refused: {:?}",
        catalogue.taken
    );
    let text = catalogue.text();
    if let Some(path) = std::env::var_os("RUNDLET_WRITE_ERRORS") {
        fs::write(path, text).unwrap();
        return;
    }
    assert!(catalogue.rows.len() >= 80, "{}", catalogue.rows.len());
    let distinct: std::collections::BTreeSet<&str> =
        catalogue.rows.iter().map(|row| row[1].as_str()).collect();
    assert!(
        distinct.len() >= 80,
        "{} different messages",
        distinct.len()
    );
    let loose = |line: &str| -> String {
        let of_the_host = OF_THE_HOST
            .iter()
            .any(|name| line.starts_with(&format!("| {} |", name.replace('_', " "))));
        let cells: Vec<&str> = line.split(" | ").collect();
        if of_the_host {
            let field = cells[2].split('[').next().unwrap_or_default();
            format!("{} | {}", cells[0], field.trim_matches('`'))
        } else {
            line.to_owned()
        }
    };
    let (old, new): (Vec<String>, Vec<String>) = (
        FILE.lines().map(loose).collect(),
        text.lines().map(loose).collect(),
    );
    let gone: Vec<&String> = old.iter().filter(|line| !new.contains(line)).collect();
    let come: Vec<&String> = new.iter().filter(|line| !old.contains(line)).collect();
    assert!(
        gone.is_empty() && come.is_empty(),
        "conformance/errors.md is not what rundlet says:\n- {gone:#?}\n+ {come:#?}"
    );
}

/// Mistakes on the command line.
fn command_lines(all: &mut Catalogue<'_>) {
    let cx = all.cx;
    let dir = cx.dir.to_str().unwrap().to_owned();
    let id = cx.id("none");
    all.note("no_such_verb", &["creat", &id]);
    all.note("no_such_flag", &["create", "--nosuch", &id]);
    all.note("flag_without_value", &["create", "--bundle"]);
    all.note("no_id", &["start"]);
    all.note("two_ids", &["start", &id, "more"]);
    all.note(
        "value_that_is_no_number",
        &["create", "--preserve-fds", "some", &id],
    );
    all.note(
        "no_such_bundle",
        &["create", "--bundle", "/no/such/bundle", &id],
    );
    all.note(
        "no_config_in_the_bundle",
        &["create", "--bundle", &dir, &id],
    );
    all.note("id_with_a_slash", &["create", "a/b"]);
    all.create_with(
        "descriptors_that_are_not_open",
        &["--preserve-fds", "40"],
        |_, _| {},
    );
    all.create_with(
        "console_socket_without_terminal",
        &["--console-socket", "/no/such/socket"],
        |_, _| {},
    );
    all.create_with(
        "pid_file_in_no_directory",
        &["--pid-file", "/no/such/dir/pid"],
        |_, _| {},
    );
    all.create_with(
        "pidfd_socket_that_is_missing",
        &["--pidfd-socket", "/no/such/socket"],
        |_, _| {},
    );
    for verb in [
        "state",
        "start",
        "pause",
        "resume",
        "delete",
        "ps",
        "events",
        "kill",
        "exec",
        "update",
        "checkpoint",
    ] {
        let mut args = vec![verb];
        args.extend(["--stats"].iter().filter(|_| verb == "events"));
        args.push(&id);
        args.extend(["true"].iter().filter(|_| verb == "exec"));
        all.note(&format!("{verb}_of_no_container"), &args);
    }
    all.note("list_in_no_such_format", &["list", "--format", "xml"]);
    all.note(
        "restore_without_image",
        &[
            "restore",
            "--bundle",
            &dir,
            "--image-path",
            "/no/such/image",
            &id,
        ],
    );
}

const OF_A_RUNNING_ONE: &[(&str, &str)] = &[
    ("start_of_a_running_one", "start ID"),
    ("delete_of_a_running_one", "delete ID"),
    ("resume_of_a_running_one", "resume ID"),
    ("kill_with_no_such_signal", "kill ID FLY"),
    ("exec_of_nothing", "exec ID"),
    ("exec_of_a_missing_program", "exec ID nosuchprogram"),
    ("exec_of_a_missing_path", "exec ID /no/such/program"),
    ("exec_of_a_directory", "exec ID /etc"),
    ("exec_as_a_named_user", "exec --user root ID true"),
    ("exec_in_a_relative_directory", "exec --cwd tmp ID true"),
    (
        "exec_in_a_directory_that_is_a_file",
        "exec --cwd /etc/passwd ID true",
    ),
    ("exec_with_unknown_capability", "exec --cap CAP_FLY ID true"),
    ("exec_with_a_bad_variable", "exec --env X ID true"),
    (
        "exec_of_a_missing_process_file",
        "exec --process /no/such/file ID",
    ),
    (
        "exec_of_a_wrong_process_file",
        "exec --process DIR/process.json ID",
    ),
    ("ps_in_no_such_format", "ps --format xml ID"),
    ("events_without_time", "events --interval 0s ID"),
    ("update_with_a_bad_size", "update --memory much ID"),
    (
        "update_with_a_wrong_file",
        "update --resources DIR/resources.json ID",
    ),
];

const OF_A_PAUSED_ONE: &[(&str, &str)] = &[
    ("pause_of_a_paused_one", "pause ID"),
    ("exec_in_a_paused_one", "exec ID true"),
];

const OF_A_STOPPED_ONE: &[(&str, &str)] = &[
    ("start_of_a_stopped_one", "start ID"),
    ("exec_in_a_stopped_one", "exec ID true"),
    ("kill_of_a_stopped_one", "kill ID TERM"),
    ("pause_of_a_stopped_one", "pause ID"),
    ("update_of_a_stopped_one", "update --pids-limit 5 ID"),
];

/// Mistakes with containers that are there.
fn containers(all: &mut Catalogue<'_>) {
    let cx = all.cx;
    let bundle = cx.named_bundle("life");
    let container = cx.create(&bundle);
    let id = bundle.id.clone();
    all.note(
        "create_of_an_id_that_is_taken",
        &["create", "--bundle", bundle.path.to_str().unwrap(), &id],
    );
    cx.file("process.json", r#"{"args": "true", "cwd": "/"}"#);
    cx.file("resources.json", r#"{"memory": {"limit": "much"}}"#);
    all.lines(&id, &[("resume_of_a_created_one", "resume ID")]);
    cx.call(&["start", &id]).ok();
    all.lines(&id, OF_A_RUNNING_ONE);
    let mounts = cx.file(
        "mounts.json",
        r#"[{"destination": "/data", "type": "proc"}]"#,
    );
    let mounts = mounts.to_str().unwrap();
    all.note("mounts_add_of_a_proc", &["mounts", "add", &id, mounts]);
    all.note(
        "mounts_remove_of_another",
        &["mounts", "remove", &id, mounts],
    );
    let missing = r#"[{"destination": "/data", "source": "/no/such/source", "options": ["bind"]}]"#;
    let missing = cx.file("missing.json", missing);
    all.note(
        "mounts_add_of_what_is_missing",
        &["mounts", "add", &id, missing.to_str().unwrap()],
    );
    all.note("mounts_without_a_file", &["mounts", "add", &id]);
    cx.call(&["pause", &id]).ok();
    all.lines(&id, OF_A_PAUSED_ONE);
    cx.call(&["resume", &id]).ok();
    cx.call(&["kill", &id, "KILL"]).ok();
    container.wait_for("stopped");
    all.lines(&id, OF_A_STOPPED_ONE);
    all.note(
        "mounts_add_to_a_stopped_one",
        &["mounts", "add", &id, missing.to_str().unwrap()],
    );
    cx.call(&["delete", &id]).ok();
}
