//! The steps of a process that `exec` puts into a running container. It was cloned by a stage that had joined the container's
//! namespaces, so it starts with the container's root and without a descriptor of the host (X1).

use super::{Step, attributes, child, handoff, identity, labels, landlock, namespaces, step};

pub(super) const TENANT_STEPS: &[Step] = &[
    step("session", attributes::session),
    step("session keyring", attributes::keyring),
    step("placement", child::await_placed),
    step("user namespace root", namespaces::become_root),
    step("groups", namespaces::drop_groups),
    step("console", child::console),
    step("controlling terminal", child::controlling_terminal),
    step("security labels", labels::apply),
    step("scheduler", attributes::scheduler),
    step("I/O priority", attributes::io_priority),
    step("memory policy", attributes::memory_policy),
    step("personality", attributes::personality),
    step("stdio", identity::own_stdio),
    step("working directory", identity::enter_cwd),
    step("resource limits", attributes::resource_limits),
    step("Landlock", landlock::confine),
    step("seccomp", handoff::seccomp_with_privileges),
    step("user and capabilities", identity::take_identity),
    step("working directory", identity::enter_cwd_as_user),
    step("no_new_privs", identity::no_new_privileges),
    step("program", handoff::find_program),
    step("seccomp listener", handoff::seccomp_with_listener),
    step("start", handoff::await_start),
    step("exec", handoff::execute),
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
