# Build, try and check msrprelay. `make run` and `make test` need nothing but Debian and Rust.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Where rustup puts it, should the login shell have missed that.
export PATH := $(PATH):$(HOME)/.cargo/bin

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
SAMPLE := target/sample
MINUTES ?= 10
BENCH_ARGS ?=
DENY ?=

##   make run         a relay on localhost:2855 to try out, with two users and a certificate
.PHONY: run
run: build tls/relay.crt config.ini
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
	# On a terminal the relay gets a process group of its own: Ctrl-C stops it, and make goes on to
	# a clean end. Ctrl-Z would leave it behind without make.
	if [[ -t 0 ]]; then trap '' TSTP; set -m; fi
	./msrprelay --no-fork || exit

##   make build       the release binaries, as ./msrprelay, ./msrpclient and ./msrprelayctl
.PHONY: build
build:
	@.ci/need rust c
	cargo build --release --locked --bins
	for program in msrprelay msrpclient msrprelayctl; do
		[[ $$program -ef $(RELEASE)/$$program ]] || ln -sfn "$(RELEASE)/$$program" $$program
	done

tls/relay.crt:
	@.ci/need certificates
	tls/make-selfsigned.sh -o tls localhost $$(uname -n | grep -Eix '[a-z0-9.-]+' | grep -vix localhost) >/dev/null
	echo "Made tls/relay.crt and tls/relay.key, self-signed for localhost."

# Two users with passwords of their own, on this machine only.
config.ini:
	@umask 077
	password() { head -c 12 /dev/urandom | base64 | tr '+/' 'Aa'; }
	# The files are whose the checkout is: root must not give way to somebody who cannot read them.
	user=$$([[ $$EUID != 0 ]] || printf '%s' '\nuser = root')
	sed -e '/^\(address\|backend\|hostname\) *=/d' \
		-e '/^\[Relay\]/a \\n# Made by make run: for trying out, on this machine only.\naddress = 127.0.0.1:2855\nhostname = localhost\nbackend = memory'"$$user" \
		-e "/^\[Memory\]/a \\\\nalice@localhost = $$(password)\nbob@localhost = $$(password)" \
		config.ini.sample > $@
	echo "Made config.ini with the users alice@localhost and bob@localhost."

##   make test        all tests; the two that dial a default port need 2855 to be free
.PHONY: test
test:
	@.ci/need rust c certificate-tools databases
	mkdir -p target
	# Most of the tests on the wire wait rather than compute.
	export RUST_TEST_THREADS=$${RUST_TEST_THREADS:-16}
	status=0
	cargo test --locked --no-fail-fast 2>&1 | tee target/test.log || status=$$?
	echo
	awk '/^ *(Running|Doc-tests) / { print }
		/SKIPPED / { print; skipped++ }
		/^test result:/ { print; passed += $$4; failed += $$6; ignored += $$8; results++ }
		END {
			printf "%d passed, %d failed, %d ignored in %d programs\n", passed, failed, ignored, results
			if (skipped) printf "SKIPPED for want of a database server: %d times (.ci/need databases)\n", skipped
			exit !results
		}' target/test.log
	exit $$status

##   make lint        formatting, clippy and documentation, warnings being errors
.PHONY: lint
lint:
	@.ci/need rust lint c c++
	set -x
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

##   make deny        licences, sources and advisories of all dependencies, by cargo-deny
.PHONY: deny
deny:
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
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

##   make bench       the relay against a plain copier; BENCH_ARGS=--quick only proves that it works
.PHONY: bench
bench:
	@.ci/need rust c
	cargo bench --locked --bench '*' -- $(BENCH_ARGS)

##   make manual      manual pages, shell completions and licences of crates, in target/manual
.PHONY: manual
manual:
	@.ci/need rust c
	cargo run --locked --example manual -- target/manual

##   make deb         the Debian package, in dist/
.PHONY: deb
deb:
	@.ci/need rust c deb
	version=$$(dpkg-parsechangelog --show-field Version)
	files=$(CURDIR)/dist/msrprelay_$${version}_$$(dpkg --print-architecture)
	mkdir -p dist
	rm -f dist/*.deb
	DIST=$(CURDIR)/dist dpkg-buildpackage -b -uc -us \
		--buildinfo-file=$$files.buildinfo --buildinfo-option=-u$(CURDIR)/dist \
		--changes-file=$$files.changes --changes-option=-u$(CURDIR)/dist

##   make deb-source  the Debian source package, crates included, in dist/: it builds without a network
.PHONY: deb-source
deb-source:
	@.ci/need rust deb
	debian/make-source dist

##   make test-package  lint the package and try its life in a Debian of its own; as root
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
