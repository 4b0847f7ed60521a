"""Volumes, bind mounts, tmpfs, propagation, read-only roots, cp, commit, diff."""

import io
import os
import subprocess
import tarfile

import normalise
from harness import case


def mountinfo_of(point):
    return f"grep ' {point} ' /proc/self/mountinfo"


@case("storage")
def read_only(c):
    c.sh("touch /x; touch /dev/shm/x && echo shm; touch /tmp/x && echo tmp", "--read-only", "--tmpfs", "/tmp", err="Read-only", has=["shm", "tmp"])


@case("storage")
def tmpfs(c):
    c.sh(mountinfo_of("/scratch") + "; stat -c '%a %u' /scratch; dd if=/dev/zero of=/scratch/f bs=64k count=32 2>&1 | tail -1",
         "--tmpfs", "/scratch:rw,noexec,size=1m,mode=1770", norm=lambda v: normalise.mountinfo(v).replace("MB/s", ""), has="noexec", code=None)


@case("storage")
def tmpfs_over_image_folder(c):
    c.sh("ls -a /srv/data; stat -c %a /srv/data", "--tmpfs", "/srv/data")


@case("storage")
def tmpfs_by_mount(c):
    c.sh(mountinfo_of("/t"), "--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1700", norm=normalise.mountinfo, has="size=2048k")


@case("storage")
def bind(c):
    folder = c.folder("shared")
    c.write("shared/in", "from outside\n")
    c.sh("cat /s/in; echo inside > /s/out; stat -c '%u %a' /s", "-v", folder + ":/s", has="from outside")
    with open(folder + "/out", encoding="utf-8") as f:
        c.note("written inside", f.read(), "inside\n")
    os.unlink(folder + "/out")


@case("storage")
def bind_read_only(c):
    folder = c.folder("shared")
    c.sh("touch /s/x; " + mountinfo_of("/s"), "-v", folder + ":/s:ro", err="Read-only", norm=normalise.mountinfo)


@case("storage")
def bind_read_only_submounts(c):
    # The kernel's flag holds for the top alone; what docker asks for, both runtimes must do alike.
    folder = c.folder("tree/sub")
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        c.sh("touch /s/x; touch /s/sub/x && echo sub is writable; " + mountinfo_of("/s.*"), "-v", c.path("tree") + ":/s:ro",
             norm=normalise.mountinfo, code=None)
        c.sh("ls /s/sub; " + mountinfo_of("/s.*"), "--mount", f"type=bind,src={c.path('tree')},dst=/s,bind-nonrecursive=true",
             norm=normalise.mountinfo, code=None)
    finally:
        subprocess.run(["umount", folder], check=True)


@case("storage")
def bind_keeps_flags(c):
    # A source with nosuid,nodev,noexec: the remount for `ro` may keep or drop these flags.
    folder = c.folder("strict")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,noatime", "none", folder], check=True)
    try:
        c.sh(mountinfo_of("/s"), "-v", folder + ":/s:ro", norm=normalise.mountinfo)
        c.sh(mountinfo_of("/s"), "-v", folder + ":/s", has="noexec", norm=normalise.mountinfo)
    finally:
        subprocess.run(["umount", folder], check=True)


@case("storage")
def bind_file(c):
    path = c.write("one-file", "alone\n")
    c.sh("cat /etc/one-file; echo more >> /etc/one-file; cat /made/here", "-v", path + ":/etc/one-file", "-v", path + ":/made/here:ro",
         has="^alone\nalone\nmore$")


@case("storage")
def bind_missing(c):
    c.rm("--mount", "type=bind,src=/no/such/folder,dst=/x", "--", "true", code=125)


@case("storage")
def bind_file_on_folder(c):
    path = c.write("one-file", "alone\n")
    c.rm("-v", path + ":/etc", "--", "true", code=(125, 127))


@case("storage")
def bind_folder_on_file(c):
    c.rm("-v", c.folder("shared") + ":/plain", "--", "true", code=(125, 127))


@case("storage")
def bind_over_proc(c):
    folder = c.folder("shared")
    c.rm("-v", folder + ":/proc", "--", "true", code=None)
    c.rm("-v", folder + ":/proc/sys", "--", "true", code=None)
    c.rm("--tmpfs", "/proc/fs", "--", "true", code=None)


