# Every target sets up what it needs: .venv from requirements.txt, the model server's environment,
# the Airflow home. Done already, that takes a second. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PIPELINE ?= demo
UPGRADE ?= --upgrade
# byte code once for all the processes of a night
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
SERVING_VENV := .local/serving-venv
digest = $(shell cat $(1) | sha256sum | cut -c1-16)
VENV_DONE := .venv/installed-$(call digest,requirements.txt pyproject.toml)
SERVING_DONE := $(SERVING_VENV)/installed-$(call digest,docker/serving.requirements.txt)
# exported, and quoted by the shell, so that no value can be anything but one argument
export PIPELINE SOURCE SET DATA
NIGHT := $(BIN)/python -m trusted_retraining.local.night "$$PIPELINE" --source "$$SOURCE" \
  --settings "$$SET" $(if $(filter-out 0 no false,$(FORCE)),--force)

.PHONY: help setup demo retrain up test lint e2e e2e-full ground ground-up ground-down bench results lock images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## one night of the pipeline demo (PIPELINE=demo_biased: of another; FORCE=1: reuse nothing)
	@$(NIGHT)

retrain: setup ## one night of any: PIPELINE=covid_xray SOURCE=path-or-address SET="train.epochs=15 ..." FORCE=1
	@$(NIGHT)

up: setup ## Airflow, MLflow and the model server on this machine; Ctrl-C ends all
	@$(BIN)/python -m trusted_retraining.local.up

test: setup lint ## lint, types, import contracts, all tests
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the ground's kubectl is as new as its server
e2e: export PATH := $(CURDIR)/.local/ground/bin:$(PATH)
e2e: setup ## on the cluster in KUBECONFIG, which must have the images: pods, a whole night, deploys
	@$(BIN)/python -m tests.cluster
	$(BIN)/python -m pytest tests/cluster tests/ground -m 'not full' --numprocesses 2 $(PYTEST_ARGS)

e2e-full: export PATH := $(CURDIR)/.local/ground/bin:$(PATH)
e2e-full: setup ## on a ground of TIER=2 that nobody else uses: Kueue, and what a node may go through
	$(BIN)/python -m pytest tests/cluster -m full $(PYTEST_ARGS)

ground: setup ## build a current Kubernetes with KServe for the tests, from Go modules, and the images
	@$(BIN)/python -m tests.ground.build $(or $(TIER),1)

ground-up: setup ## start it; the last line is its KUBECONFIG
	@$(BIN)/python -m tests.ground.up $(or $(TIER),1)

ground-down: setup ## end it, and leave nothing of it but what was built
	@$(BIN)/python -m tests.ground.down

bench: setup ## the benchmarks, into benchmarks/results.json (ONLY="parse lime": some of them)
	@$(BIN)/python -m benchmarks $(ONLY)

results: setup ## the published pipelines, five seeds each, into docs/results.md (ONLY=, DATA=folder)
	@$(BIN)/python -m benchmarks.published $(ONLY) $(if $(DATA),--data "$$DATA")

lock: $(VENV_DONE) ## compile all locks anew from pyproject.toml and docker/*.in (UPGRADE=: keep versions)
	@docker/lock $(BIN)/uv $(UPGRADE)

images: ## build the container images (ONLY="tasks-cpu serving-cpu": some; BASE=...: on another base)
	@docker/build $(ONLY)

clean: ## remove everything that make has made: .venv, .local with runs and models, caches
	rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# both environments are made at the same time
setup: $(BIN)/uv ## what every other target needs: both environments, the Airflow home
	@$(MAKE) --silent --jobs 2 $(VENV_DONE) $(SERVING_DONE)
	@$(BIN)/python -m trusted_retraining.local.home

$(BIN)/uv:
	@python=$$(.ci/find-python) || exit 1; \
	echo "Environment: .venv, with $$($$python --version)"; \
	$$python -m venv .venv && $(BIN)/python -m pip --disable-pip-version-check install --quiet uv

$(VENV_DONE): | $(BIN)/uv
	@echo "Environment: installing requirements.txt ($$(grep -c == requirements.txt) packages)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q tasks plugins dags
	@rm -f .venv/installed-* && touch $@
	@echo "Environment: installed"

$(SERVING_DONE): | $(BIN)/uv
	@echo "Model server: installing docker/serving.requirements.txt"
	@test -x $(SERVING_VENV)/bin/python || \
	  $(BIN)/uv venv --quiet --python $(BIN)/python $(SERVING_VENV)
	@$(BIN)/uv pip install --quiet --python $(SERVING_VENV)/bin/python --compile-bytecode \
	  -r docker/serving.requirements.txt
	@rm -f $(SERVING_VENV)/installed-* && touch $@
	@echo "Model server: installed"
