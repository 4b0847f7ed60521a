//! `list`: all containers of a state root.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use anyhow::Result;

use super::Container;
use super::options::Context;
use super::output::StateOutput;
use super::state::describe;
use super::store::Store;
use crate::error::NotExist;
use crate::log;

/// States in the order of ids, with the owner of each. What cannot be read is skipped with a warning (Z4); what vanishes
/// meanwhile was deleted and is no matter.
pub(crate) fn list(context: &Context) -> Result<Vec<StateOutput>> {
    let store = Store::new(context);
    let mut states = Vec::new();
    // Most belong to one user: /etc/passwd is read once for each.
    let mut owners = BTreeMap::new();
    for id in store.ids()? {
        match store.slot(&id).and_then(Container::load) {
            Ok(container) => {
                let uid =
                    nix::sys::stat::fstat(container.slot.dir.as_fd()).map_or(0, |stat| stat.st_uid);
                states.push(StateOutput {
                    owner: owners.entry(uid).or_insert_with(|| owner(uid)).clone(),
                    ..describe(&container)
                });
            }
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