@case("storage")
def bind_proc_file(c):
    path = c.write("cpuinfo", "faked\n")
    c.sh("cat /proc/cpuinfo", "-v", path + ":/proc/cpuinfo:ro", has="faked")


@case("storage")
def bind_through_links(c):
    # Links of the image end inside of it, also those that climb out.
    folder = c.folder("shared")
    c.sh("ls /srv/new; cat /etc/passwd | wc -l; ls -d /etc/new2", "-v", folder + ":/link-to-srv/new", "-v", folder + ":/link-out/new2",
         has="^/etc/new2$")
    c.note("host untouched", os.path.exists("/etc/new2"), False)


@case("storage")
def bind_device(c):
    c.sh("ls -l /tmp/z; head -c 3 /tmp/z | wc -c", "-v", "/dev/zero:/tmp/z", norm=normalise.listing, has="^3$")


@case("storage")
def bind_order(c):
    a, b = c.folder("a"), c.folder("b")
    c.folder("a/inner")
    c.write("b/f", "of b\n")
    c.sh("cat /m/inner/f", "-v", b + ":/m/inner", "-v", a + ":/m", has="of b")


@case("storage")
def bind_root_of_host(c):
    c.sh("test -e /host/etc/passwd && test -d /host/proc && echo host", "-v", "/:/host:ro", has="host")


@case("storage")
def propagation(c):
    shared = c.folder("propagate")
    subprocess.run(["mount", "-t", "tmpfs", "none", shared], check=True)
    subprocess.run(["mount", "--make-shared", shared], check=True)
    try:
        for mode in ("private", "rprivate", "slave", "rslave", "shared", "rshared"):
            c.sh(mountinfo_of("/p"), "--mount", f"type=bind,src={shared},dst=/p,bind-propagation={mode}", norm=normalise.mountinfo, has=" /p ")
    finally:
        subprocess.run(["umount", shared], check=True)


@case("storage")
def propagation_works(c):
    shared = c.folder("propagate")
    subprocess.run(["mount", "-t", "tmpfs", "none", shared], check=True)
    subprocess.run(["mount", "--make-shared", shared], check=True)
    try:
        for mode, seen in (("rslave", True), ("rprivate", False), ("rshared", True)):
            c.sleeper(mode, "--cap-add", "SYS_ADMIN", "-v", f"{shared}:/p:{mode}")
            os.mkdir(shared + "/late")
            subprocess.run(["mount", "-t", "tmpfs", "none", shared + "/late"], check=True)
            open(shared + "/late/file", "w", encoding="utf-8").close()
            c.d("exec", mode, "ls", "/p/late", has="file" if seen else None)
            subprocess.run(["umount", shared + "/late"], check=True)
            os.rmdir(shared + "/late")
            c.d("exec", mode, "sh", "-c", "mkdir /p/up && mount -t tmpfs none /p/up && touch /p/up/file")
            c.note(f"{mode}: mounted inside is seen outside", os.path.exists(shared + "/up/file"), mode == "rshared")
            c.d("exec", mode, "sh", "-c", "umount /p/up; rmdir /p/up", code=None)
            c.d("rm", "-f", mode)
    finally:
        subprocess.run(["umount", "-R", "-l", shared], check=False)


@case("storage")
def propagation_of_private_source(c):
    folder = c.folder("plainfolder")
    c.rm("-v", folder + ":/p:rshared", "--", "true", code=None)


@case("storage")
def volume_named(c):
    c.d("volume", "create", "vol1")
    c.sh("cat /srv/data/file; echo kept > /srv/data/new", "-v", "vol1:/srv/data", has="from the image")
    c.sh("cat /v/new; ls /v", "-v", "vol1:/v:ro", has="^kept$")
    c.sh("ls -A /v", "--mount", "type=volume,src=vol1,dst=/v,volume-nocopy", has="new")
    c.d("volume", "rm", "vol1")


@case("storage")
def volume_anonymous(c):
    c.run("--name", "one", "-v", "/anon", "busybox", "touch", "/anon/x")
    c.d("inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}", "one", has="^volume /anon true$")
    c.d("rm", "-v", "one")


@case("storage")
def volumes_from(c):
    c.run("--name", "one", "-v", "/data", "busybox", "sh", "-c", "echo of one > /data/x")
    c.sh("cat /data/x; echo y > /data/y", "--volumes-from", "one", has="of one")
    c.sh("cat /data/y; touch /data/z", "--volumes-from", "one:ro", has="^y$", err="Read-only", code=1)
    c.d("rm", "-v", "one")


