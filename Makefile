# rundlet: build, test, install. `make help` lists the targets.

CARGO  ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET ?= $(shell uname -m)-unknown-linux-musl
STATIC  = target/$(TARGET)/release/rundlet
# The commit that `rundlet --version` prints.
export RUNDLET_COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.DEFAULT_GOAL := help
.PHONY: help build static check test test-root test-unit test-vm conformance-docker demo install uninstall clean packages target

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary as cargo builds it by default (dynamic, for development)
	$(CARGO) build --release

target: # the musl standard library, of which no Debian package exists
	@[ -d "$$(rustc --print target-libdir --target $(TARGET))" ] || rustup target add $(TARGET)

static: target ## the static binary that is shipped: target/ARCH-unknown-linux-musl/release/rundlet
	$(CARGO) build --release --target $(TARGET)
	@ldd $(STATIC) 2>&1 | grep -qE 'statically linked|not a dynamic executable' || { echo "$(STATIC) is not static" >&2; exit 1; }

check: ## format, lints, layers: everything that needs no root
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --test layers

packages: # what tests and demo need beside the Rust toolchain; nothing is done where all is there
	@tests/packages.sh

test: packages static ## unit tests, then tests of the static binary as root on this kernel
	RUNDLET_TEST_RUNTIME=$(CURDIR)/$(STATIC) tests/all.sh

test-unit: ## unit tests alone (those that need root say so and are skipped)
	$(CARGO) test --bins

test-root: static ## tests of the static binary alone
	RUNDLET_TEST_RUNTIME=$(CURDIR)/$(STATIC) $(CARGO) test --test root

PARTS ?=
test-vm: static ## the root tests, docker, containerd and podman in a guest with systemd and cgroup v2 alone; PARTS="docker podman:pause" runs these
	tests/vm/suite.sh $(PARTS)

conformance-docker: packages static ## every docker command on runc and on rundlet, compared
	conformance/docker/run.py /usr/sbin/runc $(CURDIR)/$(STATIC)

demo: packages static ## run a container and show what it sees, then its life step by step
	tests/demo.sh $(STATIC)

install: static ## the static binary into $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 $(STATIC) $(DESTDIR)$(PREFIX)/bin/rundlet

uninstall: ## take it away again
	rm -f $(DESTDIR)$(PREFIX)/bin/rundlet

clean: ## remove what was built
	$(CARGO) clean
