//! `conformance/fields.md`: what the tests saw of each field of config.json. A test says it by [`Cx::observed`]; the runner
//! collects it and compares it with the file, or writes the file with `RUNDLET_WRITE_FIELDS=PATH`. That no field of the
//! specification is without a row is `tests/fields.rs`'s part.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;

use super::{Bundle, Cx, World, host_is_v2};
use crate::runtime_spec;

/// As it was when the tests were built: they also run where there is no source tree.
const FILE: &str = include_str!("../../../conformance/fields.md");

const HEAD: &str = "\
# Fields of config.json

Every field of runtime-spec 1.3's configuration for Linux, the root test that sets it, the value it gives, and what the kernel
showed of it then. Written by the tests: `RUNDLET_WRITE_FIELDS=$PWD/conformance/fields.md cargo test --test root`, and the same
in the guest, whose rows are those of cgroup v2; `make test` compares. *on* is the cgroup version where it matters. DIR is the
test's directory, ID its mark in names. A line that begins with \"not here\" has the reason why the machine cannot show it.

| field | on | test | value | observed |
|---|---|---|---|---|
";

const MARK: &str = "OBSERVED ";
const NOT_HERE: &str = "not here: ";

/// What is compared: a row of the file, taken apart as far as is needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    field: String,
    on: String,
    test: String,
    /// Value and observation, as they stand in the file.
    rest: String,
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut cells = line.strip_prefix("| ")?.splitn(4, " | ");
        Some(Row {
            field: cells.next()?.trim_matches('`').to_owned(),
            on: cells.next()?.to_owned(),
            test: cells.next()?.trim_matches('`').to_owned(),
            rest: cells.next()?.strip_suffix(" |")?.to_owned(),
        })
        .filter(|row| row.field != "field")
    }

    fn line(&self) -> String {
        let Row {
            field,
            on,
            test,
            rest,
        } = self;
        format!("| `{field}` | {on} | `{test}` | {rest} |\n")
    }

    fn is_seen(&self) -> bool {
        !self.rest.contains(&format!("| {NOT_HERE}"))
    }
}

/// A cell: no bar, no line break.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace('\n', " / ")
}

impl Cx {
    /// `text` was seen of a field that the bundle sets, the same on any host.
    #[track_caller]
    pub(crate) fn observed(&self, bundle: &Bundle, fields: &[&str], text: &str) {
        for field in fields {
            self.tell("any", field, &value_of(bundle, field), text);
        }
    }

    /// The same where cgroup v1 and v2 differ.
    #[track_caller]
    pub(crate) fn observed_by_version(&self, bundle: &Bundle, fields: &[&str], text: &str) {
        for field in fields {
            self.tell(self.version(), field, &value_of(bundle, field), text);
        }
    }

    /// Nothing can be seen of the field on this machine.
    #[track_caller]
    pub(crate) fn not_here(&self, fields: &[&str], reason: &str) {
        for field in fields {
            self.tell(self.version(), field, "", &format!("{NOT_HERE}{reason}"));
        }
    }

    fn version(&self) -> &'static str {
        if self.is_v2() { "v2" } else { "v1" }
    }

    fn tell(&self, on: &str, field: &str, value: &str, text: &str) {
        let plain = |text: &str| {
            text.replace(self.dir.to_str().unwrap(), "DIR")
                .replace(&self.token, "ID")
        };
        let value = if value.is_empty() {
            "-".to_owned()
        } else {
            format!("`{}`", cell(&plain(value)))
        };
        println!(
            "{MARK}| `{field}` | {on} | `` | {value} | {} |",
            cell(&plain(text))
        );
    }

    /// Runs the scripts one after the other in one container and compares what each prints: (fields, script, its output).
    #[track_caller]
    pub(crate) fn looks(&self, bundle: &mut Bundle, looks: &[(&[&str], &str, &str)]) {
        let scripts: Vec<String> = looks
            .iter()
            .map(|(_, script, _)| format!("({script}) 2>&1; echo ---"))
            .collect();
        bundle.sh(&scripts.join("\n"));
        let output = self.run(bundle).ok();
        let seen: Vec<&str> = output.stdout.split("---\n").collect();
        for ((fields, script, wanted), seen) in looks.iter().zip(seen) {
            assert_eq!(seen.trim(), *wanted, "{script}: {output}");
            self.observed(bundle, fields, &format!("`{script}` prints `{wanted}`"));
        }
    }
}

