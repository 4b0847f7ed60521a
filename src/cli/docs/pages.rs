//! What the man pages say beside what the command line knows: descriptions, exit codes, examples. Called by the parent module.

/// Of the text; in every page's foot.
pub(super) const DATE: &str = "2026-11-21";

/// The prose of one verb's page.
pub(super) struct Page {
    pub(super) verb: &'static str,
    /// After the lines that the help has, too.
    pub(super) description: &'static str,
    /// Empty: 0, or 1 after an error.
    exit_status: &'static str,
    /// Command and what it does.
    pub(super) examples: &'static [(&'static str, &'static str)],
}

impl Page {
    pub(super) fn exit_status(&self) -> &'static str {
        match self.exit_status {
            "" => "0, or 1 after an error, which is printed on standard error in one line.",
            given => given,
        }
    }
}

pub(super) fn of(verb: &str) -> &'static Page {
    PAGES.iter().find(|page| page.verb == verb).unwrap()
}

pub(super) const PAGES: &[Page] = &[
    Page {
        verb: "create",
        description: "With process.terminal the master end of a new terminal is sent to --console-socket. On return the file of --pid-file has the
process id, without a newline.

Engines of several containers on one root file system can use --overlay: the root of the bundle stays as it is.

With --dry-run nothing is made; what would be done is printed in its order, one line or JSON object (step, action, detail) each: the cgroup
and its limits, namespaces, mounts with their flags, devices, masks, capabilities, the seccomp filter, hooks.",
        exit_status: "",
        examples: &[
            (
                "rundlet create --bundle /srv/web web\nrundlet start web",
                "Make a container from /srv/web/config.json, then let its process go on:",
            ),
            (
                "rundlet create --dry-run --bundle /srv/web web",
                "See what would be done:",
            ),
            (
                "rundlet create --bundle /srv/web --overlay-upper /srv/web-1 web-1",
                "Keep what the container writes in a directory of its own:",
            ),
        ],
    },
    Page {
        verb: "start",
        description: "A container can be started once. Poststart hooks run after its program has begun.",
        exit_status: "",
        examples: &[("rundlet start web", "Let the process of a created container go on:")],
    },
    Page {
        verb: "run",
        description: "In the foreground signals are passed on to the container's process, and with process.terminal the caller's terminal becomes the
container's. The container is deleted when its process has ended, unless --keep is given.",
        exit_status: "That of the container's process, or 128 plus the number of the signal that ended it; with --detach 0. 1 after an error.",
        examples: &[
            ("rundlet run --bundle /srv/shell shell", "Run in the foreground, and remove the container at its end:"),
            (
                "rundlet run --detach --pid-file /run/web.pid --bundle /srv/web web",
                "Run in the background:",
            ),
            ("rundlet run --overlay try", "Write nothing to the root file system:"),
        ],
    },
    Page {
        verb: "exec",
        description: "The process gets the environment, the capabilities, the seccomp filter and the labels of the container, as they were when it was
created; options change them, or a process.json replaces them. It runs in the container's namespaces and cgroup.

Calls that are repeated, such as health checks, cost little: some 1.5 ms and 170 system calls on a small virtual machine, a third of what crun and a
tenth of what runc takes there. The seccomp filter is the one that create has compiled; nothing is asked of systemd.",
        exit_status: "That of the command, or 128 plus the number of the signal that ended it; with --detach 0. 255 when the command could not be run.",
        examples: &[
            ("rundlet exec --tty web sh", "A shell in the container web:"),
            (
                "rundlet exec --user 33:33 --cwd /var/www --env A=b web ls -l",
                "A command as another user, in another directory:",
            ),
            (
                "rundlet exec --process process.json --detach --pid-file p web",
                "A process that a file describes, in the background:",
            ),
        ],
    },
    Page {
        verb: "state",
        description: "The object has ociVersion, id, pid (0 when it is stopped), status, bundle, rootfs, created, annotations and owner.",
        exit_status: "",
        examples: &[("rundlet state web", "The state of the container web:")],
    },
    Page {
        verb: "list",
        description: "A container whose state cannot be read is named on standard error and left out.",
        exit_status: "",
        examples: &[
            ("rundlet list", "A table of all containers:"),
            ("rundlet list --quiet", "Only their ids:"),
            ("rundlet --root /run/engine list --format json", "Those of another state root, as JSON:"),
        ],
    },
    Page {
        verb: "ps",
        description: "",
        exit_status: "",
        examples: &[
            ("rundlet ps web", "The container's processes:"),
            ("rundlet ps web -o pid,rss,args", "With chosen columns of ps(1):"),
            ("rundlet ps --format json web", "Process ids, as the host sees them:"),
        ],
    },
    Page {
        verb: "events",
        description: "The numbers are those of the container's cgroups: bytes, nanoseconds, and for a limit that is not set the
            greatest number there is. Of what a controller would count that the host does not have, nothing or 0 is shown.
            The first line comes after the first interval.

With --follow-all each line has type, id, time (RFC 3339) and, as the type has it, data:

    present  it was there when the watch began
    created  its process waits for the start
    started  it runs
    paused   its processes are frozen, by whomever
    resumed  they go on
    oom      the kernel has killed a process for want of memory; no data
    stopped  its process has ended
    deleted  its state is gone
    stats    what it uses, at every interval; data as of one container

The others' data have status, pid (0 when it is stopped) and bundle as they are at that moment, which may be one step further. What is too
short to be seen is left out: of a container that is deleted before it could be looked at, and of one whose creation failed, there is
deleted alone, without data. On cgroup v1 delete --force freezes what it kills, which may show as paused and resumed. A state root that does
not exist is made; when it is removed the command ends with an error. With --stats the statistics of all are printed once.",
        exit_status: "",
        examples: &[
            ("rundlet events --stats web", "What the container has used until now:"),
            ("rundlet events --interval 1m web", "The same every minute, and OOM kills as they happen:"),
            (
                "rundlet events --follow-all | jq -r 'select(.type != \"stats\") | \"\\(.time) \\(.id) \\(.type)\"'",
                "What becomes of all containers, without the numbers:",
            ),
            (
                "rundlet --root /run/containerd/runc/k8s.io events --follow-all --interval 10s >>log",
                "Those of containerd, with their numbers every ten seconds:",
            ),
        ],
    },
    Page {
        verb: "top",
        description: "Without an id all containers of the state root are shown that are created, running or paused, with --all those that are stopped, too;
they may come and go. With ids these alone, which must be there at the beginning; it ends when the last of them is deleted. A rate needs two
samples: the first plain table comes after one interval, and a container that is new has - for a rate, as has everything that the host does
not count (pressure is counted by cgroup v2 alone).

An object of --format json has time (RFC 3339), id, status, pid, cpu_percent (100 is one CPU), cpu_ns (since the container was made), memory
(usage, working_set and limit in bytes), pids (current, limit), io (read and written, in bytes since then, and read_per_second and
written_per_second) and pressure (cpu, memory and io, each with some and full: avg10, avg60 and avg300 in percent, total in microseconds).
What is unknown or without a limit is null.",
        exit_status: "0; 128 plus the number of the signal that ended it on a terminal; 1 after an error, which is printed on standard error in one line.",
        examples: &[
            ("rundlet top", "Watch all containers:"),
            (
                "rundlet top --once --sort memory",
                "Which of them has most memory:",
            ),
            (
                "rundlet --root /run/docker/runtime-runc/moby top --interval 5s",
                "Those of Docker:",
            ),
            (
                "rundlet top --format json web | jq -r 'select(.cpu_percent > 90) | .time'",
                "When a container was busy:",
            ),
        ],
    },
    Page {
        verb: "kill",
        description: "A container without a pid namespace of its own has no init whose end would end the others: SIGKILL goes to all of its processes.",
        exit_status: "",
        examples: &[
            ("rundlet kill web", "SIGTERM to the container's process:"),
            ("rundlet kill web KILL", "SIGKILL:"),
        ],
    },
    Page {
        verb: "pause",
        description: "The processes stand still until resume. It is an error when they do not within ten seconds; they run on then.",
        exit_status: "",
        examples: &[("rundlet pause web\nrundlet resume web", "Stop the container's processes, and let them go on:")],
    },
    Page {
        verb: "resume",
        description: "",
        exit_status: "",
        examples: &[("rundlet resume web", "Let the processes of a paused container go on:")],
    },
    Page {
        verb: "delete",
        description: "A created container that was never started is killed. Poststop hooks run; the cgroup and the state are removed, the state last, so that
a delete that failed can be repeated.

What systemd takes for a unit (30 s an answer) and poststop hooks, which have timeouts of their own, are not counted to --timeout. When it is
over SIGKILL has been sent; of each process that is left the error has id, name, state (D: in the kernel, where no signal reaches it),
what it waits in, and the cgroup.",
        exit_status: "",
        examples: &[
            ("rundlet delete web", "Remove a stopped container:"),
            ("rundlet delete --force web", "Kill it first, and say nothing if it does not exist:"),
            (
                "rundlet delete --force --timeout 1m web",
                "Give processes that hang in a dead network file system a minute:",
            ),
        ],
    },
    Page {
        verb: "spec",
        description: "",
        exit_status: "",
        examples: &[
            ("rundlet spec", "Write config.json into the current directory:"),
            ("rundlet spec --rootless --bundle /tmp/b", "One that an ordinary user can run:"),
        ],
    },
    Page {
        verb: "check",
        description: "What create would refuse is found by create's own code. Looked for are also limits that this host's cgroups cannot carry out or
that only cgroup v1 knows, missing files, programs, hooks, namespaces, devices and rights, masked paths that do not exist, and system
calls that nobody knows. A warning is for what is probably not meant.

With --json there is one object with the keys bundle, creatable and findings; a finding has level, message and, where they are known, field
(the JSON path) and hint.",
        exit_status: "0; 1 when there is an error, with --strict also when there is a warning.",
        examples: &[
            ("rundlet check /srv/web", "Look at a bundle before it is used:"),
            (
                "rundlet check --strict --json . | jq -r '.findings[].message'",
                "In a pipeline that builds bundles, fail on misspelt fields:",
            ),
        ],
    },
    Page {
        verb: "doctor",
        description: "Of the kernel: version, namespaces, seccomp, security modules, file systems. Of cgroups: version, controllers, delegation, systemd. Of the
caller: capabilities, user namespaces, subordinate ids, the state root, CRIU.

With --json there is an array of objects with the keys area, what, verdict, seen and fix.",
        exit_status: "0; 1 when something is broken.",
        examples: &[
            ("rundlet doctor", "Before the first container, or when none works any more:"),
            (
                "rundlet doctor --json | jq -r '.[] | select(.verdict != \"ok\") | .fix'",
                "What there is to do:",
            ),
        ],
    },
    Page {
        verb: "features",
        description: "",
        exit_status: "",
        examples: &[("rundlet features", "What this version supports, whatever the host:")],
    },
    Page {
        verb: "update",
        description: "\
The document of --resources has the form of linux.resources in config.json. Zero and an empty text are as if not given. The quota
and the period of the CPU, and the limits of memory and of memory with swap, reach the kernel in pairs: the half that is not
given is the one that the container has. Entries for a disk, a size of huge pages, a network interface or an RDMA device change
that entry alone.

If one value is refused, those that were set before it are set back, and the error says so. A lower memory limit takes memory
from the container: cgroup v1 refuses one that it can not reach, cgroup v2 kills. memory.checkBeforeUpdate in the document or in
config.json refuses a limit below the present use on both.

The new limits hold for what runs, for what exec starts later, and for a container that is created or paused.

A list devices in the document takes the place of the container's device rules, in one step: what old and new rules both allow is not denied for
a moment. The devices that every container has are allowed as before.

    {\"devices\": [{\"allow\": false, \"access\": \"rwm\"},
    {\"allow\": true, \"type\": \"c\", \"major\": 10, \"minor\": 229, \"access\": \"rwm\"}]}",
        exit_status: "",
        examples: &[
            ("rundlet update --memory 256m --memory-swap 512m web", "Other limits:"),
            (
                "rundlet update --resources fuse.json web",
                "Let a running container use /dev/fuse, and no other device beside the standard ones, with the document above:",
            ),
            (
                "rundlet update --resources - web <limits.json",
                "What engines call, with a document on standard input:",
            ),
        ],
    },
    Page {
        verb: "mounts",
        description: "\
The file has what mounts of config.json has, and the rules for that hold: a relative source is one of the bundle, a read-only bind mount
is never writable for a moment, a missing place to mount on is made (and stays), and no symbolic link of the container leads out of its
root. Options for id mappings are those of config.json, too. Of the file for remove only the destinations count, and only what add has made can
be removed; a mount that the container has unmounted itself is removed without a word.

Only bind mounts and tmpfs can be added; no other file system, no remount. Nothing can be mounted on /, /proc, /sys and /dev, over a
masked path, below /proc but on the files that lxcfs makes, or twice at one place. If one mount of the file fails, those before it are taken
away again; so they are if the command is killed before it has written down what it made. A container without a mount namespace of its
own, or of a caller who is not root, is refused.

In a container with a user namespace the place is made by its root, and a tmpfs belongs to it. What was added goes with the container;
update, pause, exec and the like do not change it. Landlock rules hold in it as they do for the place where it is. It has to be removed before a checkpoint, for the config.json of a
restore does not have it.",
        exit_status: "",
        examples: &[
            (
                "rundlet mounts add web mounts.json",
                "Add the mounts of a file, such as [{\"destination\": \"/data\", \"source\": \"/srv/data\", \"options\": [\"rbind\", \"ro\"]}]:",
            ),
            (
                "rundlet mounts add web - <scratch.json",
                "Add a tmpfs, with [{\"destination\": \"/scratch\", \"type\": \"tmpfs\", \"options\": [\"size=64m\"]}] on standard input:",
            ),
            (
                "rundlet mounts list web | rundlet mounts remove web -",
                "Remove all that was added:",
            ),
        ],
    },
    Page {
        verb: "checkpoint",
        description: "CRIU stops the processes of the container and writes them to the image directory, with their memory, open files and
sockets; with them go descriptors.json and CRIU's log dump.log, whose last errors are part of the error message. Not in the images: the
root file system, bind mounts, and network interfaces, which are there again or made by hooks when the container is restored. CRIU reads
the configuration file that the annotation org.criu.config names, else /etc/criu/runc.conf.

A container that joined the host's mounts, that has an id-mapped mount, Landlock rules or a mount of rundlet mounts, or whose root is an overlay made by --overlay cannot be saved;
nor can one with a mount whose destination has a bracket or a colon.",
        exit_status: "",
        examples: &[
            (
                "rundlet checkpoint --image-path /var/tmp/web web",
                "Save a container and remove it:",
            ),
            (
                "rundlet checkpoint --pre-dump --image-path /var/tmp/web/1 web\nrundlet checkpoint --parent-path ../1 --image-path /var/tmp/web/2 web",
                "Save most of the memory while the container runs, then the rest:",
            ),
        ],
    },
    Page {
        verb: "restore",
        description: "The bundle is the one of the checkpoint, or its like: the same mounts by destination, the same namespaces. The sources of mounts,
cgroup, limits, device rules and hooks are those of its config.json. Before a process runs again its namespaces, id mappings and the
attributes of its mounts are compared with the config, and what does not fit ends the restore. Of the hooks prestart and
createRuntime are run, when the namespaces are made. CRIU's log is restore.log in the work directory.

Pipes that were the container's standard streams become those of the caller.",
        exit_status: "In the foreground the exit code of the container's process, or 128 plus the number of the signal that ended it. Detached 0.
1 after an error, which is printed on standard error in one line.",
        examples: &[(
            "rundlet restore --detach --bundle /srv/web --image-path /var/tmp/web web",
            "Let a saved container go on:",
        )],
    },
    Page {
        verb: "help",
        description: "",
        exit_status: "",
        examples: &[("rundlet help exec", "The options of exec:")],
    },
];
