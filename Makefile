# make demo: train, register, predict in batch and in real time.   make test: every check and test.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
SOURCES := $(shell find src -type f -not -name '*.pyc')

.PHONY: demo test check format lock clean

demo: $(VENV)/.run
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

test: check
	$(BIN)/python -m pytest

check: $(VENV)/.dev $(VENV)/.run
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.tool
	scripts/lock.sh

clean:
	rm -rf $(VENV) build dist src/*.egg-info

# Each stamp is one step of the set-up. The package is installed as a user would have it, not linked to the sources.
$(VENV)/.tool: requirements/tool.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/tool.txt
	touch $@

$(VENV)/.libraries: requirements/run.txt $(VENV)/.tool
	$(UV) --require-hashes -r requirements/run.txt
	touch $@

$(VENV)/.run: $(VENV)/.libraries pyproject.toml $(SOURCES)
	rm -rf build/lib build/bdist*
	$(UV) --no-deps --no-build-isolation --reinstall-package foretell .
	touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.libraries
	$(UV) --require-hashes -r requirements/dev.txt
	touch $@