@case("storage")
def volume_of_tmpfs(c):
    c.d("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=1000", "tv")
    c.sh(mountinfo_of("/v") + "; stat -c %u /v", "-v", "tv:/v", has="^1000$", norm=normalise.mountinfo)
    c.d("volume", "rm", "tv")


@case("storage")
def shm_size(c):
    c.sh(mountinfo_of("/dev/shm"), "--shm-size", "1m", has="size=1024k", norm=normalise.mountinfo)


@case("storage")
def copy_in_and_out(c):
    c.sleeper("one")
    source = c.write("copy/a", "copied\n", 0o640)
    c.write("copy/sub/b", "below\n")
    c.d("cp", source, "one:/tmp/a")
    c.d("cp", c.path("copy"), "one:/tmp/dir")
    c.d("exec", "one", "sh", "-c", "cat /tmp/a /tmp/dir/sub/b; stat -c '%a %u' /tmp/a", has="^copied\nbelow\n640 0$")
    c.d("exec", "one", "sh", "-c", "echo back > /tmp/back; ln -s /etc/passwd /tmp/link")
    c.d("cp", "one:/tmp/back", c.path("back"))
    with open(c.path("back"), encoding="utf-8") as f:
        c.note("copied out", f.read(), "back\n")
    c.d("cp", "-L", "one:/tmp/link", c.path("passwd"))
    c.d("cp", "one:/no/such", c.path("none"), code=1)


@case("storage")
def copy_streams(c):
    c.d("create", "--name", "one", "--network", "none", "busybox", "cat", "/srv/data/late")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("late")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"late\n"))
    c.d("cp", "-", "one:/srv/data", stdin=data.getvalue())
    c.d("start", "-a", "one", has="^late$")
    c.d("cp", "one:/srv/data/late", "-", norm=lambda v: v[:4], has="late")


@case("storage")
def copy_into_volume_while_running(c):
    c.sleeper("one", "-v", "cv:/v", "--tmpfs", "/t")
    c.d("cp", c.write("copy/a", "copied\n"), "one:/v/a")
    c.d("exec", "one", "cat", "/v/a", has="copied")
    c.d("rm", "-f", "one")
    c.d("volume", "rm", "cv")


@case("storage")
def commit(c):
    c.run("--name", "one", "busybox", "sh", "-c", "echo new > /committed; rm /plain")
    c.d("commit", "-c", "CMD [\"cat\", \"/committed\"]", "-c", "ENV MADE=yes", "one", "committed")
    c.run("--rm", "committed", has="^new$")
    c.run("--rm", "committed", "sh", "-c", "echo $MADE; ls /plain", has="yes", code=1)
    c.d("rmi", "-f", "committed", record=False)


@case("storage")
def commit_running(c):
    c.sleeper("one")
    c.d("exec", "one", "sh", "-c", "echo live > /live")
    c.d("commit", "one", "committed2")
    c.inspect("one", "{{.State.Status}}", has="running")
    c.run("--rm", "committed2", "cat", "/live", has="live")
    c.d("rmi", "-f", "committed2", record=False)


@case("storage")
def diff(c):
    c.run("--name", "one", "busybox", "sh", "-c", "echo a > /srv/data/added; rm /plain; echo x >> /etc/group")
    c.d("diff", "one", norm=normalise.lines_sorted, has=["^A /srv/data/added$", "^D /plain$", "^C /etc/group$"])


@case("storage")
def export(c):
    c.run("--name", "one", "busybox", "touch", "/exported")
    path = c.path("export.tar")
    c.d("export", "-o", path, "one")
    with tarfile.open(path) as tar:
        names = sorted(n for n in tar.getnames() if not n.startswith("bin/"))
    c.note("names in the export", "\n".join(names))
    c.want("exported" in names, "the new file is in the export")


@case("storage")
def made_by_runtime(c):
    """Mount points that the runtime made in the writable layer stay; nothing else of it does."""
    c.run("--name", "one", "-v", c.folder("shared") + ":/new/place", "--tmpfs", "/other", "busybox", "true")
    c.d("diff", "one", norm=normalise.lines_sorted)
    c.d("rm", "one")
