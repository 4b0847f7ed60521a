//! The text of rundlet(8) that is of no single verb: what it is, exit codes, errors, timings, Landlock, files. Set by `mod.rs`;
//! the pages of the verbs are in `pages.rs`.

pub(super) const OVERVIEW: &str = "\
rundlet turns a bundle, a directory with a config.json and a root file system, into a container: a process in namespaces and
control groups of its own. Engines such as Docker, containerd, Podman, CRI-O and Buildah call it as they call runc, whose
command line, output and exit codes it has; a person can run bundles with it directly.

A container goes through the states creating, created, running (or paused) and stopped. create sets everything up and leaves a
process waiting, start lets it go on, delete removes what is left after its end; run does the three in one.

Options may be written --name value, --name=value or with one dash. Global options may stand behind the verb, too, where
the verb has none of that name.";

pub(super) const SECTIONS: &[(&str, &str)] = &[
    (
        "EXIT STATUS",
        "0; 1 after an error or a wrong command line; 255 when exec could not run its command; otherwise, of run and exec in the
foreground, the exit code of the container's process, or 128 plus the number of the signal that ended it.",
    ),
    (
        "ERRORS",
        "An error is one line: what was done, with which field of config.json, the kernel's reason, and where it is known what to do. With
--log it is appended to that file as well, as text or, with --log-format json, as an object with the keys level, msg and time, and
of an error step (what was being done, by the runtime or by the container's process, in the words of --timings) and those of field (the
JSON path into config.json), errno and hint that there are. A command that fails leaves nothing behind.",
    ),
    (
        "TIMINGS",
        "--timings FILE (or the variable RUNDLET_TIMINGS) writes where the time of one command went: total_us, and spans of the runtime's phases, which
follow each other and add up to the whole, and of the steps of the processes that it makes, which run beside them. A FILE that ends in .trace is
written as trace events, for chrome://tracing or Perfetto. The variable TRACEPARENT (W3C trace context) is put into the file as traceparent, so that the
spans can be joined to those of the caller. With create the file has what was done until the container waits for its start.

    rundlet --timings /tmp/run.trace run --bundle /srv/web web",
    ),
    (
        "LANDLOCK",
        "Annotations of config.json hold the container's process, and what exec starts, to Landlock rules of the kernel, beside all that
confines it anyway. An engine need not know them: podman run --annotation and, from version 24 on, docker run --annotation pass them on.

org.rundlet.landlock.fs.ro and .fs.rw: absolute paths in the container, parted by colons. What is below those of fs.ro may be read and
executed, below those of fs.rw everything may be done; no other file can be opened. (The kernel does not hold chdir, stat, chmod and the like to
it, and lets such a process mount nothing.) A path that is missing or leads through a symbolic link is an error, so that an image cannot widen the rules; written -PATH it is left
out. The program, its loader and libraries must be among them, and /dev for what a shell sends to /dev/null.

org.rundlet.landlock.net.bind and .net.connect: TCP ports and ranges of them, parted by commas, that may be bound and connected to;
with an empty string none may. UDP and other protocols are not restricted.

org.rundlet.landlock.scope: abstract-unix-socket, signal, or both: such sockets of, and signals to, processes that are not under the
container's rules are refused. A process of exec has rules of its own, so it cannot signal or trace those of the container's init.

org.rundlet.landlock.compat: with strict, the default, it is an error if the kernel cannot restrict what is asked for: files need Linux 6.10, ports
6.7, scope 6.12. With best-effort what the kernel lacks is left out, with a warning.

    \"annotations\": {
    \"org.rundlet.landlock.fs.ro\": \"/usr:-/bin:-/lib:-/lib64:/etc\",
    \"org.rundlet.landlock.fs.rw\": \"/tmp:/dev:/proc\",
    \"org.rundlet.landlock.net.bind\": \"8080,9000-9010\",
    \"org.rundlet.landlock.net.connect\": \"443\"
    }

Any other annotation of that prefix is an error. StartContainer hooks run under the rules, other hooks do not. Such a container cannot be saved by
checkpoint, for CRIU does not save the rules.",
    ),
    (
        "FILES",
        "/run/rundlet/ID/: the state of container ID below the state root (--root). A user who is not root has
$XDG_RUNTIME_DIR/rundlet instead.",
    ),
];

pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        "rundlet spec\nrundlet run web",
        "Write a config.json into the current directory, which has a root file system in rootfs, and run a container from it:",
    ),
    (
        "rundlet list\nrundlet exec -t web sh\nrundlet kill web\nrundlet delete web",
        "See what there is, look inside, end it, remove it:",
    ),
];
