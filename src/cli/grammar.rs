//! The grammar of Go's flag parsers, which every caller of runc relies on, in front of clap. Pure.
//! Called by `cli` for the global flags and for a verb's.
//!
//! | form | meaning |
//! |---|---|
//! | `--name value`, `--name=value`, `-name value`, `-name=value` | one dash and two are the same |
//! | `-x value`, `-x=value` | a short name stands alone: `-xy` is the flag `xy`, not `x` and `y` |
//! | `--switch`, `--switch=false` | a switch takes no next word; the last of several holds |
//! | `word --flag` | flags may follow words, unless the verb says after which word they end |
//! | `--` | only words follow |
//!
//! What comes out is in the one form clap reads in one way: `--name=value` for each flag, then `--`, then words.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// One flag as the lexer needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Switch,
    /// Takes a value; the last of several holds, an empty one is as if not given.
    Value,
    /// Takes a value each time it is given.
    List,
}

/// The flags of a clap command, so that there is one definition of them.
pub(crate) fn flags_of(command: &clap::Command) -> Vec<Flag> {
    let leak = |name: &str| -> &'static str { Box::leak(name.to_owned().into_boxed_str()) };
    command
        .get_arguments()
        .filter_map(|arg| {
            Some(Flag {
                // A process parses one command line: nothing here is given back before its end.
                long: leak(arg.get_long()?),
                short: arg.get_short(),
                kind: match arg.get_action() {
                    clap::ArgAction::SetTrue => Kind::Switch,
                    clap::ArgAction::Append => Kind::List,
                    _ => Kind::Value,
                },
            })
        })
        .collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lexed {
    /// In the order given, each flag with its value (`None` for a switch that is on).
    pub(crate) flags: Vec<(&'static str, Option<OsString>)>,
    pub(crate) words: Vec<OsString>,
    /// `--help` or `-h` was among the flags.
    pub(crate) help: bool,
}

/// Splits `args` into flags and words. With `stop_after`, everything behind the so-many-th word is a word.
pub(crate) fn lex(
    flags: &[Flag],
    args: &[OsString],
    stop_after: Option<usize>,
) -> Result<Lexed, String> {
    let mut lexed = Lexed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some((name, value)) = split(arg) else {
            lexed.words.push(arg.clone());
            if Some(lexed.words.len()) == stop_after {
                lexed.words.extend(rest.cloned());
                break;
            }
            continue;
        };
        if name.is_empty() {
            lexed.words.extend(rest.cloned());
            break;
        }
        if name == "help" || name == "h" {
            lexed.help = true;
            continue;
        }
        let flag =
            find(flags, &name).ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        // The last one holds, as in Go.
        if flag.kind != Kind::List {
            lexed.flags.retain(|(given, _)| *given != flag.long);
        }
        if flag.kind == Kind::Switch {
            if value
                .as_deref()
                .map_or(Ok(true), |value| boolean(value, &name))?
            {
                lexed.flags.push((flag.long, None));
            }
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: {}", arg.display()))?,
        };
        if flag.kind == Kind::List || !value.is_empty() {
            lexed.flags.push((flag.long, Some(value)));
        }
    }
    Ok(lexed)
}

impl Lexed {
    /// For clap: a program name, `--name=value` each, `--`, the words.
    pub(crate) fn canonical(self) -> Vec<OsString> {
        let mut out = vec![OsString::from("rundlet")];
        for (name, value) in self.flags {
            let mut flag = OsString::from("--");
            flag.push(name);
            if let Some(value) = value {
                flag.push("=");
                flag.push(value);
            }
            out.push(flag);
        }
        out.push("--".into());
        out.extend(self.words);
        out
    }
}

/// Name and `=` value of a flag, or `None` for a word. `--` comes out as a flag without a name.
fn split(arg: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = arg.as_bytes();
    if bytes == b"-" {
        return None;
    }
    let body = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"))?;
    let (name, value) = match body.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            &body[..at],
            Some(OsString::from_vec(body[at + 1..].to_vec())),
        ),
        None => (body, None),
    };
    if name.is_empty() && !body.is_empty() {
        // `--=x` is no terminator: a name that no flag has.
        return Some(("=".into(), value));
    }
    Some((String::from_utf8_lossy(name).into_owned(), value))
}

fn find<'a>(flags: &'a [Flag], name: &str) -> Option<&'a Flag> {
    let mut chars = name.chars();
    let short = chars.next().filter(|_| chars.next().is_none());
    flags
        .iter()
        .find(|flag| flag.long == name || (short.is_some() && flag.short == short))
}

