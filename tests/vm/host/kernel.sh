# shellcheck shell=bash
# The guest's kernel: user-mode Linux from Debian's kernel source, with the configuration of kernel.config. Sourced by `vm`.

kernel=$cache/kernel-$(cat "$here/host/kernel.sh" "$here/host/kernel.config" <(echo "$kernel_suite") | sha256sum | cut -c1-12)

build_kernel() {
    [ ! -x "$kernel" ] || return 0
    local begin=$SECONDS source=$cache/kernel-source package option log=$cache/kernel-build.log
    package=$(depends_on "$kernel_suite" linux-source linux-source-)
    say "kernel: $package of $kernel_suite"
    rm -rf --one-file-system "$source"
    unpack_package "$kernel_suite" "$package" "$source"
    # Without the code of drivers that user-mode Linux cannot have; their Kconfig files are read all the same.
    tar -C "$source" --strip-components=1 -xf "$source/usr/src/$package.tar.xz" --exclude="$package/Documentation/*/*" \
        --exclude="$package/drivers/gpu/*.[ch]" --exclude="$package/drivers/net/*/*.[ch]" --exclude="$package/sound/*.[ch]" \
        --exclude="$package/tools/testing/*" || die "the source of the kernel cannot be unpacked"
    rm -rf "$source/usr/src" "$source/usr/share"
    cd "$source"
    # cpuset asks for SMP, with which user-mode Linux is several times slower. Its code needs it in these lines only.
    sed -i '/^config CPUSETS$/,/^config/ s/^\tdepends on SMP$//' init/Kconfig
    sed -i 's/^#ifdef CONFIG_SMP$/#if 1/' kernel/cgroup/cpuset.c
    export ARCH=um SUBARCH=x86_64
    {
        make -s allnoconfig KCONFIG_ALLCONFIG="$here/host/kernel.config" && make -s -j"$(nproc)" linux
    } >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        die "the kernel cannot be built; all of it is in $log"
    }
    # An option that the source no longer has under this name is dropped without a word.
    while read -r option; do
        grep -qxF "$option" .config || say "kernel: $option has no effect"
    done < <(grep '^CONFIG_.*=y$' "$here/host/kernel.config")
    for option in CPUSETS MEMCG CGROUP_BPF CGROUP_PIDS BLK_CGROUP SECCOMP_FILTER OVERLAY_FS NF_TABLES_IPV4; do
        grep -qx "CONFIG_$option=y" .config || die "the kernel lacks $option"
    done
    strip -o "$kernel.new" linux
    cd "$cache"
    rm -rf "$source"
    mv "$kernel.new" "$kernel"
    say "kernel: built in $((SECONDS - begin)) s"
}
