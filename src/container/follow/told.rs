//! How much of a container's life has been told, and what is to be told when a look finds it further on. Pure.

use super::Status;

/// Of one container.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) created: bool,
    pub(super) started: bool,
    pub(super) status: Option<Status>,
}

impl Told {
    /// What is to be told for a container to be in `status`, in the order in which it was.
    pub(super) fn advance(&mut self, status: Status, at_gate: bool) -> Vec<&'static str> {
        let before = self.status.replace(status);
        let mut kinds = Vec::new();
        if !std::mem::replace(&mut self.created, true) {
            kinds.push("created");
        }
        let ended = status == Status::Stopped;
        if before == Some(Status::Paused) && status != Status::Paused && !ended {
            kinds.push("resumed");
        }
        if !at_gate && !std::mem::replace(&mut self.started, true) {
            kinds.push("started");
        }
        if before != Some(status) {
            match status {
                Status::Paused => kinds.push("paused"),
                Status::Stopped => kinds.push("stopped"),
                _ => {}
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(looks: &[(Status, bool)]) -> String {
        let mut told = Told::default();
        let kinds = looks
            .iter()
            .flat_map(|(status, at_gate)| told.advance(*status, *at_gate));
        kinds.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_step_is_told_once_whatever_a_look_has_missed() {
        use Status::{Created, Paused, Running, Stopped};
        for (looks, told) in [
            (
                &[
                    (Created, true),
                    (Created, true),
                    (Running, false),
                    (Running, false),
                    (Stopped, false),
                ][..],
                "created started stopped",
            ),
            (
                &[(Running, false), (Stopped, false), (Stopped, false)],
                "created started stopped",
            ),
            (&[(Stopped, false)], "created started stopped"),
            (&[(Stopped, true)], "created stopped"),
            (
                &[
                    (Running, false),
                    (Paused, false),
                    (Running, false),
                    (Paused, false),
                    (Stopped, false),
                ],
                "created started paused resumed paused stopped",
            ),
            (
                &[
                    (Created, true),
                    (Paused, true),
                    (Created, true),
                    (Running, false),
                ],
                "created paused resumed started",
            ),
            (
                &[(Paused, true), (Running, false)],
                "created paused resumed started",
            ),
            (
                &[(Created, true), (Paused, false)],
                "created started paused",
            ),
        ] {
            assert_eq!(life(looks), told, "{looks:?}");
        }
    }
}
