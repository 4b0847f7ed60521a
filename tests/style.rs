//! House rules that no lint knows: the length of a file, its header, and what may not be in it.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A file is split before it gets longer than this.
const LONGEST: usize = 450;

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["src", "tests", "conformance"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(top), &mut found);
    }
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Tables of numbers come out of a script and are as long as they are.
fn generated(text: &str) -> bool {
    text.lines()
        .take(12)
        .any(|line| line.starts_with("//!") && line.to_lowercase().contains("generated"))
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        // Unit tests stand with the code they test and do not count.
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]" || !text.contains("mod tests {"))
            .count();
        if lines > LONGEST && !generated(&text) {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "longer than {LONGEST} lines:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_say_what_they_own() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//! ") {
            wrong.push(path.display().to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "without a //! header:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_is_left_to_do() {
    // Written in two halves, or this file would find itself.
    let words = [
        ["todo", "!("].concat(),
        ["unimplement", "ed!("].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X:"].concat(),
    ];
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_blocks_explain_themselves() {
    let mut wrong = Vec::new();
    for path in rust_files()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/src/sys/"))
    {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let block = line.contains("unsafe {") && !line.trim_start().starts_with("//");
            let before = lines[number.saturating_sub(8)..number]
                .iter()
                .any(|line| line.contains("// SAFETY:"));
            if block && !before && !line.contains("// SAFETY:") {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe without a SAFETY comment:\n{}",
        wrong.join("\n")
    );
}
