# make help lists everything. All that is assumed: git, make, python3 >= 3.11 with venv, the Python package index.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PORT ?= 8000
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --python $(BIN)/python --require-hashes
FRONTEND := frontend/node_modules
BUNDLE := portal/static/portal/build/reading.js
NODE := PATH="$(CURDIR)/$(BIN):$$PATH"
NODE_SUFFICES := node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20)'
REQUIRE_ALL ?=
PYTEST_ARGS ?= -n auto --maxprocesses=4 --dist loadfile
# One part of the suite, where a machine runs one: sqlite, postgres or browser.
SUITE ?=
SUITE_sqlite := -m "not postgres and not browser and not acceptance"
SUITE_postgres := -m "postgres and not acceptance"
SUITE_browser := -m "browser and not acceptance"
ENGINE ?= docker
IMAGE ?= radiology-portal
export ENGINE IMAGE
export REQUIRE_ALL
export PYTHONUNBUFFERED := 1

.PHONY: help demo demo-reset test acceptance lint audit format types train reproduce requirements install install-ml install-dev frontend docs image scan sbom push deploy smoke clean

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

$(VENV)/.deploy: requirements/production.txt $(VENV)/.uv
	@$(UV) -r requirements/production.txt
	@touch $@

# Node.js 20 or newer with npm: the machine's own, or else the one that comes as a Python package.
$(VENV)/.node: requirements/node.txt $(VENV)/.uv
	@if ! { command -v npm && $(NODE_SUFFICES); } >/dev/null 2>&1; then echo "▸ Installing Node.js (about 0.2 GB on disk, once)" && $(UV) -r requirements/node.txt; fi
	@touch $@

$(FRONTEND)/.serving: frontend/package.json frontend/package-lock.json frontend/.npmrc $(VENV)/.node
	@echo "▸ Installing the reading page's viewer (about 0.1 GB on disk, once)"
	@cd frontend && $(NODE) npm ci --omit=dev --silent
	@touch $@

$(FRONTEND)/.dev: frontend/package.json frontend/package-lock.json frontend/.npmrc $(VENV)/.node
	@echo "▸ Installing the reading page's viewer and its linter (about 0.1 GB on disk, once)"
	@cd frontend && $(NODE) npm ci --silent
	@touch $@ $(FRONTEND)/.serving

$(BUNDLE): $(FRONTEND)/.serving frontend/build.mjs $(wildcard frontend/src/*.js)
	@$(NODE) node frontend/build.mjs

install: $(VENV)/.base ## install what web and worker need
install-ml: $(VENV)/.ml ## install what training needs
install-dev: $(VENV)/.dev ## install what the tests and linters need

frontend: $(BUNDLE) ## bundle the reading page's scripts

demo: ## the demo hospital on http://localhost:8000/ (PORT=… for another port)
	@$(MAKE) --no-print-directory -j2 $(VENV)/.base $(BUNDLE)
	@DJANGO_SETTINGS_MODULE=portal.settings.demo exec $(BIN)/python manage.py demo --port "$(PORT)"

demo-reset: ## throw the demo's data away
	@rm -rf var/demo
	@echo "The demo's data is gone; make demo starts over."

test: $(VENV)/.dev $(FRONTEND)/.dev $(BUNDLE) ## the whole suite (SUITE=sqlite, postgres or browser: a part; REQUIRE_ALL=1: a missing tool is a failure)
	@$(BIN)/python -m pytest $(PYTEST_ARGS) $(SUITE_$(SUITE))

acceptance: $(VENV)/.dev $(FRONTEND)/.dev $(BUNDLE) ## what takes long: containers, workers that are killed, a thousand hostile files
	@$(BIN)/python -m pytest -m acceptance --timeout 3600 $(ACCEPTANCE_ARGS)

lint: $(VENV)/.dev $(FRONTEND)/.dev ## style, types, imports, templates, scripts, workflows, infrastructure, known holes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/djlint templates --lint --quiet
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive portal accounts studies reports ml pipelines infrastructure
	@cd frontend && $(NODE) npm run --silent lint
	@cd frontend && $(NODE) node lint_workflows.mjs ../.github/workflows/*.yml
	@$(BIN)/cfn-lint infrastructure/*.yaml
	@DJANGO_SETTINGS_MODULE=portal.settings.test $(BIN)/python manage.py makemigrations --check --dry-run
	@.ci/lint-migrations
	@.ci/audit

audit: $(VENV)/.dev ## known holes in the pinned requirements; fails where the index of advisories cannot be reached
	@REQUIRE_AUDIT=1 .ci/audit

format: $(VENV)/.dev ## format code and templates
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

train: $(VENV)/.ml ## train the model (DATA=folder with the data sets)
	@$(BIN)/python manage.py train $(if $(DATA),--data "$(DATA)")

reproduce: $(VENV)/.ml ## fetch data from DagsHub, run the stages that have changed, push what came of it (docs/for-ml-engineers.md)
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/reproduce

docs: $(VENV)/.dev ## the documentation as a site, in var/site
	@$(BIN)/mkdocs build --strict --quiet --site-dir var/site

image: ## build the image (ENGINE=docker, podman or buildah; IMAGE=name)
	@$(ENGINE) build --tag "$(IMAGE)" .

scan: ## known holes in the image, with trivy; fails for grave ones that a newer package mends
	@trivy image --quiet --exit-code 1 --severity HIGH,CRITICAL --ignore-unfixed "$(IMAGE)"

sbom: $(VENV)/.dev $(VENV)/.node ## lists of what the image contains (CycloneDX), in var/sbom
	@mkdir -p var/sbom
	@$(BIN)/cyclonedx-py requirements --output-reproducible --output-format JSON --output-file var/sbom/python.json requirements/production.txt
	@cd frontend && $(NODE) npm sbom --package-lock-only --omit dev --sbom-format cyclonedx >../var/sbom/frontend.partial && mv ../var/sbom/frontend.partial ../var/sbom/frontend.json

push: ## push the image to Docker Hub and ECR (TAGS, DOCKERHUB_REPOSITORY, ECR_REPOSITORY)
	@.ci/push

smoke: $(VENV)/.deploy ## try a running portal out (URL=https://…; SMOKE_TOKEN: a token with the scope classify)
	@$(BIN)/python -m infrastructure.smoke "$(URL)"

deploy: $(VENV)/.deploy ## bring IMAGE up beside what runs in STACK, try it out, switch over, or roll back (URL=https://…)
	@$(BIN)/python -m infrastructure.deploy --stack "$(STACK)" --image "$(IMAGE)" --url "$(URL)"

requirements: $(VENV)/.uv ## compile requirements/*.in to pinned, hashed *.txt
	@for name in uv node dev; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" requirements/$$name.in -o requirements/$$name.txt; done
	@for name in ml production base; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt; done

clean: ## remove the virtual environment and all generated data
	@rm -rf $(VENV) $(FRONTEND) portal/static/portal/build var
