# make book    the whole book: environment, data, every notebook, the site        (PROFILE=quick NOTEBOOK=03 JOBS=2)
# make serve   open the rendered book on this machine                             (PORT=8000)
# make test    lint, types, tests, every notebook at profile smoke, a strict build of the book
# make test-long   the same and more of it: 10,000 calls with wrong arguments, 50 kills, 10,000 random networks, Ray, S3
# make bench   speed of the exact partition, of detection, of pruned networks: tables, and the book's page on speed anew
# make zoo     prune families of networks of torchvision and timm, each held against an oracle: the book's table
# make check-data   get the published data sets and hold them against known counts, means and labels
# make check-site   the rendered book in a real browser (playwright and Chromium): phone, dark mode, playground, console
# make shots   a picture of every page, wide and narrow, light and dark, under build/shots
# make pdf     the whole book as build/book.pdf (playwright and Chromium)
# make release   one archive of book, records, figures and source with checksums, under build/
# make audit   a bill of materials of the locked packages, and what is known to be vulnerable among them
# make matrix  the tests on Python 3.11, 3.12 and 3.13 with the oldest and the newest torch (needs uv, 5 GB for each)
# make lock    write requirements.lock anew from pyproject.toml (needs uv)
# make clean   remove what `make book` and `make test` made; keeps .venv, the data cache and the live runs

PROFILE ?= quick
NOTEBOOK ?=
JOBS ?=
PORT ?= 8000
# The first of these that is new enough and can make an environment is used.
PYTHON ?= python3 python3.13 python3.12 python3.11 python

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
SUITS := import sys, venv, ensurepip; sys.exit(not sys.version_info >= (3, 11))

# A Python that keeps no bytecode compiles torch anew in each of the hundred processes of `make test`.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: book serve test test-long bench zoo check-data check-site shots pdf release audit matrix lock clean
.DELETE_ON_ERROR:

book: $(STAMP)
	@$(PY) -m book._tools book --profile "$(PROFILE)" --notebook "$(NOTEBOOK)" $(if $(JOBS),--jobs "$(JOBS)")

serve: $(STAMP)
	@$(PY) -m book._tools serve --port $(PORT)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PY) -m pytest
	$(PY) -m book._tools test

test-long: test
	$(PY) tests/fuzz.py 10000
	$(PY) tests/chaos.py 50
	SPLINELIB_GRAPHS=10000 $(PY) -m pytest tests/test_partition_graphs.py
	@$(PY) -c 'import ray, s3fs, moto' 2>/dev/null || \
	    $(PY) -m pip install -qq --disable-pip-version-check ray s3fs 'moto[server]'
	$(PY) -m pytest -n 0 -m long tests

$(STAMP): requirements.lock pyproject.toml
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    for python in $(PYTHON); do \
	        if $$python -c '$(SUITS)' >/dev/null 2>&1; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "error: no Python >= 3.11 with venv and ensurepip among: $(PYTHON)" >&2; \
	        echo "       name one with \`make PYTHON=/path/to/python3\`; on Debian, python3-venv is needed too" >&2; \
	        exit 1; \
	    fi; \
	    echo "making $(VENV) with $$found ($$($$found --version))"; \
	    $$found -m venv --clear $(VENV); \
	fi
	@echo "installing the locked requirements (on Linux about 5 GB, some minutes the first time)"
	@# Python compiles a module when it is first imported; most of them never are.
	@$(PY) -m pip install -qq --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "compiling the search for partitions (20 s)"
	@$(PY) -c 'from splinelib.partition import warm_up; warm_up()'
	@touch $@

bench: $(STAMP)
	$(PY) -m benchmarks.partition --full
	$(PY) -m benchmarks.detection
	$(PY) -m benchmarks.step_time
	$(PY) -m benchmarks.speedup
	$(PY) -m benchmarks.compensation
	$(PY) -m benchmarks.partition_page
	$(PY) -m benchmarks.cost_page
	$(PY) -m benchmarks.speedup_page

zoo: $(STAMP)
	$(PY) -m benchmarks.zoo

check-data: $(STAMP)
	$(PY) -m pytest -m realdata tests/test_data.py

check-site shots pdf: $(STAMP)
	@$(PY) -c 'import playwright' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check playwright
	$(if $(filter shots pdf,$@),$(PY) -m book._tools $@,$(PY) -m pytest -m browser tests/test_site_in_browser.py tests/test_playground.py)

release: $(STAMP)
	@$(PY) -m book._tools release

audit:
	@.ci/audit

matrix:
	@.ci/matrix

lock:
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' | \
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --quiet --constraints - -o requirements.lock

clean:
	rm -rf build book/results book/_extra/figures book/_extra/mathjax .mypy_cache .pytest_cache .ruff_cache
