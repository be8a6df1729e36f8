# Everything works on a fresh clone: the first target that needs the environment makes it in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := pyproject.toml constraints.txt
EXAMPLE ?= aspirin
MINUTES ?= 30
SEED ?= 1
SEEDS ?= 1

# What needs neither torch nor a server.
QUICK  := tests/campaign tests/inputs tests/labels tests/report tests/stopping tests/settings tests/test_*.py \
          --ignore tests/campaign/test_old_runs.py --ignore tests/labels/test_dataset.py \
          --ignore tests/settings/test_model.py
COVER  := $(if $(COVERAGE),--cov --cov-append --cov-report=)

.PHONY: help demo test quick lint docs generated-pages bench bench-serial soak soak-kills soak-stops soak-slurm clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   run the aspirin example in runs/aspirin (installs what is needed, once)"
	@echo "            EXAMPLE=silicon runs that one"
	@echo "make test   lint, check types and layers, run all tests (COVERAGE=1 counts covered lines)"
	@echo "make quick  the tests that need neither torch nor a server: settings, labels, rules"
	@echo "make lint   ruff, codespell, mypy and import-linter only"
	@echo "make docs   write docs/settings.md and docs/command-line.md anew, build the site in site/"
	@echo "make bench  run every benchmark in tests/benchmarks, whole campaigns at their small size"
	@echo "            bench-serial (at full size: a campaign by plain MACE, and by the program; SEEDS=1)"
	@echo "make soak   soak-kills (campaigns whose processes are killed at random, MINUTES=30 of them),"
	@echo "            soak-stops (a run that is stopped 20 times at random), and soak-slurm (campaigns"
	@echo "            on a real Slurm, interrupted at random); SEED=1 first"
	@echo "make clean  remove the environment and all caches (runs/ stays)"

# Examples that need an extra of pyproject.toml.
EXTRA_aspirin := so3lr
EXTRA_ethanol := pyscf

demo: $(VENV)/.installed$(EXTRA_$(EXAMPLE):%=-%) | runs/$(EXAMPLE)
	$(BIN)/aimspax run runs/$(EXAMPLE)

# Files of whole campaigns, then folders of all other tests of flows.
CAMPAIGNS := $(wildcard tests/flows/test_*.py)
OTHERS := $(patsubst %/,%,$(filter-out %/__pycache__/,$(wildcard tests/flows/*/)))

# Side by side, one thread each; whole campaigns, which wait much, two at a time and file by file.
# They come first: one that began last would keep one process waiting for the other.
test: lint
	rm -f .coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(COVER) -n auto --maxprocesses 4 --ignore tests/flows
	$(BIN)/python -m pytest $(COVER) -n 2 --dist loadfile --no-loadscope-reorder $(CAMPAIGNS) $(OTHERS)
	$(BIN)/python -m tests.docs.blocks

quick: $(VENV)/.installed-dev
	AIMSPAX_TEST_QUICK=1 $(BIN)/python -m pytest -n 2 -m "not slow and not torch" $(QUICK)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Warnings end it: links, anchors, pages that are in no menu.
docs: generated-pages
	$(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m tests.docs.blocks

generated-pages: $(VENV)/.installed-dev
	$(BIN)/python -m aimspax_core.settings.derived.reference_page > docs/settings.md
	$(BIN)/python -m flows.commands.reference_page > docs/command-line.md

bench: $(VENV)/.installed-dev
	@set -e; for bench in tests/benchmarks/bench_*.py; do \
	    if [ ! -e "$$bench" ]; then echo "no benchmarks in tests/benchmarks"; break; fi; \
	    case "$$bench" in *bench_serial.py|*bench_selection.py|*bench_finetuning.py) size=--quick;; *) size=;; esac; \
	    echo "== $$bench"; $(BIN)/python "$$bench" $$size; \
	done

bench-serial: $(VENV)/.installed-dev
	$(BIN)/python tests/benchmarks/bench_serial.py --seeds $(SEEDS)

soak: soak-kills soak-stops soak-slurm

soak-kills: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak.soak_kills --minutes $(MINUTES) --seed $(SEED)

soak-stops: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak.soak_stops --seed $(SEED)

soak-slurm: $(VENV)/.installed-dev
	$(BIN)/python -m tests.soak.soak_slurm --minutes $(MINUTES) --seed $(SEED)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The user's own copy of the example: never overwritten.
runs/$(EXAMPLE):
	mkdir -p runs
	cp -R examples/$(EXAMPLE) $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
	    { echo "aimspax needs Python 3.11 or newer, but '$(PYTHON)' was not found: install it, or name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "aimspax needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1): name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Torch goes first, so that a build for CPU or another CUDA version that is already there is kept.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt torch
	@touch $@

$(VENV)/.installed: $(INPUTS) $(VENV)/.torch
	$(PIP) install -c constraints.txt -e .
	@touch $@

EXTRAS := $(VENV)/.installed-so3lr $(VENV)/.installed-pyscf

$(EXTRAS): $(VENV)/.installed-%: $(INPUTS) $(VENV)/.torch
	$(PIP) install -c constraints.txt -e '.[$*]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: $(INPUTS) $(VENV)/.torch
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $(EXTRAS) $@
