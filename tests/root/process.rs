//! config.json's `process`: user, environment, directory, limits, capabilities, program.

use serde_json::{Value, json};

use crate::support::{Cx, tests};

tests! {
    host user_and_group;
    host additional_groups;
    host no_groups_are_kept;
    host umask;
    host umask_by_default;
    host environment_is_exact;
    host environment_later_wins;
    host home_is_filled_in;
    host home_is_kept_if_given;
    host home_survives_a_hostile_passwd = "runc 1.1.5 takes an empty uid in passwd for 0";
    host working_directory;
    host working_directory_is_made;
    host working_directory_of_a_user;
    host working_directory_through_a_link_stays_inside;
    host program_is_looked_up_in_path;
    host program_relative_to_the_directory;
    host arguments_arrive_unchanged;
    host resource_limits;
    host every_limit_name_is_known;
    host many_arguments_and_variables;
    host hostname_and_domainname = "runc 1.1.5 does not know domainname";
    host unknown_fields_are_ignored;
}

pub(crate) fn status_line(name: &str) -> String {
    format!("grep ^{name} /proc/self/status | tr -d '\\t '")
}

fn user_and_group(cx: &Cx) {
    cx.sh("id -u; id -g", |b| {
        b.set("/process/user", json!({"uid": 1234, "gid": 5678}))
    })
    .prints("1234\n5678");
}

fn additional_groups(cx: &Cx) {
    cx.sh("id -G", |b| {
        b.set(
            "/process/user",
            json!({"uid": 1000, "gid": 10, "additionalGids": [20, 30, 4_000_000]}),
        )
    })
    .prints("10 20 30 4000000");
}

fn no_groups_are_kept(cx: &Cx) {
    // U3: the caller's groups go, also when the list is absent.
    let bundle = cx.script(&status_line("Groups"));
    bundle.write();
    cx.host(&format!(
        "exec setpriv --groups 7,8 {} --root {} run --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("Groups:");
}

fn umask(cx: &Cx) {
    cx.sh("umask; touch /mnt/f; stat -c %a /mnt/f", |b| {
        b.set("/process/user/umask", json!(0o27))
    })
    .prints("0027\n640");
}

fn umask_by_default(cx: &Cx) {
    let bundle = cx.script("umask");
    bundle.write();
    cx.host(&format!(
        "umask 077; exec {} --root {} run --bundle {} {}",
        cx.runtime.display(),
        cx.root().display(),
        bundle.path.display(),
        bundle.id
    ))
    .ok()
    .prints("0022");
}

fn environment_is_exact(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/bin/env"]);
    bundle.set(
        "/process/env",
        json!([
            "A=1",
            "B=two words",
            "C=",
            "HOME=/h",
            "D=a=b",
            "E=\u{e4}\"\n!"
        ]),
    );
    bundle.write();
    let mut command = cx.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    command.env("FROM_THE_HOST", "1");
    let output = cx.spawn(command).wait().ok();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    let mut wanted = [
        "A=1",
        "B=two words",
        "C=",
        "HOME=/h",
        "D=a=b",
        "E=\u{e4}\"",
        "!",
    ];
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}

fn environment_later_wins(cx: &Cx) {
    let output = cx.sh("echo $TWICE", |b| {
        b.push("/process/env", json!("TWICE=1"));
        b.push("/process/env", json!("TWICE=2"));
    });
    output.prints("2");
}

fn home_is_filled_in(cx: &Cx) {
    cx.sh("echo $HOME", |_| ()).prints("/root");
    let mut bundle = cx.named_bundle("d");
    bundle.sh("echo $HOME");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    cx.run(&bundle).ok().prints("/home/guest");
    bundle.set("/process/user", json!({"uid": 77, "gid": 77}));
    cx.run(&bundle).ok().prints("/");
}

fn home_is_kept_if_given(cx: &Cx) {
    cx.sh("echo $HOME", |b| {
        b.push("/process/env", json!("HOME=/given"))
    })
    .prints("/given");
}

fn home_survives_a_hostile_passwd(cx: &Cx) {
    // U1: a fifo must not block, garbage must not fail.
    let bundle = cx.script("echo $HOME");
    let passwd = bundle.rootfs().join("etc/passwd");
    std::fs::write(&passwd, b"\xff\xfe\x00:::\nroot\n:::::::::\n").unwrap();
    cx.run(&bundle).ok().prints("/");
    std::fs::remove_file(&passwd).unwrap();
    cx.run(&bundle).ok().prints("/");
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    cx.run(&bundle).ok().prints("/");
}

fn working_directory(cx: &Cx) {
    cx.sh("pwd", |b| b.set("/process/cwd", json!("/tmp")))
        .prints("/tmp");
}

fn working_directory_is_made(cx: &Cx) {
    cx.sh("pwd; stat -c '%a %u' /mnt/a /mnt/a/b", |b| {
        b.set("/process/cwd", json!("/mnt/a/b"))
    })
    .prints("/mnt/a/b\n755 0\n755 0");
}

fn working_directory_of_a_user(cx: &Cx) {
    // Root may not enter it without DAC_OVERRIDE, its owner may; and the other way round.
    let mut bundle = cx.script("pwd");
    let dir = bundle.rootfs().join("mnt/own");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.set("/process/cwd", json!("/mnt/own"));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    cx.run(&bundle).ok().prints("/mnt/own");
}

fn working_directory_through_a_link_stays_inside(cx: &Cx) {
    // W3: the name is only resolved inside.
    let mut bundle = cx.script("pwd; cat /proc/self/mountinfo >/dev/null; ls /");
    let outside = cx.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("link")).unwrap();
    bundle.set("/process/cwd", json!("/link/made"));
    let _ = cx.run(&bundle);
    assert!(
        !outside.join("made").exists(),
        "a directory was made on the host"
    );
}

fn program_is_looked_up_in_path(cx: &Cx) {
    let mut bundle = cx.bundle();
    let own = bundle.rootfs().join("mnt/own");
    std::fs::write(&own, "#!/bin/sh\necho found $0\n").unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/env", json!(["PATH=/nowhere:/mnt:/bin"]));
    bundle.args(&["own"]);
    cx.run(&bundle).ok().prints("found /mnt/own");
}

fn program_relative_to_the_directory(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/cwd", json!("/bin"));
    bundle.args(&["./busybox", "echo", "relative"]);
    cx.run(&bundle).ok().prints("relative");
}

fn arguments_arrive_unchanged(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&[
        "sh",
        "-c",
        "for a; do echo \"[$a]\"; done",
        "sh",
        "",
        " ",
        "-x",
        "a\"b",
        "$HOME",
        "\u{fc}",
    ]);
    cx.run(&bundle)
        .ok()
        .prints("[]\n[ ]\n[-x]\n[a\"b]\n[$HOME]\n[\u{fc}]");
}