/// Short, as it stands in config.json. A test that names a field it does not set is wrong.
#[track_caller]
fn value_of(bundle: &Bundle, field: &str) -> String {
    let mut config = bundle.config.clone();
    let Some((value, _)) = runtime_spec::find(&mut config, field) else {
        panic!("the bundle has no {field}");
    };
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

static SEEN: Mutex<Vec<Row>> = Mutex::new(Vec::new());
/// Tests that passed, with the cgroup version they ran on.
static PASSED: Mutex<BTreeSet<(String, &str)>> = Mutex::new(BTreeSet::new());

/// Takes the rows out of what a test printed. `label` is its name without the world.
pub(crate) fn keep(label: &str, world: World, output: &str, passed: bool) {
    for line in output.lines().filter_map(|line| line.strip_prefix(MARK)) {
        let mut row = Row::parse(line).expect("a row");
        label.clone_into(&mut row.test);
        // A test that was skipped half-way has shown nothing but why.
        if passed || !row.is_seen() {
            SEEN.lock().unwrap().push(row);
        }
    }
    if passed {
        let v2 = world == World::V2 || host_is_v2();
        let mut tests = PASSED.lock().unwrap();
        tests.insert((label.to_owned(), if v2 { "v2" } else { "v1" }));
        tests.insert((label.to_owned(), "any"));
    }
}

/// Writes the file or compares; what is wrong is in the error.
pub(crate) fn settle() -> Result<(), String> {
    let seen: BTreeSet<Row> = SEEN.lock().unwrap().drain(..).collect();
    let passed = PASSED.lock().unwrap();
    let of_passed = |row: &Row| {
        passed
            .iter()
            .any(|(test, on)| *test == row.test && *on == row.on)
    };
    let same_place = |a: &Row, b: &Row| (&a.field, &a.test) == (&b.field, &b.test);
    let old: BTreeSet<Row> = FILE.lines().filter_map(Row::parse).collect();
    // A row of the file is out of date when its test has passed and has not shown it. That something can not be seen on
    // this machine says nothing about a row that was seen on another.
    let stale: Vec<&Row> = old
        .iter()
        .filter(|row| of_passed(row) && row.is_seen() && !seen.contains(*row))
        .filter(|row| {
            !seen
                .iter()
                .any(|new| same_place(row, new) && !new.is_seen())
        })
        .collect();
    let fresh: Vec<&Row> = seen
        .iter()
        .filter(|row| !old.contains(*row))
        .filter(|row| row.is_seen() || !old.iter().any(|other| same_place(row, other)))
        .collect();
    if let Some(path) = std::env::var_os("RUNDLET_WRITE_FIELDS") {
        let mut rows: BTreeSet<&Row> = old.iter().filter(|row| !stale.contains(row)).collect();
        rows.extend(&fresh);
        let replaced = |row: &Row| {
            let mut others = rows.iter().filter(|other| same_place(row, other));
            let by = |other: &Row| other.is_seen() && (other.on == row.on || other.on == "any");
            !row.is_seen() && others.any(|other| by(other))
        };
        let mut text = HEAD.to_owned();
        for row in rows.iter().filter(|row| !replaced(row)) {
            text.push_str(&row.line());
        }
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(());
    }
    if stale.is_empty() && fresh.is_empty() {
        return Ok(());
    }
    let mut text =
        "conformance/fields.md is not what the tests saw (RUNDLET_WRITE_FIELDS=PATH writes it):\n"
            .to_owned();
    for (mark, rows) in [('-', stale), ('+', fresh)] {
        for row in rows {
            text.push(mark);
            text.push_str(&row.line());
        }
    }
    Err(text)
}
