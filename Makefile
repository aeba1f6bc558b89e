# The commands of OpenCode Studio. `make help` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin

# The first Python on PATH that is new enough; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
WORKERS ?= 2

##@ Running

.PHONY: run
run: setup  ## start everything on loopback; ARGS="--port 8123 --data FOLDER --no-sample" are passed on
	@exec $(BIN)/python manage.py up $(ARGS)

.PHONY: down
down: setup-python  ## stop it, or what a killed start has left; ARGS="--data FOLDER"
	@$(BIN)/python manage.py down $(ARGS)

.PHONY: doctor
doctor: setup-python  ## check each part and say what is missing; ARGS="--data FOLDER"
	@$(BIN)/python manage.py doctor $(ARGS)

.PHONY: setup
setup: setup-python  ## make the virtual environment, install, fetch OpenCode; `run` does this too
	@$(BIN)/python -m studio.launcher.fetch $(ARGS)

.PHONY: setup-python
setup-python:
	@test -n "$(PYTHON)" || { echo "OpenCode Studio needs Python 3.11 or newer on PATH, or PYTHON=/path/to/python." >&2; exit 1; }
	@"$(PYTHON)" studio/launcher/bootstrap.py $(VENV)

##@ Developing

.PHONY: setup-dev
setup-dev: setup
	@"$(PYTHON)" studio/launcher/bootstrap.py --dev $(VENV)

.PHONY: test
test: setup-dev  ## everything that must pass; TESTS=tests/tasks narrows the last step
	@$(MAKE) --no-print-directory -j $(WORKERS) types lint checks
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(TESTS)

.PHONY: lint
lint: setup-dev  ## ruff and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: types
types: setup-dev  ## mypy, strict
	$(BIN)/mypy .

.PHONY: checks
checks: setup-dev  ## the locked environment, system checks, missing migrations, the OpenAPI document
	$(BIN)/pip check
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

.PHONY: format
format: setup-dev  ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: setup-dev  ## what the studio costs on top of the agent; ARGS="--pairs 20"
	$(BIN)/python -m bench.pipeline $(ARGS)

.PHONY: crash
crash: setup-dev  ## kill, stop and cut everything at every named moment of a turn; ARGS="--seeds 1 --points dispatch"
	@$(BIN)/python -m tests.crash.run $(ARGS)

.PHONY: faults
faults: setup-dev  ## make bad input and faults in real repositories, and the table of outcomes; ARGS="--faults full hangs"
	@$(BIN)/python -m tests.faults.run $(ARGS)

.PHONY: forge
forge: setup-dev  ## the whole story of a pull request against a real Gitea, built from its Go module (needs go and a C compiler)
	@$(BIN)/pytest -q tests/forges/real_gitea.py $(ARGS)

.PHONY: screenshots
screenshots: setup-dev  ## make the README's pictures anew, from the browser test
	STUDIO_PICTURES=docs/images $(BIN)/pytest -q tests/e2e/test_browser.py -k sample_task

.PHONY: lock
lock:  ## rewrite requirements*.txt after a change of pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv, the only command here that does." >&2; exit 1; }
	uv lock
	uv export --quiet --no-emit-project --no-default-groups --no-annotate --no-header --format requirements.txt > requirements.txt
	uv export --quiet --no-emit-project --only-group dev --no-annotate --no-header --format requirements.txt > requirements-dev.txt

.PHONY: help
help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
