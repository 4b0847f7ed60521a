//! README.md says what is so: the errors it quotes are in the source, its links lead somewhere, and the
//! `make` targets and files exist that it and CONTRIBUTING.md name.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// All of `src/`, with the string literals that go over several lines in one.
fn source() -> String {
    let mut text = String::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut text,
    );
    let mut joined = String::new();
    for (position, part) in text.split("\\\n").enumerate() {
        joined.push_str(if position == 0 {
            part
        } else {
            part.trim_start()
        });
    }
    joined
}

fn collect(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// What stands between backquotes in a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

#[test]
fn quoted_errors_are_in_the_source() {
    let (readme, source) = (file("README.md"), source());
    let section = readme.split("\n## Errors and what to do\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|cell| cell.contains('`'))
        .collect();
    assert!(rows.len() >= 12, "{rows:?}");
    for row in rows {
        for words in quoted(row) {
            assert!(source.contains(words), "no error says `{words}`");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let readme = file("README.md");
    let anchors: Vec<String> = readme
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|letter| letter.is_alphanumeric() || *letter == ' ' || *letter == '-')
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect();
    for part in readme.split("](").skip(1) {
        let target = part.split(')').next().unwrap();
        if let Some(anchor) = target.strip_prefix('#') {
            assert!(anchors.iter().any(|known| known == anchor), "#{anchor}");
        } else if !target.starts_with("https://") {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            assert!(path.exists(), "{target}");
        }
    }
}

#[test]
fn paths_and_targets_exist() {
    let (readme, makefile) = (file("README.md"), file("Makefile"));
    for name in readme
        .lines()
        .chain(file("CONTRIBUTING.md").lines())
        .flat_map(quoted)
    {
        if let Some(target) = name.strip_prefix("make ") {
            let target = target.split(' ').next().unwrap();
            assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
        }
        let ours = [
            "src/",
            "tests/",
            "conformance/",
            "man/",
            ".packaging/",
            ".cargo/",
        ];
        if ours.iter().any(|top| name.starts_with(top)) && !name.contains(['*', ' ']) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            assert!(path.exists(), "{name}");
        }
    }
}
