//! The man pages and shell completions below `man/`, made from the same clap commands that parse and help.
//!
//! A test, not a part of the program: it compares what is checked in with what the command line is now, and writes it anew with
//! `RUNDLET_WRITE_DOCS=1` (`make man`).

mod overview;
mod pages;

use std::path::Path;

use clap::{Args as _, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::globals::Globals;
use super::help;
use super::verbs::{VERBS, Verb};
use crate::features as facts;

/// One file below `man/`, with what it has to contain.
type File = (String, Vec<u8>);

#[test]
fn what_is_checked_in_is_what_the_command_line_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut expected = man_pages();
    expected.extend(completions());
    if std::env::var_os("RUNDLET_WRITE_DOCS").is_some() {
        write_anew(&dir, &expected);
    }
    for (name, content) in &expected {
        let found = std::fs::read(dir.join(name)).unwrap_or_default();
        assert!(found == *content, "man/{name} is stale: run `make man`");
    }
    let mut names: Vec<_> = expected.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(
        files_below(&dir),
        names,
        "files that nothing makes, or that are missing"
    );
}

#[test]
fn every_verb_has_examples_and_every_example_a_verb() {
    let mut verbs: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let mut described: Vec<&str> = pages::PAGES.iter().map(|page| page.verb).collect();
    verbs.sort_unstable();
    described.sort_unstable();
    assert_eq!(verbs, described);
    for page in pages::PAGES {
        for (command, meaning) in page.examples {
            assert!(command.starts_with("rundlet "), "{command}");
            assert!(!meaning.is_empty(), "{command}");
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a developer's tool")]
fn write_anew(dir: &Path, files: &[File]) {
    for name in files_below(dir) {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    std::fs::create_dir_all(dir.join("completions")).unwrap();
    for (name, content) in files {
        std::fs::write(dir.join(name), content).unwrap();
    }
}

fn files_below(dir: &Path) -> Vec<String> {
    let list = |dir: &Path, prefix: &str| -> Vec<String> {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_file())
            .map(|entry| format!("{prefix}{}", entry.file_name().to_string_lossy()))
            .collect()
    };
    let mut names = list(dir, "");
    names.extend(list(&dir.join("completions"), "completions/"));
    names.sort();
    names
}

fn command_of(verb: &Verb) -> Command {
    help::dress(verb, (verb.define)(Command::new(verb.name))).disable_help_flag(true)
}

fn globals() -> Command {
    Globals::augment_args(Command::new("rundlet"))
        .about("an OCI container runtime: creates and runs containers from bundles")
        .disable_help_flag(true)
        .disable_version_flag(true)
}

fn man_pages() -> Vec<File> {
    let mut files: Vec<File> = VERBS.iter().map(verb_page).collect();
    files.push(("rundlet.8".to_owned(), overview_page()));
    files
}

fn page_of(name: &str, command: Command) -> Man {
    Man::new(command)
        .title(name.to_uppercase())
        .section("8")
        .date(pages::DATE)
        .source(format!("rundlet {}", facts::VERSION))
        .manual("System Administration")
}

fn verb_page(verb: &Verb) -> File {
    let name = format!("rundlet-{}", verb.name);
    let page = pages::of(verb.name);
    let command = command_of(verb);
    let has_options = command.get_arguments().any(|arg| !arg.is_hide_set());
    let man = page_of(&name, command);
    let mut out = Vec::new();
    man.render_title(&mut out).unwrap();
    let mut text = Roff::new();
    text.control("SH", ["NAME"])
        .text([roman(format!("{name} - {}", verb.about))]);
    text.control("SH", ["SYNOPSIS"]);
    text.text([
        bold("rundlet"),
        roman(" [global option...] "),
        bold(verb.name),
        roman(if has_options { " [option...] " } else { " " }),
        italic(verb.usage),
    ]);
    text.control("SH", ["DESCRIPTION"]);
    paragraphs(&mut text, help::details(verb.name));
    paragraphs(&mut text, page.description);
    text.to_writer(&mut out).unwrap();
    if has_options {
        man.render_options_section(&mut out).unwrap();
    }
    let mut text = Roff::new();
    text.control("SH", ["EXIT STATUS"]);
    paragraphs(&mut text, page.exit_status());
    examples(&mut text, page.examples);
    text.control("SH", ["SEE ALSO"])
        .text([bold("rundlet"), roman("(8), the OCI runtime specification")]);
    text.to_writer(&mut out).unwrap();
    (format!("{name}.8"), out)
}

fn overview_page() -> Vec<u8> {
    let man = page_of("rundlet", globals());
    let mut out = Vec::new();
    man.render_title(&mut out).unwrap();
    let mut text = Roff::new();
    text.control("SH", ["NAME"])
        .text([roman("rundlet - a low-level OCI container runtime")]);
    text.control("SH", ["SYNOPSIS"]).text([
        bold("rundlet"),
        roman(" [global option...] "),
        italic("verb"),
        roman(" [option...] [argument...]"),
    ]);
    text.control("SH", ["DESCRIPTION"]);
    paragraphs(&mut text, overview::OVERVIEW);
    text.control("SH", ["VERBS"]);
    for verb in &VERBS {
        text.control("TP", [])
            .text([bold(format!("rundlet-{}", verb.name)), roman("(8)")])
            .text([roman(verb.about)]);
    }
    text.to_writer(&mut out).unwrap();
    let mut options = Vec::new();
    man.render_options_section(&mut options).unwrap();
    let options = String::from_utf8(options).unwrap();
    out.extend(
        options
            .replace(".SH OPTIONS", ".SH \"GLOBAL OPTIONS\"")
            .bytes(),
    );
    let mut text = Roff::new();
    for (heading, body) in overview::SECTIONS {
        text.control("SH", [*heading]);
        paragraphs(&mut text, body);
    }
    examples(&mut text, overview::EXAMPLES);
    text.control("SH", ["SEE ALSO"]).text([roman(
        "config.json: the OCI runtime specification; namespaces(7), cgroups(7), capabilities(7), seccomp(2)",
    )]);
    text.to_writer(&mut out).unwrap();
    out
}

/// Paragraphs are parted by empty lines; one that is indented is shown as it stands.
fn paragraphs(roff: &mut Roff, text: &str) {
    for paragraph in text.split("\n\n").filter(|p| !p.trim().is_empty()) {
        if paragraph.starts_with("    ") {
            verbatim(roff, paragraph);
        } else {
            let joined = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            roff.control("PP", []).text([roman(joined)]);
        }
    }
}

fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("PP", [])
        .control("RS", ["4"])
        .control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []).control("RE", []);
}

fn examples(roff: &mut Roff, examples: &[(&str, &str)]) {
    if examples.is_empty() {
        return;
    }
    roff.control("SH", ["EXAMPLES"]);
    for (command, meaning) in examples {
        roff.control("PP", []).text([roman(*meaning)]);
        verbatim(roff, command);
    }
}

fn completions() -> Vec<File> {
    let mut command = globals().disable_help_subcommand(true);
    for verb in &VERBS {
        command = command.subcommand(command_of(verb));
    }
    [
        (Shell::Bash, "rundlet.bash"),
        (Shell::Zsh, "_rundlet"),
        (Shell::Fish, "rundlet.fish"),
    ]
    .into_iter()
    .map(|(shell, file)| {
        let mut out = Vec::new();
        generate(shell, &mut command, "rundlet", &mut out);
        (format!("completions/{file}"), out)
    })
    .collect()
}
