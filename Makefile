# make demo: train, register, predict in batch and in real time.   make test: every check and test.
# make torture, make soak: the same where it takes long.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
OLDER := $(VENV)/mlflow2
TORCH := pip install --quiet --no-compile --no-deps torch==2.13.0
COMPILE := $(BIN)/python scripts/bytecode.py
SOURCES := $(shell find src -type f -not -name '*.pyc')

.PHONY: demo test torture soak check format wheel docs guide lock clean

demo: $(VENV)/.run
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

test:
	$(MAKE) --no-print-directory -j 2 check $(VENV)/.mlflow2
	$(BIN)/python -m pytest -n 2

# Jobs killed 1,000 times, each kind at each of its points; bent tables of trees. Each says how much it did.
torture: $(VENV)/.dev $(VENV)/.run
	$(BIN)/python tests/fuzz_walk.py 300000
	FORETELL_KILLS=1000 $(BIN)/python -m pytest tests/test_resume.py tests/test_parts.py tests/test_report.py -n 0 -s

# A million requests, a hundred stops under load, sixty killed workers, ten hot swaps each way: half an hour.
soak: $(VENV)/.dev $(VENV)/.run
	FORETELL_SOAK=50 $(BIN)/python -m pytest tests/test_soak.py tests/test_lifecycle.py tests/test_follow.py tests/test_openapi.py

# One wheel for every Python from 3.11 on, of this system and processor.
wheel: $(VENV)/.libraries
	rm -rf build/lib* build/bdist*
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .

check: $(VENV)/.dev $(VENV)/.run
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.run
	$(BIN)/python scripts/models_page.py

# The guide to both ways, with what the command prints on this machine: a few minutes, best where it is quiet.
guide: $(VENV)/.dev $(VENV)/.run
	$(BIN)/python scripts/compare_page.py

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
	$(COMPILE) $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.libraries pyproject.toml $(SOURCES)
	rm -rf build/lib build/bdist*
	$(UV) --no-deps --no-build-isolation --reinstall-package foretell .
	$(COMPILE) $(VENV)
	touch $@

# torch comes without its dependencies, which are pinned with the others: asked for them it may bring CUDA's.
$(VENV)/.dev: requirements/dev.txt $(VENV)/.libraries
	$(UV) --require-hashes -r requirements/dev.txt
	$(BIN)/$(TORCH)
	$(COMPILE) $(VENV)
	touch $@

# The newest mlflow 2 beside mlflow 3, which writes models for the tests to read.
$(VENV)/.mlflow2: requirements/mlflow2.txt $(VENV)/.dev
	$(PYTHON) -m venv $(OLDER)
	$(BIN)/uv pip install --quiet --python $(OLDER)/bin/python --require-hashes -r requirements/mlflow2.txt
	$(OLDER)/bin/$(TORCH)
	$(COMPILE) $(OLDER) $(VENV)
	touch $@
