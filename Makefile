# What people do with this tree. Each target works in a fresh clone on Debian with cargo.

.PHONY: help run test check deb image docs bench simulate fuzz torture overload attack paint storm
.DEFAULT_GOAL := help

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: ## Build, then show the whole thing on this machine (smsd demo)
	cargo build --locked --profile dev-release --bin smsd
	target/dev-release/smsd demo

test: ## Install what the tests need, then run every test
	scripts/install-test-deps
	scripts/test

check: ## Format, lints, documentation, licences: all must be clean
	scripts/check

deb: ## Build the Debian package, optimised, in target/debian
	scripts/package

image: ## Build an OCI image around that package with buildah, as root
	scripts/image

docs: ## Renew the generated pages, and build the book of docs in target/book
	cargo build --locked --bin smsd
	target/debug/smsd man --markdown >docs/reference/command-line.md
	target/debug/smsd man --markdown smsd.conf >docs/reference/configuration.md
	scripts/book

simulate: ## Run many simulated worlds: make simulate SEEDS=20000 [FROM=0]
	# The crates that it needs are those of `make test`; more than level 1 costs more time to build than it saves.
	SMSD_SIM_SEEDS=$(or $(SEEDS),20000) SMSD_SIM_FROM=$(or $(FROM),0) CARGO_PROFILE_DEV_OPT_LEVEL=1 \
		cargo test --locked --test simulation -- --nocapture --test-threads=1 no_seed healthy

bench: ## Measure what the README claims
	scripts/install-test-deps
	scripts/bench

fuzz: ## Feed the parsers for SECONDS each (60), or TARGET alone; needs a nightly toolchain
	scripts/fuzz "$(TARGET)" "$(or $(SECONDS),60)"

torture: ## Kill the daemon 1000 times on each queue, cut the power, hurt PostgreSQL, count the cost (KILLS=50: less)
	scripts/install-test-deps
	scripts/torture

overload: ## A hundred thousand alerts in a minute, numbers and gateways that fail: who notices what (8 min)
	scripts/install-test-deps
	scripts/overload

attack: ## What strangers, callers, files, mails and gateways may do to the daemon, and what it costs the others (4 min)
	scripts/attack

paint: ## How soon the dashboard is there, with a million old alerts in the queue
	scripts/install-test-deps
	cargo build --locked --profile dev-release --bin smsd
	SMSD_BIN=$(CURDIR)/target/dev-release/smsd cargo test --locked --test browser -- --ignored --nocapture a_million_old_rows

storm: ## Watch 2,000 alerts and a phone that fails on the dashboard; renews the pictures in docs/images
	scripts/install-test-deps
	cargo build --locked --bin smsd
	mkdir -p docs/images
	node tests/browser/storm.js target/debug/smsd target/peers/node/node_modules docs/images
