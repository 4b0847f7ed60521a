# shellcheck shell=bash
# Debian packages: what the host needs to build and boot the guest, and single packages of another suite, without a change to
# the host's apt configuration. Sourced by `vm`.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The Debian mirror that this machine's apt uses.
mirror() {
    apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
        awk '$2 == "Debian" && $3 == "Debian" && !found {found = $1} END {print found; exit !found}' ||
        die "apt of this machine knows no Debian mirror (is apt-get update possible?)"
}

# again N COMMAND...: a mirror that fails once is asked again.
again() {
    local left=$1 wait=5
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        say "failed, once more in $wait s: $*"
        sleep "$wait"
        wait=$((wait * 3))
    done
}

host_packages() {
    local missing=() file package
    while read -r file package; do
        command -v "$file" >/dev/null || [ -e "$file" ] || missing+=("$package")
    done <<'LIST'
gcc build-essential
make build-essential
flex flex
bison bison
bc bc
xz xz-utils
mmdebstrap mmdebstrap
mke2fs e2fsprogs
ssh openssh-client
ssh-keygen openssh-client
ip iproute2
flock util-linux
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
LIST
    # `mirror` needs lists of packages, too.
    [ ${#missing[@]} != 0 ] || [ -z "$(mirror 2>/dev/null)" ] || return 0
    say "installing ${missing[*]:-nothing, but reading the lists of packages}"
    export DEBIAN_FRONTEND=noninteractive
    again 3 apt-get -qq update >&2 || die "apt-get update fails"
    [ ${#missing[@]} != 0 ] || return 0
    local log=$cache/apt.log
    again 2 apt-get -qq -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1 || {
        tail "$log" >&2
        die "cannot install ${missing[*]}"
    }
}

# apt_at SUITE COMMAND...: apt-get or apt-cache on that suite alone, with lists of its own.
apt_at() {
    local dir=$cache/apt/$1 suite=$1 options
    shift
    options=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists"
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
    if [ -z "$(find "$dir/updated" -mmin -720 2>/dev/null)" ]; then
        mkdir -p "$dir/lists/partial"
        echo "deb [signed-by=$keyring] $(mirror) $suite main" >"$dir/sources.list"
        again 3 apt-get "${options[@]}" -qq update >&2 || die "apt-get update of $suite fails"
        touch "$dir/updated"
    fi
    "$1" "${options[@]}" "${@:2}"
}

# The package that a meta package of a suite stands for: depends_on SUITE META PREFIX
depends_on() {
    apt_at "$1" apt-cache depends "$2" |
        awk -v prefix="$3" '$1 == "Depends:" && index($2, prefix) == 1 && !found {found = $2} END {print found; exit !found}' ||
        die "Debian's $1 has no $2"
}

# unpack_package SUITE PACKAGE DIR
unpack_package() {
    local dir
    dir=$(mktemp -d "$cache/package.XXXXXX")
    (cd "$dir" && again 3 apt_at "$1" apt-get -qq download "$2" >&2) || die "cannot download $2"
    mkdir -p "$3"
    dpkg -x "$dir"/*.deb "$3"
    rm -rf "$dir"
}
