//! state.json: damaged it is refused, or what it says is said again; never another container's.

use crate::container::record::{Record, parse};

pub(super) fn record(bytes: &[u8]) {
    let Ok(record) = parse::<Record>(bytes, "id") else {
        return;
    };
    assert_eq!(record.state.id, "id");
    for process in [Some(record.creator), record.init].into_iter().flatten() {
        assert!(process.pid > 0, "process {}", process.pid);
    }
    let written = serde_json::to_vec(&record).unwrap();
    let again = parse::<Record>(&written, "id").expect("what was written");
    assert_eq!(format!("{record:?}"), format!("{again:?}"));
    // Cut anywhere it is no record.
    for cut in [
        0,
        1,
        written.len() / 3,
        written.len() / 2,
        written.len() - 1,
    ] {
        assert!(parse::<Record>(&written[..cut], "id").is_err());
    }
}
