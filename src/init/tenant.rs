//! The steps of a process that `exec` puts into a running container. It was cloned by a stage that had joined the container's
//! namespaces, so it starts with the container's root and without a descriptor of the host (X1).

use super::{Step, attributes, child, handoff, identity, labels, namespaces};

pub(super) const TENANT_STEPS: &[Step] = &[
    Step {
        name: "session",
        run: attributes::session,
    },
    Step {
        name: "session keyring",
        run: attributes::keyring,
    },
    Step {
        name: "placement",
        run: child::await_placed,
    },
    Step {
        name: "user namespace root",
        run: namespaces::become_root,
    },
    Step {
        name: "console",
        run: child::console,
    },
    Step {
        name: "security labels",
        run: labels::apply,
    },
    Step {
        name: "stdio owner",
        run: identity::own_stdio,
    },
    Step {
        name: "working directory",
        run: identity::enter_cwd,
    },
    Step {
        name: "resource limits",
        run: attributes::resource_limits,
    },
    Step {
        name: "seccomp",
        run: handoff::seccomp_with_privileges,
    },
    Step {
        name: "user and capabilities",
        run: identity::take_identity,
    },
    Step {
        name: "working directory",
        run: identity::enter_cwd_as_user,
    },
    Step {
        name: "no_new_privs",
        run: identity::no_new_privileges,
    },
    Step {
        name: "program",
        run: handoff::find_program,
    },
    Step {
        name: "start",
        run: handoff::await_start,
    },
    Step {
        name: "exec",
        run: handoff::execute,
    },
];

#[cfg(test)]
mod tests {
    use super::super::STEPS;
    use super::TENANT_STEPS;

    /// exec keeps the order of create: a step moved in one table only is a mistake.
    #[test]
    fn the_steps_stand_in_the_order_of_create() {
        let mut rest = STEPS.iter();
        for step in TENANT_STEPS {
            assert!(
                rest.any(|other| other.name == step.name),
                "`{}` is out of order",
                step.name
            );
        }
    }
}
