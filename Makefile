# What you can do here. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Debian keeps iptables, runc and others where a plain user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
DISTRIBUTIONS := . core $(PLUGINS)
PYPROJECTS := $(DISTRIBUTIONS:%=%/pyproject.toml)
TESTS := $(wildcard core/tests plugins/*/tests tests)
INIT_SOURCES := $(filter-out init/wherry-init %.o,$(wildcard init/*))
INIT := plugins/native_exec/wherry_native_exec/wherry-init

# What the engine needs of Debian, and what building it and python-iptables needs.
RUNTIME_PACKAGES := iptables nftables iproute2 busybox-static libseccomp2 \
	gcc libc6-dev linux-libc-dev python3-venv python3-dev
# The real programs that the tests compare with and use as clients.
PEER_PACKAGES := docker.io crun runc lxc rsyslog docker-registry skopeo umoci
# What the machine of the tests' own is made with; its kernel is fetched by tools/vm and never installed.
MACHINE_PACKAGES := qemu-system-x86 kmod e2fsprogs busybox-static

# What isolates, which on cgroup v2 and an older kernel goes other ways: first without a daemon, then through docker.
ISOLATION_TESTS := plugins/native_exec/tests core/tests/linux core/tests/keeper \
	$(sort $(wildcard $(addprefix tests/test_,docker_run.py docker_verbs.py live_restore.py ending.py execs.py exec_*.py \
	escapes*.py host_config_*.py mount_*.py nested_*.py out_of_memory.py process_*.py stats.py update.py userns_*.py)))

# $(call need-root,make run): stop here, plainly, unless root.
need-root = @if [ "$$(id -u)" != 0 ]; then echo "$(1) needs root (it makes namespaces, mounts and a bridge): sudo $(1)" >&2; exit 1; fi

.PHONY: help
help: ## List what you can do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed $(INIT) ## Install what wherry needs, and wherry itself into .venv (root, the first time)

.PHONY: setup-test
setup-test: ## Install the programs the tests compare with, starting no service (root, the first time)
	@[ -n "$${WHERRY_NO_PEERS:-}" ] || tools/debian-packages --services-blocked $(PEER_PACKAGES)
	@# Since Debian 13 the client is a package of its own.
	@[ -n "$${WHERRY_NO_PEERS:-}" ] || command -v docker >/dev/null || tools/debian-packages docker-cli

.PHONY: run
run: ## Start a daemon of its own, run a container on it, and say what to try (root)
	$(call need-root,make run)
	@$(MAKE) setup
	@tools/run-demo

.PHONY: stop
stop: ## Undo all of `make run` (root)
	$(call need-root,make stop)
	@tools/stop-demo

.PHONY: lint
lint: setup ## Style, types and import borders
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_import_borders.py

.PHONY: test
test: ## Lint, then every test that is not a soak (root); what CI runs
	$(call need-root,make test)
	@$(MAKE) setup setup-test
	@$(MAKE) lint
	$(BIN)/python -m pytest -m "not soak" $(TESTS) $(PYTEST_ARGS)

.PHONY: soak
soak: ## The tests that take long or count high (root)
	$(call need-root,make soak)
	@$(MAKE) setup setup-test
	$(BIN)/python -m pytest -m soak --timeout 1800 $(TESTS) $(PYTEST_ARGS)

.PHONY: setup-vm
setup-vm: ## Install what the machine of the tests' own needs, and fetch its kernel (root, the first time)
	@tools/debian-packages $(MACHINE_PACKAGES)
	@tools/vm fetch >/dev/null

.PHONY: test-cgroup2
test-cgroup2: ## The isolation tests on Debian's 6.1 kernel, cgroup v2 only, in qemu
	@$(MAKE) setup setup-test setup-vm
	tools/vm run -- $(BIN)/python -m pytest -m "not soak" $(ISOLATION_TESTS) $(PYTEST_ARGS)

.PHONY: test-vm
test-vm: ## All of the tests on Debian's 6.1 kernel, cgroup v2 only, in qemu
	@$(MAKE) setup setup-test setup-vm
	tools/vm run -- $(BIN)/python -m pytest -m "not soak" $(TESTS) $(PYTEST_ARGS)

.PHONY: bench
bench: ## Measure against dockerd, crun and runc (root)
	$(call need-root,make bench)
	@$(MAKE) setup setup-test
	$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: wheels
wheels: setup ## Build every distribution's wheel into dist/
	rm -rf dist
	$(BIN)/pip wheel -qq --no-deps --no-build-isolation --wheel-dir dist $(DISTRIBUTIONS:%=./%)
	@ls dist

.PHONY: clean
clean: ## Remove all that make made here (not the Debian packages)
	rm -rf $(VENV) build dist $(INIT) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@[ ! -e init/Makefile ] || $(MAKE) -C init clean
	find core plugins tests tools -name __pycache__ -prune -exec rm -rf {} +

# ---- What setup is made of ----------------------------------------------------------------------------------------------

.PHONY: packages
packages:
	@tools/debian-packages $(RUNTIME_PACKAGES)

# Old plugins that left the tree stay installed until `make clean`.
$(VENV)/.installed: $(PYPROJECTS) plugins/native_exec/hatch_build.py tools/pins.py Makefile | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wherry needs Python 3.11 or newer; name one: make PYTHON=python3.12 setup")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages …"
	@$(BIN)/python tools/pins.py runtime build test lint >$(VENV)/pins.txt
	@$(BIN)/pip install -qq --requirement $(VENV)/pins.txt
	@echo "Installing wherry and its plugins, editable …"
	@$(BIN)/pip install -qq --no-build-isolation --no-deps $(DISTRIBUTIONS:%=--editable ./%)
	@$(BIN)/pip check >/dev/null || { $(BIN)/pip check; exit 1; }
	@touch $@

$(INIT): $(INIT_SOURCES) Makefile | packages
	@$(MAKE) -C init
	@install -m 755 init/wherry-init $@
