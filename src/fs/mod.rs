//! Safe path work that knows nothing of OCI.

pub(crate) mod atomic;
