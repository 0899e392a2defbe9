# What people do with this tree. Each target works in a fresh clone on Debian with cargo.

.PHONY: help run test check bench torture
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

bench: ## Measure what the README claims
	scripts/install-test-deps
	scripts/bench

torture: ## Kill the daemon 1000 times on each queue, hurt PostgreSQL, count what it costs (KILLS=50: less)
	scripts/install-test-deps
	scripts/torture
