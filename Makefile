# Everything here works on a fresh machine with git, make and Python 3.11 or newer, and needs no root.
# `make PYTHON=python3.12 test` keeps its own environment, .venv-3.12, beside the usual .venv.

PYTHON ?= python3
WORKERS ?= 2

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(VERSION))
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet

# A sweep that is run again trains nothing twice, so that a stopped `make studies-ar` goes on.
STUDIES_AR := shape_text vocabulary experts repetition overtraining context \
  length_generalisation pixel_resolutions emergence mixers mixture_law

STUDIES_DIFFUSION := diffusion_isoflop diffusion_choices denoising_or_next masked_repetition sampling_compute \
  memorising text_to_image denoisers solvers patches x0_patches

# Stamps: an environment is rebuilt when its Python changes, refilled when a requirements file does.
MADE := $(VENV)/.made-$(VERSION)
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo studies-ar studies-diffusion book test slow bench dryrun coverage soak lint format notebooks python

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  with PYTHON=python3.12 another Python (now $(PYTHON)), with WORKERS=4 more processes (now $(WORKERS))"

demo: $(INSTALLED)  ## sweep the quickstart study, fit its laws, write its report (about 12 minutes on 2 cores)
	$(RUN) -m research sweep --config experiments/quickstart.py --workdir runs --workers $(WORKERS)
	$(RUN) -m research report runs/quickstart

book: $(INSTALLED)  ## write book.html, one page of every study, its law and its figure (about 20 seconds)
	$(RUN) -m research book --out book.html

studies-ar: $(INSTALLED)  ## run the eleven studies of autoregressive models, one after another (some 100 minutes on 2 cores)
	set -e; for study in $(STUDIES_AR); do \
	  $(RUN) -m research sweep --config experiments/$$study.py --workdir runs --workers $(WORKERS); done

studies-diffusion: $(INSTALLED)  ## run the eleven studies of diffusion models (some three hours on 2 cores)
	set -e; for study in $(STUDIES_DIFFUSION); do \
	  $(RUN) -m research sweep --config experiments/$$study.py --workdir runs --workers $(WORKERS); done

test: $(INSTALLED_DEV)  ## run the tests (about 20 minutes on 2 cores)
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

slow: $(INSTALLED_DEV)  ## run the tests that take longest: clusters, processes, compilers of pods (about half an hour)
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m slow $(ARGS)

bench: $(INSTALLED_DEV)  ## measure speed on this machine: train step, compile time, share of the matrix-product rate
	$(RUN) -m tests.bench $(ARGS)

dryrun: $(INSTALLED_DEV)  ## compile every large config for its pod, hold the memory ledger against it (about 10 minutes)
	$(RUN) -m tests.dryrun $(ARGS)

coverage: $(INSTALLED_DEV)  ## measure how often intervals hold planted truths (about 10 minutes)
	$(RUN) -m tests.scaling.coverage $(ARGS)

soak: $(INSTALLED_DEV)  ## kill the workers of a sweep 100 times and compare what is left (about 3 minutes)
	$(RUN) -m tests.reliability.soak $(ARGS)

lint: $(INSTALLED_DEV)  ## check format, style and types (changes nothing)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(INSTALLED_DEV)  ## format the code and mend what ruff can mend
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

notebooks: $(INSTALLED_DEV)  ## run every notebook in place, keeping its output
	$(RUN) -m jupyter execute --inplace --timeout=900 notebooks/*.ipynb

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is $(or $(VERSION),not there); Python 3.11 or newer is needed: make ... PYTHON=python3.11" >&2; exit 2; }

$(MADE): | python
	@echo "making $(VENV) with Python $(VERSION)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(INSTALLED): requirements.txt $(MADE)
	@echo "installing requirements.txt into $(VENV) (a few minutes the first time)"
	@$(PIP) -r requirements.txt
	@$(RUN) -c 'import sysconfig; open(sysconfig.get_path("purelib") + "/isoflop.pth", "w").write("$(CURDIR)\n")'
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt requirements-pods.txt requirements-text.txt $(INSTALLED)
	@echo "installing requirements-dev.txt into $(VENV)"
	@$(PIP) -r requirements-dev.txt
	@touch $@