fn resource_limits(cx: &Cx) {
    let output = cx.sh("cat /proc/self/limits", |b| {
        b.set(
            "/process/rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_FSIZE", "soft": 1_000_000, "hard": 2_000_000},
                {"type": "RLIMIT_STACK", "soft": 4_000_000, "hard": 8_000_000}
            ]),
        );
    });
    for (name, soft, hard) in [
        ("Max open files", "100", "200"),
        ("Max core file size", "0", "0"),
        ("Max file size", "1000000", "2000000"),
        ("Max stack size", "4000000", "8000000"),
    ] {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [soft, hard], "{name}");
    }
}

fn every_limit_name_is_known(cx: &Cx) {
    let limits =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert!(limits.1 >= 64);
    // Each to what it is: never more than the host's own limit, which may not be raised here.
    let names = [
        ("AS", "Max address space"),
        ("CORE", "Max core file size"),
        ("CPU", "Max cpu time"),
        ("DATA", "Max data size"),
        ("FSIZE", "Max file size"),
        ("LOCKS", "Max file locks"),
        ("MEMLOCK", "Max locked memory"),
        ("MSGQUEUE", "Max msgqueue size"),
        ("NICE", "Max nice priority"),
        ("NOFILE", "Max open files"),
        ("NPROC", "Max processes"),
        ("RSS", "Max resident set"),
        ("RTPRIO", "Max realtime priority"),
        ("RTTIME", "Max realtime timeout"),
        ("SIGPENDING", "Max pending signals"),
        ("STACK", "Max stack size"),
    ];
    let table = std::fs::read_to_string("/proc/self/limits").unwrap();
    let rlimits: Vec<Value> = names
        .iter()
        .map(|(name, label)| {
            let line = table.lines().find_map(|line| line.strip_prefix(label)).unwrap();
            let number = |word: &str| if word == "unlimited" { u64::MAX } else { word.parse().unwrap() };
            let words: Vec<&str> = line.split_whitespace().collect();
            json!({"type": format!("RLIMIT_{name}"), "soft": number(words[0]), "hard": number(words[1])})
        })
        .collect();
    let output = cx.sh("cat /proc/self/limits", |b| {
        b.set("/process/rlimits", json!(rlimits))
    });
    assert_eq!(output.stdout, table);
}

fn many_arguments_and_variables(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mut args = vec![
        "sh".to_owned(),
        "-c".to_owned(),
        "echo $#; env | grep -c ^VAR_".to_owned(),
        "sh".to_owned(),
    ];
    args.extend((0..5000).map(|number| format!("argument-{number}")));
    bundle.set("/process/args", json!(args));
    let mut env = vec!["PATH=/bin".to_owned()];
    env.extend((0..3000).map(|number| format!("VAR_{number}={number}")));
    bundle.set("/process/env", json!(env));
    cx.run(&bundle).ok().prints("5000\n3000");
}

fn hostname_and_domainname(cx: &Cx) {
    cx.sh("hostname; cat /proc/sys/kernel/domainname", |b| {
        b.config["hostname"] = json!("my-host");
        b.config["domainname"] = json!("my.domain");
    })
    .prints("my-host\nmy.domain");
}

fn unknown_fields_are_ignored(cx: &Cx) {
    cx.sh("echo fine", |b| {
        b.config["vendor"] = json!({"x": 1});
        b.config["process"]["novelty"] = json!([1, 2]);
        b.config["linux"]["novelty"] = json!(true);
        b.config["windows"] = json!({"layerFolders": ["C:\\x"]});
        b.config["vm"] = json!({"kernel": {"path": "/k"}});
    })
    .prints("fine");
}
