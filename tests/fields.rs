//! `conformance/fields.md` has a row of an existing test for every field of runtime-spec 1.3's schema, and only for such. That the
//! rows are what the tests see now is the root tests' own part.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod runtime_spec;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use runtime_spec::Schema;

/// The cells of the table's rows.
fn rows() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/fields.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let line = line.trim_start_matches("| ").trim_end_matches(" |");
        let cells = line
            .split(" | ")
            .map(|cell| cell.trim_matches('`').to_owned());
        cells.collect()
    })
    .collect()
}

#[test]
fn every_field_has_a_row_and_every_row_a_field() {
    let (fields, _) = Schema::load().config();
    let fields: BTreeSet<String> = fields.into_iter().map(|field| field.path).collect();
    let shown: BTreeSet<String> = rows()
        .into_iter()
        .map(|mut row| row.swap_remove(0))
        .collect();
    let missing: Vec<&String> = fields.difference(&shown).collect();
    let unknown: Vec<&String> = shown.difference(&fields).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    assert!(unknown.is_empty(), "not in the schema: {unknown:?}");
}

/// `rundlet check` knows the specification's fields and no others.
#[test]
fn check_knows_the_fields_of_the_schema() {
    let (fields, _) = Schema::load().config();
    let fields: BTreeSet<String> = fields.into_iter().map(|field| field.path).collect();
    let known = include_str!("../src/spec/fields.txt");
    let known: BTreeSet<String> = known.lines().map(str::to_owned).collect();
    assert_eq!(known, fields);
}

#[test]
fn every_row_is_whole_and_of_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root");
    for row in rows() {
        let [field, world, test, value, observed] = row.as_slice() else {
            panic!("{row:?}");
        };
        assert!(["any", "v1", "v2"].contains(&world.as_str()), "{row:?}");
        assert!(observed.len() > 5, "{field}: {observed:?}");
        assert!(
            value != "-" || observed.starts_with("not here: "),
            "{row:?}"
        );
        let (module, name) = test.split_once("::").unwrap();
        let source = fs::read_to_string(root.join(format!("{module}.rs"))).unwrap();
        assert!(
            source.contains(&format!("\nfn {name}(")),
            "{field}: no test {test}"
        );
    }
}
