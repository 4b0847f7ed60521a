# shellcheck shell=bash
# The guest's root file system: a Debian with the packages of packages.list, and in it a small Debian image whose init is
# systemd, for the engines. Sourced by `vm`.

image_key=$(cat "$here"/host/{packages.list,image.sh} "$here"/host/guest/* <(echo "$suite,$extra") | sha256sum | cut -c1-12)
image=$cache/image-$image_key.ext4
ssh_key=$cache/image-$image_key.key
image_size=16G   # sparse

build_image() {
    [ ! -s "$image" ] || return 0
    local begin=$SECONDS packages root=$cache/image-root log=$cache/image-build.log
    packages=$(grep -v '^#' "$here/host/packages.list" | tr -s ' \n' ',')
    say "image: Debian $suite"
    rm -rf --one-file-system "$root" "$ssh_key" "$ssh_key.pub"
    ssh-keygen -q -t ed25519 -N '' -C rundlet -f "$ssh_key"
    again 2 install_root "$packages$extra" "$root" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        die "the image cannot be built; all of it is in $log"
    }
    # Nothing has to be brought up to date at the first boot, neither in the guest nor in what the tests boot in containers.
    touch "$root/etc/.updated" "$root/var/.updated"
    pack_systemd_image "$root"
    configure_root "$root"
    mke2fs -q -F -t ext4 -O ^has_journal -L rundlet -d "$root" "$image.new" "$image_size" >&2
    rm -rf "$root"
    mv "$image.new" "$image"
    say "image: built in $((SECONDS - begin)) s"
}

# Recommended packages would bring half a desktop. The clock of a build machine may be off, so dates are not checked. In a mount
# namespace: mmdebstrap mounts /proc, /sys and devices of the host into the new root, which must not outlive it.
install_root() {
    rm -rf --one-file-system "$2"
    unshare --mount --propagation private mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$1" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
        --dpkgopt=path-exclude='/usr/share/man/*' --dpkgopt=path-exclude='/usr/share/doc/*' \
        --dpkgopt=path-exclude='/usr/share/locale/*' --dpkgopt=path-exclude='/usr/share/bash-completion/*' \
        "$suite" "$2" "$(mirror)"
}

# The packages as they were unpacked, less the engines: a Debian whose init is systemd, without a second download. The unit
# links of what is left out dangle, which systemd takes as "not there".
pack_systemd_image() {
    local root=$1 package left_out=$1/tmp/left-out
    for package in docker.io docker-cli containerd podman crun runc conmon netavark aardvark-dns catatonit openssh-server \
        openssh-client passt slirp4netns fuse-overlayfs systemd-container strace jq python3.13-minimal libpython3.13-minimal \
        udev perl-base apparmor iptables nftables gpgv apt; do
        cat "$root/var/lib/dpkg/info/$package.list" "$root/var/lib/dpkg/info/$package:"*.list 2>/dev/null || true
    done | while read -r path; do
        # Only files: a folder may belong to other packages as well.
        [ -d "$root$path" ] && [ ! -L "$root$path" ] || echo ".$path"
    done >"$left_out"
    mkdir -p "$root/var/lib/rundlet"
    tar -C "$root" -cf "$root/var/lib/rundlet/debian-systemd.tar" --anchored --no-wildcards --exclude-from="$left_out" \
        --exclude=./var/lib/rundlet --exclude=./var/cache --exclude=./var/lib/apt --exclude=./tmp --exclude=./dev \
        --exclude=./usr/share/zoneinfo --exclude=./usr/lib/udev/hwdb.bin .
    rm -f "$left_out"
}

configure_root() {
    local root=$1 units=$1/etc/systemd/system user unit
    echo rundlet >"$root/etc/hostname"
    printf '127.0.0.1 localhost rundlet\n::1 localhost\n' >"$root/etc/hosts"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    : >"$root/etc/fstab"
    rm -f "$root/etc/resolv.conf" "$root/usr/sbin/policy-rc.d"
    echo 'nameserver 10.0.2.2' >"$root/etc/resolv.conf"
    mkdir -p "$root/mnt/share" "$root/etc/docker" "$root/var/lib/systemd/linger"
    install -D -m 644 "$here/host/guest/network" "$root/etc/systemd/network/10-rundlet.network"
    install -D -m 644 "$here/host/guest/sshd" "$root/etc/ssh/sshd_config.d/rundlet.conf"
    # User managers get every controller that there is, not only cpu, memory and pids.
    install -D -m 644 "$here/host/guest/user-service" "$units/user@.service.d/rundlet.conf"
    install -m 755 "$here/host/guest/make-bundle" "$root/usr/local/bin/make-bundle"

    # root, and tester (1000) with subordinate ids and a user manager that runs without a login.
    chroot "$root" useradd -m -u 1000 -s /bin/bash tester
    touch "$root/var/lib/systemd/linger/tester"
    for user in subuid subgid; do
        grep -q ^tester: "$root/etc/$user" || echo tester:100000:65536 >>"$root/etc/$user"
    done
    for user in root home/tester; do
        install -D -m 600 "$ssh_key.pub" "$root/$user/.ssh/authorized_keys"
        chmod 700 "$root/$user/.ssh"
    done
    chown -R 1000:1000 "$root/home/tester/.ssh"
    rm -f "$root"/etc/ssh/ssh_host_*
    ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"

    # Little is started at boot: docker and containerd start on docker's socket or by hand.
    chroot "$root" systemctl -q enable systemd-networkd.service ssh.service docker.socket 2>/dev/null
    chroot "$root" systemctl -q disable docker.service containerd.service 2>/dev/null
    # wait-online would hold docker for two minutes; the rest is of no use to a guest that lives for minutes.
    for unit in systemd-networkd-wait-online.service apt-daily{,-upgrade}.timer dpkg-db-backup.timer fstrim.timer \
        systemd-firstboot.service sshd-keygen.service systemd-pstore.service systemd-hwdb-update.service apparmor.service \
        systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service netavark-dhcp-proxy.socket netavark-dhcp-proxy.service \
        netavark-firewalld-reload.service podman{,-restart,-clean-transient,-auto-update}.service podman-auto-update.timer; do
        ln -sfn /dev/null "$units/$unit"
    done
    chroot "$root" systemctl -q set-default multi-user.target 2>/dev/null
}
