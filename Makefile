# make help lists everything. All that is assumed: git, make, python3 >= 3.11 with venv, the Python package index.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PORT ?= 8000
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --python $(BIN)/python --require-hashes
REQUIRE_ALL ?=
PYTEST_ARGS ?= -n auto --maxprocesses=4 --dist loadfile
export REQUIRE_ALL
export PYTHONUNBUFFERED := 1

.PHONY: help demo demo-reset test lint format types train requirements install install-ml install-dev clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed: $(PYTHON) is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "▸ Creating the virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The venv module is missing or broken. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.base: requirements/base.txt $(VENV)/.uv
	@echo "▸ Installing what web and worker need (about 0.5 GB on disk, once)"
	@$(UV) -r requirements/base.txt --compile-bytecode
	@touch $@

$(VENV)/.ml: requirements/ml.txt $(VENV)/.base
	@echo "▸ Installing TensorFlow, MLflow and DVC for training (about 2 GB on disk, once)"
	@$(UV) -r requirements/ml.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.uv
	@echo "▸ Installing everything that the tests need (about 3 GB on disk, once)"
	@$(UV) -r requirements/dev.txt
	@touch $@ $(VENV)/.base $(VENV)/.ml

install: $(VENV)/.base ## install what web and worker need
install-ml: $(VENV)/.ml ## install what training needs
install-dev: $(VENV)/.dev ## install what the tests and linters need

demo: $(VENV)/.base ## the demo hospital on http://localhost:8000/ (PORT=… for another port)
	@DJANGO_SETTINGS_MODULE=portal.settings.demo exec $(BIN)/python manage.py demo --port "$(PORT)"

demo-reset: ## throw the demo's data away
	@rm -rf var/demo
	@echo "The demo's data is gone; make demo starts over."

test: $(VENV)/.dev ## the whole suite (REQUIRE_ALL=1: a missing tool is a failure)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev ## style, types, imports, templates
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/djlint templates --lint --quiet
	@DJANGO_SETTINGS_MODULE=portal.settings.test $(BIN)/python manage.py makemigrations --check --dry-run

format: $(VENV)/.dev ## format code and templates
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

train: $(VENV)/.ml ## train the model (DATA=folder with the data sets)
	@$(BIN)/python manage.py train $(if $(DATA),--data "$(DATA)")

requirements: $(VENV)/.uv ## compile requirements/*.in to pinned, hashed *.txt
	@for name in uv dev; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" requirements/$$name.in -o requirements/$$name.txt; done
	@for name in ml production base; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt; done

clean: ## remove the virtual environment and all generated data
	@rm -rf $(VENV) var
