//! The layer rule: a module uses only the layers below its own.
//!
//! Reads every `crate::` path in `src/` and compares it with the table. Tests inside a file may use
//! what they like. Only `spec` and `plan` may name the crate `oci_spec`, and `unsafe` is for `sys`.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, layer. A module may use lower layers; within its own layer only itself, unless
/// [`SAME_LAYER`] says so.
const LAYERS: &[(&str, u8)] = &[
    ("sys", 0),
    // Helpers of unit tests, not in the program.
    ("testing", 1),
    ("error", 1),
    ("log", 1),
    ("fs", 1),
    ("sealed", 1),
    ("timings", 1),
    ("spec", 2),
    ("plan", 3),
    ("cgroup", 4),
    ("seccomp", 4),
    ("net", 4),
    ("console", 4),
    ("hooks", 4),
    ("rdt", 4),
    ("sd_notify", 4),
    ("criu", 4),
    ("rootfs", 4),
    ("proto", 5),
    ("init", 6),
    ("container", 6),
    ("features", 6),
    ("cli", 7),
    ("main", 7),
];

/// What may be used beside lower layers: `container` has one entry point of `init`, and the small
/// modules of layer 1 carry each other's types.
const SAME_LAYER: &[(&str, &str)] = &[
    ("container", "init"),
    ("log", "error"),
    ("error", "log"),
    ("fs", "error"),
    ("main", "cli"),
    ("sealed", "fs"),
    ("sealed", "timings"),
];

/// Used below their layer with a reason.
const NOT_ALLOWED_BELOW: &[(&str, &[&str])] = &[
    // The modules of layer 4 take the plan's types, never the specification.
    ("cgroup", &["spec"]),
    ("seccomp", &["spec"]),
    ("net", &["spec"]),
    ("console", &["spec"]),
    ("hooks", &["spec"]),
    ("rootfs", &["spec"]),
    // The protocol moves bytes and descriptors.
    (
        "proto",
        &[
            "spec", "plan", "cgroup", "seccomp", "console", "hooks", "rootfs",
        ],
    ),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn source_files() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap();
            let first = relative
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (module, relative.to_owned(), text)
        })
        .collect()
}

/// The code of a file without comments, and without the test module at its end.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        let line = line.trim_start();
        if !line.starts_with("//") {
            code.push_str(line.split(" // ").next().unwrap_or(line));
            code.push('\n');
        }
    }
    code
}

/// The top modules named after `crate::` in a file, also in braces: `use crate::{log, fs::x}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // $crate and other_crate are something else.
        if code[..at].ends_with(|before: char| before == '_' || before.is_alphanumeric()) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(first_word(&word));
                        word.clear();
                        continue;
                    }
                    _ => {}
                }
                word.push(letter);
            }
            found.insert(first_word(&word));
        } else {
            found.insert(first_word(rest));
        }
    }
    found.remove("");
    found
}

fn first_word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// Why `module` may not use `other`, if it may not.
fn forbidden(module: &str, other: &str) -> Option<String> {
    let (Some(own), Some(theirs)) = (layer(module), layer(other)) else {
        return Some(format!(
            "`{module}` or `{other}` is in no layer of the table"
        ));
    };
    if NOT_ALLOWED_BELOW
        .iter()
        .any(|(name, others)| *name == module && others.contains(&other))
    {
        return Some(format!("`{module}` must not know `{other}`"));
    }
    let fine = module == other || theirs < own || SAME_LAYER.contains(&(module, other));
    (!fine).then(|| format!("`{module}` (layer {own}) uses `{other}` (layer {theirs})"))
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for (module, path, text) in source_files() {
        for other in used(&code(&text)) {
            // A macro or a type at the crate's root is written in main.rs.
            if layer(&other).is_none() && other.chars().next().is_some_and(char::is_uppercase) {
                continue;
            }
            if let Some(reason) = forbidden(&module, &other) {
                wrong.push(format!("src/{}: {reason}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_spec_and_plan_know_oci_spec() {
    let mut wrong = Vec::new();
    for (module, path, text) in source_files() {
        if !["spec", "plan"].contains(&module.as_str()) && code(&text).contains("oci_spec::") {
            wrong.push(format!("src/{}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "these name oci_spec: {wrong:?}");
}

#[test]
fn unsafe_is_for_sys() {
    let mut wrong = Vec::new();
    for (module, path, text) in source_files() {
        let words = code(&text);
        let has = [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "#[unsafe(",
        ]
        .iter()
        .any(|word| words.contains(word));
        if module != "sys" && has {
            wrong.push(format!("src/{}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "unsafe code outside src/sys: {wrong:?}");
}

#[test]
fn pure_files_do_not_touch_the_system() {
    let pure = |path: &str| {
        (path.starts_with("plan/") && path != "plan/host.rs")
            || path == "spec/validate.rs"
            || path == "cgroup/v2/resources.rs"
            || path.starts_with("cgroup/devices/") && path != "cgroup/devices/mod.rs"
            || path == "seccomp/names.rs"
            || path == "seccomp/compile.rs"
    };
    let mut wrong = Vec::new();
    for (_, path, text) in source_files() {
        let name = path.to_string_lossy().into_owned();
        if !pure(&name) {
            continue;
        }
        let code = code(&text);
        for word in [
            "std::fs",
            "File::open",
            "crate::sys",
            "std::process::Command",
            "nix::unistd",
            "nix::mount",
            "libc::open",
        ] {
            if code.contains(word) {
                wrong.push(format!("src/{name}: {word}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "pure files with effects:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_reader_sees_all_forms() {
    let text = "use crate::log;\nuse crate::{fs::atomic, sys};\nlet x = crate::plan::Plan::new(); // crate::cli\n\
                use crate::{\n    error::{A, B},\n    proto,\n};\nmy_crate::x();\n#[cfg(test)]\nmod t { use crate::container; }\n";
    let names: Vec<String> = used(&code(text)).into_iter().collect();
    assert_eq!(names, ["error", "fs", "log", "plan", "proto", "sys"]);
}

#[test]
fn the_table_refuses_what_it_must() {
    assert!(forbidden("cgroup", "seccomp").is_some());
    assert!(forbidden("init", "container").is_some());
    assert!(forbidden("container", "cli").is_some());
    assert!(forbidden("sys", "log").is_some());
    assert!(forbidden("rootfs", "spec").is_some());
    assert!(forbidden("container", "init").is_none());
    assert!(forbidden("cli", "container").is_none());
    assert!(forbidden("rootfs", "plan").is_none());
}

/// The fuzzer is a package of its own that takes the sources by their paths: a module that it lacks would only show there.
#[test]
fn the_fuzzer_has_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let of = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("mod "));
        names
            .map(|name| name.trim_end_matches(';').to_owned())
            .collect()
    };
    let fuzzer = of(&read("tests/fuzz/src/main.rs"));
    for module in of(&read("src/main.rs")) {
        let of_tests = module == "testing" || module == "fuzz";
        assert!(of_tests || fuzzer.contains(&module), "{module}");
    }
    // The same packages with the same features, up to the empty line that ends them.
    let packages = |path: &str| -> BTreeSet<String> {
        let text = read(path);
        let lines = text.lines().skip_while(|line| *line != "[dependencies]");
        let lines = lines.skip(1).take_while(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let fuzzer = packages("tests/fuzz/Cargo.toml");
    for package in packages("Cargo.toml") {
        assert!(
            fuzzer.contains(&package),
            "tests/fuzz/Cargo.toml: {package}"
        );
    }
}
