//! What is fuzzed, one function a parser or a translation: it panics where something is wrong. libFuzzer calls them with what it
//! makes up (tests/fuzz/src); rundlet's unit tests call them with the corpora, so that what was found once stays mended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::case_sensitive_file_extension_comparisons
)] // tests

mod devices;
mod documents;
mod filters;
mod messages;
mod records;
mod tables;
mod words;

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Json,
    Bytes,
}

pub(crate) struct Target {
    /// Also of the directory of its corpus.
    pub(crate) name: &'static str,
    #[cfg_attr(not(fuzzing), expect(dead_code, reason = "for the mutator"))]
    pub(crate) input: Input,
    pub(crate) run: fn(&[u8]),
}

const fn json(name: &'static str, run: fn(&[u8])) -> Target {
    let input = Input::Json;
    Target { name, input, run }
}

const fn bytes(name: &'static str, run: fn(&[u8])) -> Target {
    let input = Input::Bytes;
    Target { name, input, run }
}

pub(crate) const TARGETS: [Target; 14] = [
    json("config", documents::config),
    json("process", documents::process),
    json("resources", documents::resources),
    json("seccomp", filters::profile),
    bytes("filter", filters::stored),
    bytes("devices", devices::rules),
    bytes("mounts", tables::mounts),
    bytes("options", words::mount_options),
    bytes("stats", tables::stats),
    json("record", records::record),
    bytes("dbus", messages::dbus),
    bytes("criu", messages::criu),
    bytes("proto", messages::proto),
    bytes("words", words::words),
];

/// A refusal is one chain that begins with the document and the field, or says where the text is no JSON.
fn refused(error: &anyhow::Error, document: &str, fields: &[&str]) {
    let text = crate::error::chain(error);
    if text.starts_with(&format!("parse `{document}`: ")) {
        return;
    }
    let rest = text.strip_prefix(&format!("{document}: ")).unwrap_or(&text);
    let field = rest.split([':', '.', '[', ' ']).next().unwrap_or_default();
    // A value of a wrong type at the top has no path.
    let top = rest.starts_with("invalid type: ") || rest.starts_with("missing field ");
    assert!(top || fields.contains(&field), "no field is named: {text}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every file that is checked in: seeds, and what was found.
    #[test]
    fn corpora_find_nothing() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for target in &TARGETS {
            let directory = corpora.join(target.name);
            let mut files = 0;
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                // The name of the file is in the backtrace's output.
                println!("{}", path.display());
                (target.run)(&std::fs::read(&path).unwrap());
                files += 1;
            }
            assert!(files > 0, "{} is empty", directory.display());
        }
    }
}
