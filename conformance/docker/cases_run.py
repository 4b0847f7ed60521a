"""docker run: the process, its terminal, environment, user, name, failures."""

import hashlib
import os
import signal
import time

import normalise
from harness import TYPED, case


@case("run")
def true(c):
    c.rm("--", "true")


@case("run")
def exit_code(c):
    c.sh("exit 42", code=42)


@case("run")
def killed_by_signal(c):
    # Process 1 is not killed by its own signal, so a child is.
    c.sh("sh -c 'kill -9 $$'; echo $?", has="^137$")


@case("run")
def output_and_errors(c):
    c.sh("echo out; echo err >&2", has="^out$", err="^err$")


@case("run")
def detached(c):
    c.run("-d", "--name", "one", "busybox", "sh", "-c", "echo started; exit 5")
    c.d("wait", "one", has="^5$")
    c.d("logs", "one", has="^started$")
    c.inspect("one", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", has="^exited 5 false")


@case("run")
def removed_at_the_end(c):
    c.run("--rm", "--name", "one", "busybox", "true")
    c.d("ps", "-a", "--format", "{{.Names}} {{.Status}}")


@case("run")
def standard_input(c):
    c.rm("-i", "--", "cat", stdin=b"one\ntwo\n", has="^two$")


@case("run")
def much_input(c):
    data = os.urandom(1 << 16) * 48
    c.rm("-i", "--", "md5sum", stdin=data, norm=lambda v: str(hashlib.md5(data).hexdigest() in v), has=hashlib.md5(data).hexdigest())


@case("run")
def much_output(c):
    c.sh("seq 1 200000", norm=lambda v: f"{len(v)} {hashlib.md5(v.encode()).hexdigest()}", has="^200000$")


@case("run")
def no_input(c):
    c.rm("--", "cat")


@case("run")
def terminal(c):
    c.terminal("run", "-it", "--rm", "--network", "none", "--hostname", "box", "busybox", *TYPED,
               talk=[("ready", "tty\n"), ("/dev/pts/0\r\nready", "echo $TERM; id -u\n"), ("xterm\r\n0\r\nready", "exit 9\n")], code=9)


@case("run")
def terminal_interactive_shell(c):
    c.terminal("run", "-it", "--rm", "--network", "none", "--hostname", "box", "busybox", "sh",
               talk=[("/ # ", "tty\n"), ("/dev/pts/0\r\n", "exit 8\n")], code=8,
               norm=lambda v: str("can't access tty" in v))


@case("run")
def terminal_size(c):
    c.terminal("run", "-it", "--rm", "--network", "none", "busybox", "sh", "-c",
               "n=0; while [ \"$(stty size)\" != '40 132' ] && [ $n -lt 50 ]; do n=$((n+1)); usleep 100000; done 2>/dev/null; stty size",
               has="^40 132$")


@case("run")
def terminal_resize(c):
    import fcntl
    import struct
    import termios

    def grow(fd):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
    c.terminal("run", "-it", "--rm", "--network", "none", "busybox", "sh", "-c",
               "until [ \"$(stty size)\" = '40 132' ]; do usleep 50000; done 2>/dev/null; trap '[ \"$(stty size)\" = \"50 100\" ] && stty size && exit 3' WINCH; echo ready; "
               "while :; do usleep 100000; done", talk=[("ready", grow)], has="^50 100$", code=3)


@case("run")
def terminal_interrupt(c):
    c.terminal("run", "-it", "--rm", "--network", "none", "busybox", "sh", "-c",
               "trap 'echo stopped; exit 6' INT; echo ready; while :; do usleep 50000; done",
               talk=[("ready", "\x03")], has="stopped", code=6)


@case("run")
def terminal_modes(c):
    c.terminal("run", "-t", "--rm", "--network", "none", "busybox", "sh", "-c",
               "until [ \"$(stty size)\" = '40 132' ]; do usleep 50000; done 2>/dev/null; stty -a | sed 's/rows [0-9]*; columns [0-9]*//'; ls -l /proc/self/fd/0 | sed 's/.*->//'", has="pts/0")


@case("run")
def terminal_as_user(c):
    c.terminal("run", "-t", "--rm", "--network", "none", "-u", "alice", "busybox", "sh", "-c",
               "ls -ln /dev/console /dev/pts/0; echo hi > /dev/pts/0; echo there >/dev/stdout; tty",
               norm=normalise.listing, has=["^hi$", "^there$"])


@case("run")
def detach_and_attach(c):
    c.terminal("run", "-it", "--name", "one", "--network", "none", "busybox", *TYPED,
               talk=[("ready", "echo first\n"), ("first\r\nready", "\x10\x11")], code=0)
    c.inspect("one", "{{.State.Running}}", has="true")
    c.terminal("attach", "one", talk=[("", "echo again\n"), ("again\r\n", "exit 4\n")], code=4, norm=lambda v: str("again" in v))


@case("run")
def standard_streams_reopen(c):
    c.sh("echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1", has=["one", "three"])


@case("run")
def standard_streams_reopen_as_user(c):
    c.sh("echo one > /dev/stdout; echo two > /dev/stderr", "-u", "1000:1000", has="one", err="two")


@case("run")
def environment(c):
    path = c.write("env.list", "FROM_FILE=a b\n# comment\nTWO=2\n")
    c.rm("-e", "A=1", "-e", "B=two words", "-e", "PATH=/bin", "--env-file", path, "--hostname", "box", "--", "sh", "-c", "env | sort",
         has=["^A=1$", "^B=two words$", "^FROM_FILE=a b$", "^PATH=/bin$"])


@case("run")
def working_folder(c):
    c.rm("-w", "/srv/data", "--", "pwd", has="^/srv/data$")
    c.rm("-w", "/made/on/the/way", "--", "sh", "-c", "pwd; stat -c '%a %u' .", has="^/made/on/the/way$")


@case("run")
def working_folder_of_other(c):
    # The folder may be closed to the user: docker lets root change into it first.
    c.rm("-w", "/root", "-u", "alice", "--", "pwd", code=None)


@case("run")
def working_folder_is_file(c):
    c.rm("-w", "/plain", "--", "pwd", code=125)


@case("run")
def user_name(c):
    c.rm("-u", "alice", "--", "id", has="uid=1000\\(alice\\) gid=1000\\(alice\\) groups=.*2000\\(crew\\)")


@case("run")
def user_number(c):
    c.rm("-u", "4321", "--", "id", has="uid=4321 gid=0")


@case("run")
def user_and_group(c):
    c.rm("-u", "1001:2001", "--", "id", has="uid=1001\\(bob\\) gid=2001\\(lab\\)")
    c.rm("-u", "bob:crew", "--", "id", has="gid=2000\\(crew\\)")


@case("run")
def group_add(c):
    c.rm("-u", "alice", "--group-add", "lab", "--group-add", "7777", "--", "id", has=["2001\\(lab\\)", "7777"])


@case("run")
def user_unknown(c):
    c.rm("-u", "nosuch", "--", "id", code=(125, 126))


@case("run")
def entrypoint(c):
    c.run("--rm", "--entrypoint", "/bin/hello", "busybox", "a", "b c", has="^hello a b c$")
    c.run("--rm", "--entrypoint", "", "busybox", "echo", "plain", has="^plain$")


@case("run")
def relative_program(c):
    c.rm("-w", "/bin", "--", "./hello", "you", has="^hello you$")
    c.rm("-w", "/", "--", "bin/hello", "me", has="^hello me$")


@case("run")
def hostname(c):
    c.sh("hostname; cat /etc/hostname; hostname -f", "--hostname", "some.name.test", has="^some.name.test$", code=None)


@case("run")
def domainname(c):
    c.sh("hostname; cat /proc/sys/kernel/domainname; dnsdomainname", "--hostname", "box", "--domainname", "lab.test",
         has="^lab.test$", code=None)


@case("run")
def program_missing(c):
    c.rm("--", "nosuchprogram", code=127)
    c.rm("--", "/no/such/program", code=127)
    c.rm("-e", "PATH=/nowhere", "--", "id", code=127)


@case("run")
def program_is_no_folder(c):
    c.rm("--", "/plain/x", code=(125, 126, 127))


@case("run")
def program_not_executable(c):
    c.rm("--", "/plain", code=126)
    c.rm("--", "/bin/noexec", code=126)


@case("run")
def program_not_executable_in_path(c):
    c.rm("--", "noexec", code=(126, 127))


@case("run")
def program_not_for_this_user(c):
    c.rm("-u", "alice", "--", "/bin/rootonly", code=126)


@case("run")
def program_is_a_folder(c):
    c.rm("--", "/etc", code=126)
    c.rm("--", "/", code=126)


@case("run")
def program_without_interpreter(c):
    c.rm("--", "/bin/badinterp", code=None, err="no such file or directory")


@case("run")
def program_without_format(c):
    c.rm("--", "/bin/noformat", code=None, err="exec format error")


@case("run")
def program_failed_is_removed(c):
    c.run("--name", "one", "busybox", "nosuch", code=127)
    c.inspect("one", "{{.State.Status}} {{.State.ExitCode}} {{ne .State.Error \"\"}}", has="^created 127 true")
    c.d("rm", "one")


@case("run")
def many_arguments(c):
    c.rm("--", "echo", *[f"argument-{i}" for i in range(2000)], norm=lambda v: str(len(v.split())), has="argument-1999$")


@case("run")
def odd_arguments(c):
    c.rm("--", "printf", "[%s]", "", " ", "a\nb", "\u00e4\u4e2d", "-x", "$HOME", "'\"\\", has="\u00e4\u4e2d")


@case("run")
def cidfile(c):
    path = c.path("cid")
    if os.path.exists(path):
        os.unlink(path)
    out = c.run("-d", "--cidfile", path, "busybox", "true").out.strip()
    with open(path, encoding="utf-8") as f:
        c.note("cidfile has the id", f.read() == out, True)


@case("run")
def label(c):
    c.run("--name", "one", "--label", "a=b", "--label", "empty", "busybox", "true")
    c.inspect("one", "{{.Config.Labels.a}}|{{.Config.Labels.empty}}", has="^b\\|")
    c.d("ps", "-a", "--filter", "label=a=b", "--format", "{{.Names}}", has="^one$")


@case("run")
def init(c):
    c.sh("cat /proc/1/comm; ls /sbin/docker-init", "--init", has="docker-init")


@case("run")
def init_reaps(c):
    c.run("-d", "--init", "--name", "one", "busybox", "sleep", "1000")
    c.d("exec", "one", "sh", "-c", "(sh -c 'sleep 0.1 &') ; usleep 400000; ps -o stat | grep -c Z", code=1, has="^0$")
    c.d("kill", "-s", "TERM", "one")
    c.d("wait", "one", has="^143$")


@case("run")
def signals_are_passed_on(c):
    p = c.start("run", "--rm", "--name", "one", "--network", "none", "busybox", "sh", "-c",
                "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do usleep 50000; done")
    c.until("ready", "logs", "one", record=False)
    p.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    p.send_signal(signal.SIGTERM)
    c.ended(p, code=9, has=["usr1", "term"])


@case("run")
def signal_state(c):
    # No signal may be blocked or ignored at the start of the program; no shell, for that ignores some itself.
    c.rm("--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", has=["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"])


@case("run")
def restart_on_failure(c):
    c.run("-d", "--name", "one", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 3")
    c.until("^exited 2 3$", "inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "one")
    c.d("logs", "one", has="run\nrun\nrun")


@case("run")
def restart_always(c):
    c.run("-d", "--name", "one", "--restart", "always", "busybox", "sh", "-c", "echo run; usleep 100000; exit 0")
    c.until("run\nrun\nrun", "logs", "one", record=False)
    c.d("rm", "-f", "one")


@case("run")
def stop_signal(c):
    c.run("-d", "--name", "one", "--stop-signal", "USR2", "busybox", "sh", "-c",
          "trap 'echo usr2; exit 12' USR2; echo ready; while :; do usleep 50000; done")
    c.until("ready", "logs", "one", record=False)
    c.d("stop", "one")
    c.d("logs", "one", has="usr2")
    c.inspect("one", "{{.State.ExitCode}}", has="^12$")


@case("run")
def stop_timeout(c):
    c.run("-d", "--name", "one", "--stop-timeout", "1", "busybox", "sh", "-c",
          "trap '' TERM; echo ready; while :; do usleep 50000; done")
    c.until("ready", "logs", "one", record=False)
    began = time.monotonic()
    c.d("stop", "one")
    c.note("stop took its second", 0.8 < time.monotonic() - began < 6, True)
    c.inspect("one", "{{.State.ExitCode}}", has="^137$")


@case("run")
def health(c):
    c.sleeper("one", "--health-cmd", "test ! -e /tmp/ill", "--health-interval", "300ms", "--health-retries", "1")
    c.until("^healthy$", "inspect", "-f", "{{.State.Health.Status}}", "one")
    c.d("exec", "one", "touch", "/tmp/ill")
    c.until("^unhealthy$", "inspect", "-f", "{{.State.Health.Status}}", "one")
    c.d("rm", "-f", "one")


@case("run")
def log_none(c):
    c.run("--name", "one", "--log-driver", "none", "busybox", "echo", "shown", has="shown")
    c.d("logs", "one", code=1)


@case("run")
def log_local(c):
    c.run("--name", "one", "--log-driver", "local", "busybox", "sh", "-c", "echo a; echo b >&2")
    c.d("logs", "one", has="a", err="b")


@case("run")
def log_json(c):
    c.run("--name", "one", "--log-driver", "json-file", "--log-opt", "max-size=1m", "busybox", "sh", "-c", "echo a; echo b >&2")
    c.d("logs", "--timestamps", "one", has="a")


@case("run")
def oom_score_adj(c):
    c.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "321", has="^321$")


@case("run")
def shell_script(c):
    c.rm("--", "hello", "world", has="^hello world$")


@case("run")
def explicit_runtime_name(c):
    c.sh("cat /proc/self/comm", "--runtime", "tested")
