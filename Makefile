# Every verb sets up what it needs: .venv, and as root on Debian the programs it drives.
# Where neither root nor a package is to be had, it says what is missing and which tests are skipped.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv demo test lint audit docs bench load hostile soak simulate survive kernel faults fuzz differ scapy \
	man pictures watch constraints clean

BIN := .venv/bin
# Compiled modules are kept, whatever the surroundings say: else each start of a program compiles all of it anew, and
# each worker of pytest all tests.
export PYTHONDONTWRITEBYTECODE :=

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

venv: ## .venv with pinned versions and an editable netbridge
	@scripts/venv

demo: ## watch an isolated codespace reach servers that only this machine can reach
	@scripts/system-packages demo
	@scripts/venv
	@$(BIN)/python -m demo

# Four at a time, since most wait for programs, in the order of their folders, whose last are short; but alone what
# measures times or loads the machine. What failed beside others is tried once more by itself: a busy machine is no
# fault of the code, and a real fault fails again.
test: ## every test; those that need root or a missing program say so and are skipped
	@scripts/system-packages test
	@scripts/venv
	@$(BIN)/python -m compileall -q stack bridge cli
	@$(BIN)/pytest -m "not alone" -n 4 --dist loadfile --no-loadscope-reorder --no-header || { echo "once more, by itself:"; \
		$(BIN)/pytest --last-failed --last-failed-no-failures none --no-header; }
	@$(BIN)/pytest -m alone --no-header || { echo "once more:"; \
		$(BIN)/pytest -m alone --last-failed --last-failed-no-failures none --no-header; }

lint: venv docs ## ruff, mypy --strict, the import contracts, packages with known faults, and the documentation without a warning
	@$(BIN)/ruff check
	@$(BIN)/python scripts/audit
	@$(BIN)/mypy
	@PYTHONPATH=src $(BIN)/lint-imports --no-cache --no-logo

audit: venv ## ask the package index what is known of the pinned packages by now; `make lint` looks without a network
	@$(BIN)/python scripts/audit --online

# What mkdocs prints about its own next version is no fault of these pages.
docs: venv ## the documentation as a site in build/site; a warning is a failure
	@DISABLE_MKDOCS_2_WARNING=true NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet --site-dir build/site

bench: ## throughput, round trips, CPU and memory, side by side with other tools (root)
	@scripts/system-packages bench
	@scripts/venv
	@$(BIN)/python bench/run.py

soak: ## mixed traffic while packets are lost and overtaken (root); MINUTES=20 SEED=n TRANSPORT=openssh TROUBLED=1
	@scripts/system-packages test
	@scripts/venv
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED)) \
		--transport $(or $(TRANSPORT),openssh) $(if $(TROUBLED),--troubled)

simulate: venv ## two stacks on a clock of their own over paths that harm packets, by seed; SEEDS=1000 ARGS="--scenario NAME"
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) $(ARGS)

survive: ## long: 1 GB each way, 2 GB beside twenty kills, a minute of frost, three minutes of silence, 200 kill -9 (root)
	@scripts/system-packages test
	@scripts/venv
	@NETBRIDGE_TEST_LONG=1 $(BIN)/pytest -s tests/net/test_bulk.py tests/net/test_resume.py \
		tests/net/test_kills.py tests/net/test_minimal_debian.py tests/stack/tcp/test_memory.py

kernel: ## gigabytes between our stack and Linux's over a line with 1 % loss and reordering (root); BYTES=10e9 SMALL=0.1
	@scripts/system-packages test
	@scripts/venv
	@NETBRIDGE_KERNEL_BYTES=$(or $(BYTES),10e9) NETBRIDGE_KERNEL_SMALL=$(or $(SMALL),0.1) NETBRIDGE_KERNEL_SEEDS=5000 \
		$(BIN)/pytest -s tests/stack/tcp/kernel

load: ## 10,000 flows, 2,000 connections a second, sleepers, black holes, floods (root); ARGS="--only NAME --scale 0.1"
	@scripts/system-packages bench
	@scripts/venv
	@$(BIN)/python bench/load.py $(ARGS)

hostile: ## every attack of tests/hostile beside an honest user: goodput, memory, processor (root); ARGS="--only NAME"
	@scripts/system-packages bench
	@scripts/venv
	@$(BIN)/python bench/hostile.py $(ARGS)

faults: ## long: each call into the system fails with each error it has, in a bridge, an agent and running programs (root)
	@scripts/system-packages test
	@scripts/venv
	@$(BIN)/python -m tests.faults $(ARGS)
	@NETBRIDGE_TEST_LONG=1 $(BIN)/pytest -s tests/net/test_faults.py

fuzz: venv ## feed parsers and machines what no sane peer sends, guided by coverage (atheris); SECONDS=60 SEED=n
	@$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60) --seed $(or $(SEED),0) $(ARGS)

differ: ## wild programs of segments and calls told to Linux's TCP and ours; what nothing explains (root); SECONDS=60 SEED=n
	@scripts/system-packages test
	@scripts/venv
	@$(BIN)/python -m tests.stack.tcp.kernel.hunt --seconds $(or $(SECONDS),60) --seed $(or $(SEED),0) $(ARGS)

scapy: venv ## packets of ours, of scapy's and changed ones, read by both; PACKETS=1000000 SEED=0
	@$(BIN)/python -m tests.agreement --packets $(or $(PACKETS),1000000) --seed $(or $(SEED),0)

man: venv ## docs/netbridge.1 from the commands, docs/events.md from the events
	@$(BIN)/python -m netbridge.cli.manpage >docs/netbridge.1
	@$(BIN)/python -m netbridge.cli.eventtable >docs/events.md

pictures: ## docs/pictures anew: the terminal UI of a real bridge at work (root)
	@scripts/system-packages test
	@scripts/venv
	@$(BIN)/python -m demo.pictures

watch: ## what a terminal UI costs a bridge with 5,000 flows and 2,000 new ones a second (root)
	@scripts/system-packages bench
	@scripts/venv
	@$(BIN)/python bench/watch.py $(ARGS)

constraints: venv ## pin the newest versions anew
	@scripts/constraints

clean: ## remove everything made here, .venv included
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
