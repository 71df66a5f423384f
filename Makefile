# `make demo` runs the main job, `make test` the tests. The first call installs what it needs in .venv.
# PYTHON=/path/to/python3.12 chooses another Python; ARGS="-k cells -x" is passed to pytest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c "$(SUPPORTED)" 2>/dev/null && { echo $$p; break; }; done)
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
BIN := .venv/bin
PINNED := setup.cfg pyproject.toml constraints.txt

.PHONY: help demo test test-slow test-browser lint docs figures clean
help:
	@echo "make demo       three synthetic patients, scored with the bundled model; one is reviewed"
	@echo "make test       the tests that take less than about a minute each"
	@echo "make test-slow  the tests that take longer"
	@echo "make test-browser  the tests that drive chromium"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation, in build/site"
	@echo "make figures    the figures of README and documentation; about 10 minutes"
	@echo "make clean      remove all that make wrote"

demo: .venv/using.ok
	@$(BIN)/spherodetect demo --out spherodetect-demo

test: .venv/all.ok
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not slow and not browser" $(ARGS)

test-slow: .venv/all.ok
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-browser: .venv/browser.ok
	@$(BIN)/python -m pytest -m "browser and not slow" $(ARGS)

lint: .venv/all.ok
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: .venv/all.ok
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "open build/site/index.html"

figures: .venv/all.ok .venv/browser.ok
	@$(BIN)/python docs/figures.py
	@$(BIN)/python docs/app_screens.py
	@$(BIN)/python -m benchmarks.coverage --plot experiments/coverage.png > experiments/coverage.txt
	@$(BIN)/python -m benchmarks.reviewed --plot experiments/reviewed.png > experiments/reviewed.txt

clean:
	rm -rf .venv build dist src/*.egg-info spherodetect-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: using.ok for scoring only, all.ok for training and development too. If a file of PINNED
# is newer than the stamp, the packages are installed again.
.venv/using.ok: $(PINNED) | .venv/bin/python
	@echo "Installing spherodetect: TensorFlow and a dozen libraries, 2.6 GB. The first time takes some minutes."
	@$(call install,.)
	@touch $@

.venv/all.ok: $(PINNED) | .venv/bin/python
	@echo "Installing spherodetect with training and development tools, 3.1 GB. The first time takes some minutes."
	@$(call install,.[train$(comma)dev])
	@touch $@ .venv/using.ok

# Playwright drives the chromium of the machine. axe-core finds barriers, vnu-jar (with java) errors of the
# pages; their tests are skipped without them.
.venv/browser.ok: .venv/all.ok
	@$(call install,.[train$(comma)dev$(comma)browser])
	@if npm --version >/dev/null 2>&1; then \
		npm install --silent --no-audit --no-fund --prefix build/axe axe-core@4.14.1 vnu-jar@26.9.27 \
			|| echo "axe-core and vnu-jar were not fetched, so their tests are skipped"; fi
	@touch $@

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "spherodetect needs Python 3.11, 3.12 or 3.13; python3 here is $$(python3 --version 2>/dev/null || echo missing)." \
			"Install one and name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c "$(SUPPORTED)" || { \
		echo "spherodetect needs Python 3.11, 3.12 or 3.13; PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
ifdef UV
	@uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
else
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv, then make again." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
endif

# pip's output is reduced to one line for each large download and for every ten packages, as a sign of
# progress. Errors go to stderr.
comma := ,
ifdef UV
install = VIRTUAL_ENV=.venv uv pip install --constraint constraints.txt --editable "$(1)" 2>&1 \
	| grep --line-buffered -v '^ [-+~] '
else
install = PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	--use-pep517 --constraint constraints.txt --editable "$(1)" 2> >(grep -v '^WARNING: Location .* is ignored' >&2) \
	| tee .venv/install.log | { n=0; large='^  Downloading .*\(([0-9]+)[.0-9]* MB'; while IFS= read -r line; do \
		if [[ $$line =~ ^(Collecting|Processing)\  ]]; then (( ++n % 10 )) || echo "  $$n packages resolved"; \
		elif [[ $$line =~ $$large ]]; then (( BASH_REMATCH[1] < 20 )) || echo "$$line"; \
		elif [[ $$line == Installing\ collected* ]]; then echo "  installing"; fi; done; } \
	|| { echo "The installation failed; .venv/install.log says more." >&2; exit 1; }
endif