/// The words Go takes for a boolean.
fn boolean(value: &OsStr, name: &str) -> Result<bool, String> {
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
        _ => Err(format!(
            "invalid boolean value \"{}\" for flag -{name}",
            value.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 4] = [
        Flag {
            long: "bundle",
            short: Some('b'),
            kind: Kind::Value,
        },
        Flag {
            long: "no-subreaper",
            short: None,
            kind: Kind::Switch,
        },
        Flag {
            long: "env",
            short: Some('e'),
            kind: Kind::List,
        },
        Flag {
            long: "detach",
            short: Some('d'),
            kind: Kind::Switch,
        },
    ];

    fn canonical(args: &[&str], stop_after: Option<usize>) -> Result<String, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let words = lex(&FLAGS, &args, stop_after)?.canonical();
        let words: Vec<&str> = words[1..]
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        Ok(words.join(" "))
    }

    #[test]
    fn one_dash_and_two_with_and_without_equals_are_the_same() {
        for args in [
            &["--bundle", "x", "id"][..],
            &["-bundle", "x", "id"],
            &["--bundle=x", "id"],
            &["-bundle=x", "id"],
            &["-b", "x", "id"],
            &["-b=x", "id"],
            &["--b", "x", "id"],
            &["id", "--bundle", "x"],
            &["--bundle=y", "--bundle=x", "id"],
        ] {
            assert_eq!(
                canonical(args, None).unwrap(),
                "--bundle=x -- id",
                "{args:?}"
            );
        }
        assert_eq!(
            canonical(&["-no-subreaper", "id"], None).unwrap(),
            "--no-subreaper -- id"
        );
    }

    #[test]
    fn switches_take_go_booleans_and_the_last_holds() {
        assert_eq!(canonical(&["--detach=true"], None).unwrap(), "--detach --");
        assert_eq!(canonical(&["-d", "--detach=false"], None).unwrap(), "--");
        assert_eq!(canonical(&["-d=0", "-d=T"], None).unwrap(), "--detach --");
        assert_eq!(
            canonical(&["--detach=maybe"], None).unwrap_err(),
            "invalid boolean value \"maybe\" for flag -detach"
        );
        // A switch never takes the next word.
        assert_eq!(
            canonical(&["-d", "false"], None).unwrap(),
            "--detach -- false"
        );
    }

    #[test]
    fn lists_keep_every_value_and_commas() {
        assert_eq!(
            canonical(&["-e", "A=1,2", "--env=B=", "-e", "", "id"], None).unwrap(),
            "--env=A=1,2 --env=B= --env= -- id"
        );
    }

    #[test]
    fn values_that_look_like_flags_and_empty_values() {
        assert_eq!(
            canonical(&["--bundle", "--detach"], None).unwrap(),
            "--bundle=--detach --"
        );
        assert_eq!(canonical(&["--bundle=", "id"], None).unwrap(), "-- id");
        assert_eq!(canonical(&["--bundle", "", "id"], None).unwrap(), "-- id");
    }

    #[test]
    fn flags_end_at_the_terminator_or_the_nth_word() {
        assert_eq!(canonical(&["--", "-d", "x"], None).unwrap(), "-- -d x");
        assert_eq!(
            canonical(&["id", "-d", "--", "-e"], Some(1)).unwrap(),
            "-- id -d -- -e"
        );
        assert_eq!(
            canonical(&["-d", "id", "-9"], Some(1)).unwrap(),
            "--detach -- id -9"
        );
        assert_eq!(canonical(&["-", "-d"], None).unwrap(), "--detach -- -");
    }

    #[test]
    fn faults_name_the_flag() {
        assert_eq!(
            canonical(&["--nope"], None).unwrap_err(),
            "flag provided but not defined: -nope"
        );
        assert_eq!(
            canonical(&["-de"], None).unwrap_err(),
            "flag provided but not defined: -de"
        );
        assert_eq!(
            canonical(&["--bundle"], None).unwrap_err(),
            "flag needs an argument: --bundle"
        );
        assert_eq!(
            canonical(&["-b"], None).unwrap_err(),
            "flag needs an argument: -b"
        );
        assert!(canonical(&["--=x"], None).is_err());
        assert!(canonical(&["---bundle=x"], None).is_err());
    }

    #[test]
    fn help_is_seen_among_flags_only() {
        let lexed = |args: &[&str], stop| {
            lex(
                &FLAGS,
                &args.iter().map(OsString::from).collect::<Vec<_>>(),
                stop,
            )
            .unwrap()
            .help
        };
        assert!(lexed(&["-h"], None) && lexed(&["id", "--help"], None) && lexed(&["-help"], None));
        assert!(!lexed(&["id", "--help"], Some(1)) && !lexed(&["--", "-h"], None));
    }

    #[test]
    fn bytes_that_are_not_utf8_survive_in_values_and_words() {
        let raw = OsString::from_vec(b"--bundle=/\xff".to_vec());
        let word = OsString::from_vec(b"\xfe".to_vec());
        let lexed = lex(&FLAGS, &[raw, word.clone()], None).unwrap();
        assert_eq!(lexed.flags[0].1.as_ref().unwrap().as_bytes(), b"/\xff");
        assert_eq!(lexed.words, [word]);
    }
}
