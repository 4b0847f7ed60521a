//! `list`: all containers of a state root.

use std::collections::BTreeMap;

use anyhow::Result;
use nix::sys::stat::fstat;

use super::options::Context;
use super::output::StateOutput;
use super::state::describe;
use super::store::Store;
use crate::error::NotExist;
use crate::log;
use crate::sys::fd::done;
use crate::timings;

/// States in the order of ids, with the owner of each. What cannot be read is skipped with a warning (Z4); what vanishes
/// meanwhile was deleted and is no matter.
pub(crate) fn list(context: &Context) -> Result<Vec<StateOutput>> {
    timings::phase("state");
    let store = Store::new(context);
    let mut states = Vec::new();
    // Most belong to one user: /etc/passwd is read once for each.
    let mut owners = BTreeMap::new();
    for id in store.ids()? {
        let described = store.slot(&id).and_then(|slot| {
            let state = describe(&slot)?;
            let uid = fstat(&slot.dir).map_or(0, |stat| stat.st_uid);
            done(slot.dir);
            Ok((state, uid))
        });
        match described {
            Ok((state, uid)) => states.push(StateOutput {
                owner: owners.entry(uid).or_insert_with(|| owner(uid)).clone(),
                ..state
            }),
            Err(error) if error.is::<NotExist>() => {}
            Err(error) => log::warn(format_args!("skipped: {}", crate::error::chain(&error))),
        }
    }
    Ok(states)
}

/// The user's name out of the host's /etc/passwd (a static binary has no NSS), else `#UID` as runc prints it.
fn owner(uid: u32) -> String {
    crate::fs::passwd::name_of(uid).unwrap_or_else(|| format!("#{uid}"))
}
