//! Which engines are installed, and what each needs to use this runtime here. Called by the parent module.

use std::path::{Path, PathBuf};

use super::{Area, Context, text};

struct Engine {
    name: &'static str,
    program: &'static str,
    /// Where a runtime is named.
    config: &'static [&'static str],
    /// How to use rundlet with it.
    how: &'static str,
}

const ENGINES: [Engine; 6] = [
    Engine {
        name: "docker",
        program: "dockerd",
        config: &["/etc/docker/daemon.json"],
        how: "{\"runtimes\": {\"rundlet\": {\"path\": \"/usr/local/sbin/rundlet\"}}} in /etc/docker/daemon.json, then docker run --runtime rundlet",
    },
    Engine {
        name: "containerd",
        program: "containerd",
        config: &["/etc/containerd/config.toml"],
        how: "a runtime of type io.containerd.runc.v2 with options.BinaryName in /etc/containerd/config.toml, or ctr run --runc-binary",
    },
    Engine {
        name: "podman",
        program: "podman",
        config: &[
            "/etc/containers/containers.conf",
            "/usr/share/containers/containers.conf",
        ],
        how: "podman --runtime PATH, or runtimes.rundlet in /etc/containers/containers.conf",
    },
    Engine {
        name: "buildah",
        program: "buildah",
        config: &["/etc/containers/containers.conf"],
        how: "buildah --runtime PATH run, or BUILDAH_RUNTIME",
    },
    Engine {
        name: "cri-o",
        program: "crio",
        config: &["/etc/crio/crio.conf"],
        how: "crio.runtime.runtimes.rundlet with runtime_path in /etc/crio/crio.conf.d",
    },
    Engine {
        name: "conmon",
        program: "conmon",
        config: &[],
        how: "conmon --runtime PATH",
    },
];

pub(super) fn look(_: &Context, area: &mut Area<'_>) {
    let systemd = Path::new("/run/systemd/system").is_dir();
    for engine in &ENGINES {
        let Some(program) = find(engine.program) else {
            continue;
        };
        let texts: Vec<String> = engine
            .config
            .iter()
            .map(|file| without_comments(&text(file)))
            .collect();
        let named = texts.iter().any(|text| text.contains("rundlet"));
        let wants_systemd = texts.iter().any(|text| {
            text.contains("native.cgroupdriver=systemd")
                || text.contains("SystemdCgroup = true")
                || text.contains("cgroup_manager = \"systemd\"")
        });
        if wants_systemd && !systemd {
            area.limited(
                engine.name,
                format!(
                    "`{}` is set to the systemd cgroup driver, and systemd does not run",
                    program.display()
                ),
                "set its driver to cgroupfs",
            );
        } else if named || engine.config.is_empty() {
            area.ok(engine.name, format!("`{}`", program.display()));
        } else {
            area.limited(
                engine.name,
                format!("`{}` does not know rundlet", program.display()),
                engine.how,
            );
        }
    }
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// In the places of packages; nothing is run.
fn find(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
}
