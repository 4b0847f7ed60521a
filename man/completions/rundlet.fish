# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rundlet_global_optspecs
    string join \n root= log= log-format= debug systemd-cgroup rootless= timings= timings-format= v/version
end

function __fish_rundlet_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rundlet_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rundlet_using_subcommand
    set -l cmd (__fish_rundlet_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rundlet -n "__fish_rundlet_needs_command" -l root -d 'directory of the state of containers (default: /run/rundlet, or $XDG_RUNTIME_DIR/rundlet for a user who is not root)' -r -F
complete -c rundlet -n "__fish_rundlet_needs_command" -l log -d 'file to append the log to (default: standard error)' -r -F
complete -c rundlet -n "__fish_rundlet_needs_command" -l log-format -d 'format of the log: text (default) or json' -r
complete -c rundlet -n "__fish_rundlet_needs_command" -l rootless -d 'ignore permission errors of the cgroup file system: true, false or auto (default)' -r
complete -c rundlet -n "__fish_rundlet_needs_command" -l timings -d 'file to write to where the time of the command went (default: $RUNDLET_TIMINGS, else none)' -r -F
complete -c rundlet -n "__fish_rundlet_needs_command" -l timings-format -d 'format of that file: json, or chrome for trace events (default: chrome for a name that ends in `.trace`)' -r
complete -c rundlet -n "__fish_rundlet_needs_command" -l debug -d 'log debug messages too'
complete -c rundlet -n "__fish_rundlet_needs_command" -l systemd-cgroup -d 'let systemd make the cgroup (linux.cgroupsPath: slice:prefix:name)'
complete -c rundlet -n "__fish_rundlet_needs_command" -s v -l version -d 'print the version'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "create" -d 'create a container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "start" -d 'start the process of a created container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "run" -d 'create and start a container, and wait for its end'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "exec" -d 'run one more process in a running container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "state" -d 'print the state of a container as JSON'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "list" -d 'list the containers below the state root'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "ps" -d 'list the processes in a container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "events" -d 'print statistics and OOM kills of a container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "top" -d 'watch what containers use: CPU, memory, processes, I/O, pressure'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "kill" -d 'send a signal (default: SIGTERM) to a container\'s process'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "pause" -d 'freeze all processes of a container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "resume" -d 'thaw all processes of a paused container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "delete" -d 'remove a stopped container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "spec" -d 'write a config.json to start from'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "check" -d 'look for mistakes in a bundle, and for what this host lacks'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "doctor" -d 'tell what this host lacks for containers, and what to do about it'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "features" -d 'print what this version supports as JSON'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "update" -d 'change the resource limits of a container'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "mounts" -d 'give mounts to a running container, or take them away again'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "checkpoint" -d 'save a running container to files'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "restore" -d 'make a container again from a checkpoint'
complete -c rundlet -n "__fish_rundlet_needs_command" -f -a "help" -d 'print help on rundlet or on a verb'
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -s b -l bundle -d 'directory of the bundle (default: the current directory)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -s f -l config -d 'name of the configuration file, below the bundle unless absolute (default: config.json)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l console-socket -d 'path of the AF_UNIX socket that receives the master end of the console\'s terminal' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l pidfd-socket -d 'path of the AF_UNIX socket that receives a pidfd of the container\'s process' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l pid-file -d 'file to write the process id to' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l preserve-fds -d 'pass N more descriptors to the container (standard streams + $LISTEN_FDS + N in all)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l overlay-upper -d 'write to a layer above the root file system that stays in DIR' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l format -d 'form of what --dry-run prints: text or json' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l no-pivot -d 'do not use pivot_root (for a root file system on top of a ramdisk)'
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l no-new-keyring -d 'keep the caller\'s session keyring instead of a new one'
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l overlay -d 'write to a layer above the root file system that goes away with the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand create" -l dry-run -d 'make nothing, but print what would be done, in its order'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -s b -l bundle -d 'directory of the bundle (default: the current directory)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -s f -l config -d 'name of the configuration file, below the bundle unless absolute (default: config.json)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l console-socket -d 'path of the AF_UNIX socket that receives the master end of the console\'s terminal' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l pidfd-socket -d 'path of the AF_UNIX socket that receives a pidfd of the container\'s process' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l pid-file -d 'file to write the process id to' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l preserve-fds -d 'pass N more descriptors to the container (standard streams + $LISTEN_FDS + N in all)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l overlay-upper -d 'write to a layer above the root file system that stays in DIR' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l no-pivot -d 'do not use pivot_root (for a root file system on top of a ramdisk)'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l no-new-keyring -d 'keep the caller\'s session keyring instead of a new one'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l overlay -d 'write to a layer above the root file system that goes away with the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -s d -l detach -d 'return when the process has started'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l keep -d 'keep the container when it has stopped'
complete -c rundlet -n "__fish_rundlet_using_subcommand run" -l no-subreaper -d 'do not adopt processes whose parent in the container has ended'
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s p -l process -d 'file with the whole process object (process.json)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l console-socket -d 'path of the AF_UNIX socket that receives the master end of the console\'s terminal' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l pidfd-socket -d 'path of the AF_UNIX socket that receives a pidfd of the process' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l pid-file -d 'file to write the process id to' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l cwd -d 'working directory in the container' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s e -l env -d 'set an environment variable' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s u -l user -d 'user and group, as numbers' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s g -l additional-gids -d 'one more group, as a number' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s c -l cap -d 'add a capability' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l preserve-fds -d 'pass N more descriptors to the process (standard streams + $LISTEN_FDS + N in all)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l cgroup -d 'run the process in an existing cgroup below the container\'s' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s d -l detach -d 'return when the process has started'
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -s t -l tty -d 'give the process a terminal'
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l no-new-privs -d 'the process can not gain privileges'
complete -c rundlet -n "__fish_rundlet_using_subcommand exec" -l ignore-paused -d 'run the process even if the container is paused (it waits for resume)'
complete -c rundlet -n "__fish_rundlet_using_subcommand list" -s f -l format -d 'table or json' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand list" -s q -l quiet -d 'print ids only'
complete -c rundlet -n "__fish_rundlet_using_subcommand ps" -s f -l format -d 'table or json' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand events" -l interval -d 'time between two lines of statistics, like 1m30s or 500ms' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand events" -l stats -d 'print the statistics once and exit'
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -s i -l interval -d 'time between two samples, like 500ms or 5s' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -s n -l count -d 'print so many tables one below the other, and exit' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -s f -l format -d 'table or json' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -s s -l sort -d 'id, cpu, memory, pids, io or pressure: greatest first, ids from a on' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -l once -d 'print one table and exit: --count 1'
complete -c rundlet -n "__fish_rundlet_using_subcommand top" -s a -l all -d 'stopped containers, too'
complete -c rundlet -n "__fish_rundlet_using_subcommand kill" -s a -l all -d 'obsolete: do not fail when the container is not running'
complete -c rundlet -n "__fish_rundlet_using_subcommand delete" -l timeout -d 'longest that all its waits last together, like 500ms or 1m' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand delete" -s f -l force -d 'kill the container first if it runs (SIGKILL)'
complete -c rundlet -n "__fish_rundlet_using_subcommand spec" -s b -l bundle -d 'directory of the bundle (default: the current directory)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand spec" -l rootless -d 'for a container that needs no privileges on the host'
complete -c rundlet -n "__fish_rundlet_using_subcommand check" -s f -l config -d 'name of the configuration file, below the bundle unless absolute (default: config.json)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand check" -l json -d 'print one JSON object instead of lines'
complete -c rundlet -n "__fish_rundlet_using_subcommand check" -l strict -d 'fail on warnings, too'
complete -c rundlet -n "__fish_rundlet_using_subcommand check" -l overlay -d 'as with create: write to a layer above the root file system'
complete -c rundlet -n "__fish_rundlet_using_subcommand doctor" -l json -d 'print one JSON array instead of lines'
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -s r -l resources -d 'file with what is to change, in the form of linux.resources; `-` is standard input. All other options but those of Intel RDT are ignored then' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l blkio-weight -d 'weight of block I/O, 10 to 1000' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-period -d 'period of the CPU quota in microseconds' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-quota -d 'CPU time in each period in microseconds, -1 for no limit' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-burst -d 'CPU time that may be saved up beyond the quota, in microseconds' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-share -d 'CPU shares, relative to other containers' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-rt-period -d 'period of realtime CPU time in microseconds (cgroup v1)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-rt-runtime -d 'realtime CPU time in each period in microseconds (cgroup v1)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpuset-cpus -d 'CPUs to use, as 0-2,7' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpuset-mems -d 'memory nodes to use, as 0-1' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l kernel-memory -d 'obsolete: ignored' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l kernel-memory-tcp -d 'obsolete: ignored' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l memory -d 'memory limit in bytes or with k, m, g; -1 for none' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l cpu-idle -d '1: run only when nothing else does; 0: as usual' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l memory-reservation -d 'memory that is kept for the container (soft limit)' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l memory-swap -d 'limit of memory and swap together; -1 for none' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l pids-limit -d 'most processes and threads in the container; -1 for no limit' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l l3-cache-schema -d 'L3 cache schema of Intel RDT/CAT' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand update" -l mem-bw-schema -d 'memory bandwidth schema of Intel RDT/MBA' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l image-path -d 'directory of the images (default: ./checkpoint)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l work-path -d 'directory of CRIU\'s log and other files (default: that of the images)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l manage-cgroups-mode -d 'what becomes of cgroups below the container\'s: soft, full, strict or ignore' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l empty-ns -d 'make a namespace without restoring what is in it; NAMESPACE is network, which is always so' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l network-lock -d 'how CRIU keeps packets away meanwhile: iptables, nftables or skip' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l parent-path -d 'images of an earlier --pre-dump, relative to --image-path' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l status-fd -d 'descriptor that gets a null byte when --lazy-pages is ready' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l page-server -d 'send memory to this page server instead of the images' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l tcp-established -d 'allow established TCP connections'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l tcp-close -d 'close TCP connections'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l ext-unix-sk -d 'allow unix sockets with a peer outside of the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l shell-job -d 'allow processes of a session from outside of the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l file-locks -d 'keep file locks'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l auto-dedup -d 'drop pages from parent images that newer images have'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l lazy-pages -d 'restore memory when it is used, by userfaultfd'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l leave-running -d 'leave the container running'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l pre-dump -d 'save memory only and leave the container running, for a later checkpoint with --parent-path'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'leave TCP connections out that are not yet accepted'
complete -c rundlet -n "__fish_rundlet_using_subcommand checkpoint" -l link-remap -d 'keep files that are open and have no name any more by giving them one'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -s b -l bundle -d 'directory of the bundle (default: the current directory)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l image-path -d 'directory of the images (default: ./checkpoint)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l work-path -d 'directory of CRIU\'s log and other files (default: that of the images)' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l manage-cgroups-mode -d 'what becomes of cgroups below the container\'s: soft, full, strict or ignore' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l empty-ns -d 'make a namespace without restoring what is in it; NAMESPACE is network, which is always so' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l network-lock -d 'how CRIU keeps packets away meanwhile: iptables, nftables or skip' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l console-socket -d 'path of the AF_UNIX socket that receives the master end of the console\'s terminal' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l pid-file -d 'file to write the process id to' -r -F
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l lsm-profile -d 'LSM profile of the restored processes, as TYPE:NAME' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l lsm-mount-context -d 'SELinux context of the restored mounts' -r
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l tcp-established -d 'allow established TCP connections'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l tcp-close -d 'close TCP connections'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l ext-unix-sk -d 'allow unix sockets with a peer outside of the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l shell-job -d 'allow processes of a session from outside of the container'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l file-locks -d 'keep file locks'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l auto-dedup -d 'drop pages from parent images that newer images have'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l lazy-pages -d 'restore memory when it is used, by userfaultfd'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -s d -l detach -d 'return when the container runs again'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l no-subreaper -d 'do not adopt processes whose parent in the container has ended'
complete -c rundlet -n "__fish_rundlet_using_subcommand restore" -l no-pivot -d 'for callers of runc: CRIU always changes the root in its own way'
