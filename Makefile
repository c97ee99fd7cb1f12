# What there is to do with Optic; each target says what it runs. The work is in scripts/, which can be read and called alone.

SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help demo test check bench measure soak setup clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Optic with a simulated Discord and a real RabbitMQ, until Ctrl-C (DEMO_SECONDS=10: ends by itself; DISCORD_TOKEN: the real Discord)
	@scripts/demo

test: ## Formatting, lints, docs and all tests, with a RabbitMQ of its own (TEST='--test topology': only those)
	@scripts/test $(TEST)

check: ## Formatting, lints and docs alone
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

bench: ## Benchmarks: the parts, Optic beside twilight-gateway + lapin, 10,000 신경 clients (docs/performance.md; BENCH='--runs 5': options of scripts/bench)
	@scripts/setup build python
	@if [[ -z $${AMQP_URL:-} ]]; then scripts/setup rabbitmq; fi
	cargo bench --locked --bench parts --bench page
	scripts/bench $(BENCH)
	scripts/measure clients

measure: ## Rolling restarts, takeovers, 256 shards, commands' latency: measured (docs/performance.md; MEASURE='rolling kill': only those)
	@scripts/setup build python browser
	@if [[ -z $${AMQP_URL:-} ]]; then scripts/setup rabbitmq; fi
	scripts/measure $(MEASURE)

soak: ## The demo for long while its RabbitMQ fails in every way; every event is counted (SOAK_SECONDS=600)
	@scripts/soak

setup: ## Install what is missing: a C compiler, rabbitmq-server, promtool, a browser, the tests' Python and Node packages
	@scripts/setup

clean: ## Stop what is left of private nodes, and delete target/
	@for nodes in target/rabbitmq target/rabbitmq/*; do OPTIC_RABBITMQ_DIR=$$PWD/$$nodes scripts/rabbitmq drop-all; done
	cargo clean
