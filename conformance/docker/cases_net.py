"""Networks and shared namespaces."""

import os
import time
import urllib.request

import normalise
from harness import case


def namespace(kind, pid="self"):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@case("net")
def bridge(c):
    c.sh("ip addr; ip route; cat /etc/resolv.conf; cat /etc/hosts", "--hostname", "box", net="bridge", norm=normalise.addresses, has="10\\.231\\.1\\.")


@case("net")
def none(c):
    c.sh("ip addr; ip route; ping -c 1 -W 2 127.0.0.1 | grep received", norm=normalise.addresses, has="1 packets received")


@case("net")
def host(c):
    out = c.sh("readlink /proc/self/ns/net; ", net="host", record=False).out.strip()
    c.note("network namespace is the host's", out == namespace("net"), True)
    c.sh("hostname; ip -4 addr show lo; ls /sys/class/net | grep -c lo", net="host", norm=normalise.addresses)


@case("net")
def container(c):
    c.sleeper("one", net="bridge")
    c.sh("ip -4 addr show eth0; hostname > /dev/null; readlink /proc/self/ns/net > /dev/null", net="container:one", norm=normalise.addresses, has="inet 10")
    inside = c.sh("readlink /proc/self/ns/net", net="container:one", record=False).out.strip()
    c.note("same namespace as the other", inside == namespace("net", c.host_pid("one")), True)


@case("net")
def ping_between(c):
    c.sleeper("one", net="bridge")
    address = c.inspect("one", "{{.NetworkSettings.IPAddress}}").out.strip()
    c.sh(f"ping -c 1 -W 5 {address} | grep received", net="bridge", has="1 packets received")


@case("net")
def published_port(c):
    c.run("-d", "--name", "one", "-p", "127.0.0.1:18080:80", "busybox", "sh", "-c",
          "mkdir /www; echo it answers > /www/index.html; exec httpd -f -p 80 -h /www", net="bridge")
    answer, end = "", time.monotonic() + 10
    while time.monotonic() < end and not answer:
        try:
            with urllib.request.urlopen("http://127.0.0.1:18080/", timeout=2) as reply:
                answer = reply.read().decode()
        except OSError:
            time.sleep(0.1)
    c.note("answer", answer, "it answers\n")
    c.d("port", "one", has="80/tcp -> 127.0.0.1:18080")
    c.d("port", "one", "80", has="127.0.0.1:18080")


@case("net")
def mac_address(c):
    c.sh("ip link show eth0", "--mac-address", "02:42:aa:bb:cc:dd", net="bridge", norm=normalise.addresses, has="02:42:aa:bb:cc:dd")


@case("net")
def dns_and_hosts(c):
    c.sh("cat /etc/resolv.conf /etc/hosts", "--dns", "192.0.2.53", "--dns-search", "lab.test", "--dns-option", "ndots:2",
         "--add-host", "other:192.0.2.7", "--hostname", "box", net="bridge", has=["nameserver 192.0.2.53", "192.0.2.7\\s+other"])


@case("net")
def own_network(c):
    c.d("network", "create", "--subnet", "10.232.0.0/24", "own")
    try:
        c.sleeper("one", "--ip", "10.232.0.77", "--network-alias", "friend", net="own")
        c.sh("ping -c 1 -W 5 friend | head -1; ip -4 addr show eth0; cat /etc/resolv.conf", net="own", norm=normalise.addresses, has="10.232.0.77")
        c.d("rm", "-f", "one")
    finally:
        c.d("network", "rm", "own")


@case("net")
def connect_while_running(c):
    c.d("network", "create", "--subnet", "10.233.0.0/24", "second")
    try:
        c.sleeper("one", net="bridge")
        c.d("network", "connect", "second", "one")
        c.d("exec", "one", "ip", "-4", "addr", norm=normalise.addresses, has="10\\.233\\.0\\.")
        c.d("network", "disconnect", "second", "one")
        c.d("rm", "-f", "one")
    finally:
        c.d("network", "rm", "second")


@case("net")
def sysctl_per_network(c):
    c.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/disable_ipv6", "--sysctl", "net.ipv4.ip_forward=0", net="bridge", has="^0$")


@case("namespaces")
def ipc_host(c):
    out = c.sh("readlink /proc/self/ns/ipc", "--ipc", "host", record=False).out.strip()
    c.note("ipc namespace is the host's", out == namespace("ipc"), True)


@case("namespaces")
def ipc_shared(c):
    c.sleeper("one", "--ipc", "shareable")
    c.d("exec", "one", "sh", "-c", "echo shared > /dev/shm/file")
    c.sh("cat /dev/shm/file", "--ipc", "container:one", has="shared")
    out = c.sh("readlink /proc/self/ns/ipc", "--ipc", "container:one", record=False).out.strip()
    c.note("same ipc namespace", out == namespace("ipc", c.host_pid("one")), True)


@case("namespaces")
def ipc_private_refused(c):
    c.sleeper("one", "--ipc", "private")
    c.sh("true", "--ipc", "container:one", code=125)
    c.sh("grep -c ' /dev/shm ' /proc/mounts", "--ipc", "none", code=None)


@case("namespaces")
def pid_host(c):
    out = c.sh("readlink /proc/self/ns/pid; [ -e /proc/self/root ] && ps | grep -c dockerd >/dev/null && echo sees", "--pid", "host", record=False).out
    c.note("pid namespace is the host's", out.split()[0] == namespace("pid"), True)
    c.note("sees the daemon", "sees" in out, True)


@case("namespaces")
def pid_host_leaves_nothing(c):
    # Without a pid namespace the children outlive process one: the runtime must kill the whole cgroup.
    c.sh("sleep 7654 >/dev/null 2>&1 & sleep 7654 >/dev/null 2>&1 & exit 3", "--pid", "host", code=3)
    c.sleeper("one", "--pid", "host")
    c.d("exec", "-d", "one", "sleep", "7654")
    c.d("rm", "-f", "one")
    end, left = time.monotonic() + 5, True
    while left and time.monotonic() < end:
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if b"sleep\x007654" in f.read():
                        left.append(pid)
            except OSError:
                pass
        time.sleep(0.05)
    c.note("processes left", len(left), 0)


@case("namespaces")
def pid_container(c):
    c.run("-d", "--name", "one", "busybox", "sleep", "4321")
    c.sh("ps -o args | grep -c '[s]leep 4321'; cat /proc/1/comm", "--pid", "container:one", has="^1$")
    c.run("-d", "--name", "two", "--pid", "container:one", "busybox", "sleep", "4322")
    c.d("kill", "two")
    c.d("wait", "two", has="137")
    c.inspect("one", "{{.State.Running}}", has="true")


@case("namespaces")
def uts_host(c):
    c.sh("hostname", "--uts", "host", has="^sandbox$", net="none")


@case("namespaces")
def userns_host(c):
    c.sh("cat /proc/self/uid_map", "--userns", "host", has="0 +0 +4294967295")
