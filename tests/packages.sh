#!/bin/sh
# Installs the Debian packages that `make test` and `make demo` need and that are missing here. Needs root and apt only if
# something is missing.
set -eu

missing=
need() { # need FILE PACKAGE: FILE is a path, or a program looked for in PATH
    case $1 in
        /*) [ -e "$1" ] || missing="$missing $2" ;;
        *) command -v "$1" >/dev/null 2>&1 || missing="$missing $2" ;;
    esac
}

need /bin/busybox busybox-static
need unshare util-linux
need cc gcc
need /usr/include/stdio.h libc6-dev
need ps procps
need strace strace
need python3 python3-minimal
need /usr/include/seccomp.h libseccomp-dev
# packages.sh engines: what conformance/engines drives, too.
if [ "${1:-}" = engines ]; then
    need containerd containerd
    need dockerd docker.io
    need podman podman
    need conmon conmon
    need buildah buildah
    need newuidmap uidmap
    need iptables iptables
    need ip iproute2
    need runc runc
    need /usr/lib/cni/bridge containernetworking-plugins
    need /usr/lib/python3/dist-packages/grpc python3-grpcio
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages:$missing (install them as root)" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
