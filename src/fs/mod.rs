//! Safe path work that knows nothing of OCI.

pub(crate) mod atomic;
pub(crate) mod passwd;
