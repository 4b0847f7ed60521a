#!/bin/sh
# Builds the OCI runtime-tools validation suite from Debian packages alone: usage build.sh DIRECTORY (as root).
# DIRECTORY then holds runtimetest, rootfs-ARCH.tar.gz and t/ with a program each. The suite is in no binary package, so its
# source comes from the Debian source package, which apt checks against the signed index; Go and the libraries are the host's
# own packages; the one library that Debian lacks, a TAP printer, is tap/tap.go beside this file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/t"
out=$(cd "$1" && pwd)
source=golang-github-opencontainers-runtime-tools
sha256=203989a1ea98cf2aaced79155bbda09270b20db19b03376dde91ab12e5e6a0fe
suite=trixie
packages="golang-go xz-utils golang-github-blang-semver-dev golang-github-google-uuid-dev
    golang-github-hashicorp-go-multierror-dev golang-github-mrunalp-fileutils-dev golang-github-opencontainers-selinux-dev
    golang-github-opencontainers-specs-dev golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev
    golang-github-xeipuuv-gojsonschema-dev golang-gocapability-dev golang-golang-x-sys-dev"
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT

# shellcheck disable=SC2086 # a list of words
if ! dpkg -s $packages >/dev/null 2>&1; then
    echo "installing Go and the libraries of the suite"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null
fi

# A source list of our own, at the address that the host's packages come from.
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | grep -v security | head -n 1)
[ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
mirror=${RUNDLET_MIRROR:-${mirror:-http://deb.debian.org/debian}}
mkdir -p "$w/parts" "$w/lists/partial" "$w/cache/archives/partial" "$w/src"
cat >"$w/parts/src.sources" <<EOF
Types: deb-src
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
cat >"$w/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$w/parts";
Dir::State::lists "$w/lists";
Dir::Cache "$w/cache";
APT::Sandbox::User "root";
EOF
(
    cd "$w/src"
    export APT_CONFIG="$w/apt.conf"
    apt-get -qq update
    apt-get -qq --tar-only --download-only source "$source"
)
tarball=$(ls "$w"/src/*.orig.tar.xz)
echo "$sha256  $tarball" | sha256sum -c --quiet

# The suite and the TAP printer come before Debian's libraries.
go_path=$w/gopath/src/github.com
mkdir -p "$go_path/opencontainers/runtime-tools" "$go_path/mndrix/tap-go"
tar -xf "$tarball" --strip-components=1 -C "$go_path/opencontainers/runtime-tools"
cp "$here/tap/tap.go" "$go_path/mndrix/tap-go/"
export GO111MODULE=off GOPATH="$w/gopath:/usr/share/gocode" GOCACHE="$w/gocache" GOFLAGS='' CGO_ENABLED=0
cd "$go_path/opencontainers/runtime-tools"
# From 1.19 on a Go program raises its own limit of open files when it starts, and the checker inside of the container would
# report its own doing as the runtime's: it is built without that file.
printf '{"Replace": {"%s/src/os/rlimit.go": ""}}\n' "$(go env GOROOT)" >"$w/overlay.json"
go build -overlay "$w/overlay.json" -o "$out/" ./cmd/runtimetest
# shellcheck disable=SC2046 # a list of directories
go build -o "$out/t/" $(find validation -mindepth 1 -maxdepth 1 -type d ! -name util | sed 's,^,./,')
cp rootfs-*.tar.gz "$out/"
echo "built $(find "$out/t" -type f | wc -l) programs"
