//! The few errors code branches on. Everything else is an `anyhow` chain that `main` prints once.

use std::fmt;

/// No container of this id is in the state root. Engines match `does not exist` (peers.md A.6).
#[derive(Debug)]
pub(crate) struct NotExist(pub(crate) String);

impl fmt::Display for NotExist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container `{}` does not exist", self.0)
    }
}

impl std::error::Error for NotExist {}
