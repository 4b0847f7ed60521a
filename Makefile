# rundlet: build, test, install. `make help` lists the targets.

CARGO  ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET ?= $(shell uname -m)-unknown-linux-musl
MANDIR  = $(PREFIX)/share/man/man8
BASH_COMPLETIONS = $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS  = $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS = $(PREFIX)/share/fish/vendor_completions.d
STATIC  = target/$(TARGET)/release/rundlet
# The commit that `rundlet --version` prints.
export RUNDLET_COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
# The time in packages: the commit's, so that the same commit gives the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# No path of the machine that builds gets into the binary: crates, this directory, the standard library's sources.
REMAP = --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/rundlet \
    --remap-path-prefix=$(shell rustc --print sysroot)/lib/rustlib/src/rust=/rustc

# What starts often starts quickly: relative relocations take a fiftieth of the bytes; on x86_64 the program begins with what
# src/sys/start.rs says; and the functions that run in every command lie together (tests/tools/gen-order.py), told apart by
# names that have their types in them.
LINK = -C symbol-mangling-version=v0 -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,-T,$(CURDIR)/.cargo/order.ld $(ENTRY-$(TARGET))
ENTRY-x86_64-unknown-linux-musl = -C link-arg=-Wl,-e,rundlet_start

.DEFAULT_GOAL := help
.PHONY: help build static check test test-root test-unit test-vm conformance conformance-own conformance-docker conformance-engines newcomer bench bench-readme budget demand demo man install uninstall deb test-deb reproducible deny clean packages target workloads advisories prove-security fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary as cargo builds it by default (dynamic, for development)
	$(CARGO) build --release

target: # the musl standard library, of which no Debian package exists
	@[ -d "$$(rustc --print target-libdir --target $(TARGET))" ] || rustup target add $(TARGET)

static: target ## the static binary that is shipped: target/ARCH-unknown-linux-musl/release/rundlet
	RUSTFLAGS="$(strip $(REMAP) $(LINK)) $(RUSTFLAGS)" $(CARGO) build --locked --release --target $(TARGET)
	@ldd $(STATIC) 2>&1 | grep -qE 'statically linked|not a dynamic executable' || { echo "$(STATIC) is not static" >&2; exit 1; }

check: ## format, lints, layers, README: everything that needs no root
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --test layers --test style --test readme --test security

packages: # what tests and demo need beside the Rust toolchain; nothing is done where all is there
	@tests/packages.sh

test: packages static ## unit tests, then tests of the static binary as root on this kernel
	RUNDLET_TEST_RUNTIME=$(CURDIR)/$(STATIC) tests/all.sh

test-unit: ## unit tests alone (those that need root say so and are skipped)
	$(CARGO) test --bins

test-root: static ## tests of the static binary alone
	RUNDLET_TEST_RUNTIME=$(CURDIR)/$(STATIC) $(CARGO) test --test root

SECONDS ?= 60
fuzz: ## fuzz everything that parses, coverage-guided, for SECONDS (default 60) in all; TARGETS="config seccomp" alone
	FUZZ_SECONDS=$(SECONDS) TARGETS="$(TARGETS)" tests/fuzz/run.sh

PARTS ?=
test-vm: static ## the root tests, docker, containerd and podman in a guest with systemd and cgroup v2 alone; PARTS="docker podman:pause" runs these
	RUNDLET_TEST_RUNTIME=$${RUNDLET_TEST_RUNTIME:-$(CURDIR)/$(STATIC)} tests/vm/suite.sh $(PARTS)

RUNTIME ?= $(CURDIR)/$(STATIC)
conformance: $(if $(filter $(CURDIR)/$(STATIC),$(RUNTIME)),static) ## the OCI runtime-tools suite, compared with what is expected; RUNTIME=/usr/sbin/runc for another
	conformance/runtime-tools/run.py $(RUNTIME)

conformance-own: $(if $(filter $(CURDIR)/$(STATIC),$(RUNTIME)),static) ## the root tests on any runtime: what does not hold there must be explained; RUNTIME=/usr/sbin/runc
	conformance/own/run.py $(RUNTIME)

conformance-docker: packages static ## every docker command on runc and on rundlet, compared
	conformance/docker/run.py /usr/sbin/runc $(CURDIR)/$(STATIC)

