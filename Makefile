# Build, try and check msrprelay. `make run` and `make test` need nothing but Debian and Rust.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Where rustup puts cargo, and .ci/need puts cargo-deny, in case PATH of the shell lacks them.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/msrprelay-tools
export PATH := $(PATH):$(HOME)/.cargo/bin:$(TOOLS)/bin

TARGET := $(or $(CARGO_TARGET_DIR),target)
SAMPLE := target/sample
MINUTES ?= 10
BENCH_ARGS ?=
DENY ?=

# Links ./msrprelay and the others to the programs of a build: $(call link,release)
link = for program in msrprelay msrpclient msrprelayctl; do \
		[[ $$program -ef "$(TARGET)/$(1)/$$program" ]] || ln -sfn "$(TARGET)/$(1)/$$program" $$program; \
	done

##   make run         a relay on localhost:2855 to try out, with two users and a
##                    certificate
.PHONY: run
run: programs tls/relay.crt config.ini
	@mkdir -p $(SAMPLE)/received
	rm -f $(SAMPLE)/bob.path
	password() { sed -n "s/^$$1@localhost *= *//p" config.ini; }
	relay="--relay localhost:2855 --ca tls/relay.crt"
	paste() { printf '\n%s\n\n' "$$1"; shift; printf '  %s\n' "$$@"; }
	paste "To send a file through this relay, paste this into a second terminal, in this directory:" \
		"MSRP_PASSWORD=$$(password bob) ./msrpclient receive bob@localhost $$relay --output $(SAMPLE)/received --path-file $(SAMPLE)/bob.path"
	paste "and this into a third one (the first line makes a file to send; any other will do):" \
		"head -c 1G /dev/urandom > $(SAMPLE)/file" \
		"MSRP_PASSWORD=$$(password alice) ./msrpclient send $(SAMPLE)/file alice@localhost $$relay --to @$(SAMPLE)/bob.path"
	printf '\n%s\n\n' "Ctrl-C stops the relay."
	# On a terminal the relay gets a process group of its own, so that Ctrl-C stops the relay and not
	# make. Ctrl-Z is ignored: it would stop make and leave the relay running.
	if [[ -t 0 ]]; then trap '' TSTP; set -m; fi
	./msrprelay --no-fork || exit

# The programs of `make run`: those of `make build` if they are newer than all sources, otherwise
# programs that are less optimised and built in half the time.
.PHONY: programs
programs:
	@.ci/need rust c
	release=$$(ls -t $(addprefix "$(TARGET)"/release/,msrprelay msrpclient msrprelayctl) 2>/dev/null | head -n 1) || :
	if [[ $$release && ! $$(find src Cargo.toml Cargo.lock -newer "$$release" -print -quit) ]]; then
		$(call link,release)
	else
		cargo build --profile quick --locked --bins
		$(call link,quick)
	fi

##   make build       the release programs, as ./msrprelay, ./msrpclient and
##                    ./msrprelayctl
.PHONY: build
build:
	@.ci/need rust c
	cargo build --release --locked --bins
	$(call link,release)

tls/relay.crt:
	@.ci/need certificates
	tls/make-selfsigned.sh -o tls localhost $$(uname -n | grep -Eix '[a-z0-9.-]+' | grep -vix localhost) >/dev/null
	echo "Made tls/relay.crt and tls/relay.key, self-signed for localhost."

# Two users with passwords of their own, on this machine only.
config.ini:
	@umask 077
	password() { head -c 12 /dev/urandom | base64 | tr '+/' 'Aa'; }
	# `user = root`: otherwise the relay, started by root, would become a user that cannot read the
	# files of the checkout.
	user=$$([[ $$EUID != 0 ]] || printf '%s' '\nuser = root')
	sed -e '/^\(address\|backend\|hostname\) *=/d' \
		-e '/^\[Relay\]/a \\n# Made by make run: for trying out, on this machine only.\naddress = 127.0.0.1:2855\nhostname = localhost\nbackend = memory'"$$user" \
		-e "/^\[Memory\]/a \\\\nalice@localhost = $$(password)\nbob@localhost = $$(password)" \
		config.ini.sample > $@
	echo "Made config.ini with the users alice@localhost and bob@localhost."

##   make test        all tests; two need port 2855 to be free
.PHONY: test
test:
	@.ci/need rust c certificate-tools databases links
	.ci/test

##   make test-fast   unit tests, session and layers: seconds after the build
.PHONY: test-fast
test-fast:
	@.ci/need rust c
	# Fewer random cases than `make test` tries.
	export PROPTEST_CASES=$${PROPTEST_CASES:-32}
	.ci/test --lib --test layers

##   make lint        formatting, clippy and documentation; a warning is an error
.PHONY: lint
lint:
	@.ci/need rust lint c c++
	set -x
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

##   make deny        licences, sources and advisories of dependencies, by
##                    cargo-deny; DENY=... names some of these checks
.PHONY: deny
deny:
	@.ci/need rust deny
	cargo deny --config .deny.toml check $(DENY)

##   make fuzz        every fuzz target for MINUTES=10; fuzz/run -h tells more
.PHONY: fuzz
fuzz:
	@.ci/need rust c c++
	fuzz/run -s $$(($(MINUTES) * 60))

##   make fuzz-build  build the fuzz targets only
.PHONY: fuzz-build
fuzz-build:
	@.ci/need rust c c++
	fuzz/run -b

##   make bench       the relay against a copier of octets; BENCH_ARGS=--quick
##                    proves only that it works
.PHONY: bench
bench:
	@.ci/need rust c
	cargo bench --locked --bench '*' -- $(BENCH_ARGS)

##   make manual      manual pages, shell completions and licences of crates, in
##                    target/manual
.PHONY: manual
manual:
	@.ci/need rust c
	cargo run --locked --example manual -- target/manual

##   make deb         the Debian package, in dist/
.PHONY: deb
deb:
	@.ci/need rust c deb
	dist="$$PWD/dist"
	files="$$dist/msrprelay_$$(dpkg-parsechangelog --show-field Version)_$$(dpkg --print-architecture)"
	mkdir -p dist
	rm -f dist/*.deb
	DIST="$$dist" dpkg-buildpackage -b -uc -us \
		--buildinfo-file="$$files.buildinfo" --buildinfo-option="-u$$dist" \
		--changes-file="$$files.changes" --changes-option="-u$$dist"

##   make deb-source  the Debian source package in dist/, with all crates: it
##                    builds without a network
.PHONY: deb-source
deb-source:
	@.ci/need rust deb
	debian/make-source dist

##   make test-package
##                    checks the package by lintian, and installs, upgrades and
##                    removes it in a Debian of its own; as root
.PHONY: test-package
test-package: deb
	@.ci/need package-test
	tests/package/run dist/msrprelay_*.deb

##   make clean       remove what was built; config.ini and certificates stay
.PHONY: clean
clean:
	@cargo clean
	rm -rf fuzz/target fuzz/artifacts dist debian/generated msrprelay msrpclient msrprelayctl

.PHONY: help
help:
	@sed -n 's/^## //p' Makefile
