//! Checks of single values of `linux.resources`; each error starts with the JSON path it is given. Called by
//! `resources::plan` alone; the tests are there, on whole configs.

use anyhow::{Context, Result, bail, ensure};

pub(crate) fn device_number(field: &str, major: i64, minor: i64) -> Result<(u32, u32)> {
    let major = u32::try_from(major).with_context(|| format!("{field}.major: {major}"))?;
    let minor = u32::try_from(minor).with_context(|| format!("{field}.minor: {minor}"))?;
    Ok((major, minor))
}

/// A size in bytes: 0 is unset, -1 lifts the limit.
pub(crate) fn size(field: &str, value: Option<i64>) -> Result<Option<i64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(v) if v < -1 => bail!("{field}: {v} is neither a size nor -1"),
        v => Ok(v),
    }
}

/// A kernel list such as `0-3,7`. Only what would reach another line of the file is refused; the kernel knows the rest.
pub(crate) fn list(field: &str, value: Option<&str>) -> Result<Option<String>> {
    match value {
        None | Some("") => Ok(None),
        Some(v) => {
            ensure!(
                !v.chars().any(char::is_control),
                "{field}: `{}` is not a list of numbers",
                v.escape_debug()
            );
            Ok(Some(v.to_owned()))
        }
    }
}

pub(crate) fn plain_word(field: &str, word: &str) -> Result<()> {
    let plain = !word.is_empty() && !word.chars().any(|c| c.is_control() || c.is_whitespace());
    ensure!(
        plain,
        "{field}: `{}` is not a device name",
        word.escape_debug()
    );
    Ok(())
}

pub(crate) fn is_page_size(size: &str) -> bool {
    let digits = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| size.strip_suffix(unit));
    digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

/// A key of `unified` names one file of the container's own cgroup, and one that limits something.
pub(crate) fn check_unified(file: &str, value: &str) -> Result<()> {
    ensure!(
        !file.contains('/') && !file.contains('\0'),
        "linux.resources.unified: `{file}` must be a file name (no slashes)"
    );
    ensure!(
        file.split_once('.')
            .is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty()),
        "linux.resources.unified: `{file}` must be in the form CONTROLLER.PARAMETER"
    );
    // The part before the dot goes into a list between blanks, cgroup.subtree_control.
    ensure!(
        file.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
        "linux.resources.unified: `{}` is not the name of a cgroup file",
        file.escape_debug()
    );
    // These act on processes: the container would be emptied, frozen or killed while it is being made.
    let acts = [
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.kill",
        "cgroup.freeze",
    ];
    ensure!(
        !acts.contains(&file),
        "linux.resources.unified: `{file}` is not a limit"
    );
    // The kernel reads up to it: the file would have another value than the config.
    ensure!(
        !value.contains('\0'),
        "linux.resources.unified[{file}]: must not contain a null byte"
    );
    Ok(())
}