ENGINES ?=
conformance-engines: static ## operations of containerd, its CRI, Podman, Buildah, Compose ... on runc and on rundlet; writes the matrix; ENGINES="podman ctr" runs these
	@tests/packages.sh engines
	conformance/engines/run.py $(if $(ENGINES),,--write) /usr/sbin/runc $(CURDIR)/$(STATIC) $(ENGINES)

newcomer: ## walk the commands of README.md in a clean Debian (root, mmdebstrap, the network); FLAGS=--all for `make test` as well
	conformance/newcomer.py $(FLAGS)

workloads: packages static ## databases, web servers, a registry, a Compose file below docker, on runc and on rundlet; FLAGS=--write for the table
	conformance/workloads/run.py $(FLAGS) /usr/sbin/runc $(CURDIR)/$(STATIC)

bench: packages static ## compare with runc, crun and the least that the kernel must do; FLAGS="--n 50 --gap 100 --cases run,life"
	conformance/bench/bench.py $(FLAGS) $(CURDIR)/$(STATIC)

bench-readme: packages static ## the same, written to README.md and conformance/bench/plot.svg
	conformance/bench/bench.py --write $(FLAGS) $(CURDIR)/$(STATIC)

budget: static ## write tests/budget.txt, which `make test` holds calls, memory and size to, anew
	RUNDLET_WRITE_BUDGET=1 RUNDLET_TEST_RUNTIME=$(CURDIR)/$(STATIC) $(CARGO) test --test root -- budget

demand: packages static ## what users of runc and crun complain of, shown on them and on rundlet (a host with cgroup v1); writes conformance/demand.md
	conformance/demand/run.py --write $(CURDIR)/$(STATIC)

demo: packages static ## run a container and show what it sees, then its life step by step
	tests/demo.sh $(STATIC)

man: ## man pages and shell completions anew, from the command line's definitions
	RUNDLET_WRITE_DOCS=1 $(CARGO) test --bins cli::docs

install: static ## the static binary, man pages and completions below $(DESTDIR)$(PREFIX)
	install -D -m 0755 $(STATIC) $(DESTDIR)$(PREFIX)/bin/rundlet
	install -d $(DESTDIR)$(MANDIR) $(DESTDIR)$(BASH_COMPLETIONS) $(DESTDIR)$(ZSH_COMPLETIONS) $(DESTDIR)$(FISH_COMPLETIONS)
	install -m 0644 man/*.8 $(DESTDIR)$(MANDIR)/
	install -m 0644 man/completions/rundlet.bash $(DESTDIR)$(BASH_COMPLETIONS)/rundlet
	install -m 0644 man/completions/_rundlet $(DESTDIR)$(ZSH_COMPLETIONS)/
	install -m 0644 man/completions/rundlet.fish $(DESTDIR)$(FISH_COMPLETIONS)/

uninstall: ## take them away again
	rm -f $(DESTDIR)$(PREFIX)/bin/rundlet $(addprefix $(DESTDIR)$(MANDIR)/,$(notdir $(wildcard man/*.8)))
	rm -f $(DESTDIR)$(BASH_COMPLETIONS)/rundlet $(DESTDIR)$(ZSH_COMPLETIONS)/_rundlet $(DESTDIR)$(FISH_COMPLETIONS)/rundlet.fish

deb: static ## a Debian package of it: target/debian/rundlet_VERSION_ARCH.deb
	.packaging/deb.py $(TARGET) target/debian

test-deb: ## install, use and purge that package in a clean Debian (root; fetches it from DEBIAN_MIRROR)
	.packaging/test-deb.sh target/debian/*.deb

reproducible: ## prove that two builds, in two directories and homes, give the same binary and package (two release builds)
	.packaging/reproducible.sh $(TARGET)

deny: ## licences, sources and duplicates of the crates, by cargo-deny (`cargo install --locked cargo-deny`)
	$(CARGO) deny --offline --locked --config .cargo/deny.toml check licenses bans sources

advisories: ## known vulnerabilities of the crates in Cargo.lock, by osv.dev (network)
	.ci/advisories.py

prove-security: packages ## take the code of each security requirement out and see its tests fail (root; all of them: FLAGS=--all)
	conformance/security/prove.py $(FLAGS)

clean: ## remove what was built
	$(CARGO) clean
