# The front door: "make help" lists what it opens. cargo builds; the work of a target that needs more than
# a few lines is in the script that it names.
SHELL := /bin/bash
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.PHONY: help deps build test test-full bench demo lint install uninstall

PREFIX ?= /usr
DESTDIR ?=
CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
LIB := $(DESTDIR)$(PREFIX)/lib
ETC := $(DESTDIR)/etc/cartouche
DOC := $(DESTDIR)$(PREFIX)/share/doc/cartouche
SHELL_SCRIPTS = $(shell git grep -lE '^\#!/bin/(ba)?sh' -- ':!*.md')

help: ## List these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

deps: ## Install what building and testing need (apt or dnf; Rust comes from rustup)
	@.ci/deps

build: ## Build cartouched, cartouche and canary for use
	$(CARGO) build --release --locked --bins

test: ## Run every test but the long ones: on this host, and as root on kernels 6.1 and 6.12 in VMs
	tests/vm/suite

test-full: ## Run every test, and those of the VM harness
	tests/vm/selftest
	tests/vm/suite --full

bench: ## Count guest instructions and time from drop to enforcement
	@test -x tests/bench/run || { echo "make bench: tests/bench/run is not there" >&2; exit 1; }
	tests/bench/run

demo: deps build ## Confine two of Debian's programs, here if this kernel can, else in a VM
	tests/demo/run

lint: ## Check formats, clippy, BPF C and shell scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	clang-format --dry-run --Werror c-bpf/*.[ch] tests/bypass/*.[ch]
	if command -v shellcheck >/dev/null; then shellcheck -x $(SHELL_SCRIPTS); fi

install: ## Install what make build has built under DESTDIR; configuration that is there stays
	@test -e $(RELEASE)/cartouched || { echo "make install: run make build first" >&2; exit 1; }
	install -D -t $(DESTDIR)$(PREFIX)/sbin $(RELEASE)/cartouched
	install -D -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/cartouche
	install -D -m 700 -t $(DESTDIR)$(PREFIX)/libexec/cartouche $(RELEASE)/canary
	install -D -m 644 -t $(LIB)/cartouche/profiles.d policies/profiles/*.toml
	install -D -m 644 -t $(LIB)/systemd/system packaging/cartouched.service
	install -D -m 644 packaging/tmpfiles.conf $(LIB)/tmpfiles.d/cartouche.conf
	install -D -m 644 -t $(DOC) README.md CHANGELOG.md SECURITY.md LICENSE* docs/*.md tests/digest_reference.py
	install -D -m 644 -t $(DOC)/c-bpf c-bpf/LICENSE
	install -D -m 644 -t $(DOC)/schemas schemas/*.json
	install -D -m 644 -t $(DOC)/examples policies/examples/*.toml
	sed -i -e 's,\([[(]\)docs/,\1,g' -e 's,`tests/digest_reference,`digest_reference,' \
		-e 's,\[CONTRIBUTING.md\](CONTRIBUTING.md),CONTRIBUTING.md in the sources,' $(DOC)/*.md
	install -d $(LIB)/cartouche/policies.d $(ETC)/policies.d $(ETC)/cartouche.toml.d
	test -e $(ETC)/cartouche.toml || install -m 644 -t $(ETC) packaging/cartouche.toml
	test -e $(ETC)/scope.toml || install -m 644 -t $(ETC) policies/scope.toml

uninstall: ## Remove what make install put under DESTDIR, but for configuration and the audit
	rm -f $(DESTDIR)$(PREFIX)/{sbin/cartouched,bin/cartouche}
	rm -f $(LIB)/systemd/system/cartouched.service $(LIB)/tmpfiles.d/cartouche.conf
	rm -rf $(DESTDIR)$(PREFIX)/{libexec,share/doc}/cartouche $(LIB)/cartouche/profiles.d
	rmdir --ignore-fail-on-non-empty $(LIB)/cartouche/policies.d $(LIB)/cartouche
