# The two commands of the README are `make demo` and `make test`; both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=
PYTEST ?=

.PHONY: demo test test-slow test-exhaustive lint format protos clean

demo: $(VENV)/installed
	$(BIN)/mpcdp demo $(DEMO)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(PYTEST)

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m "(slow or data) and not exhaustive" $(PYTEST)

# The crash matrix, random schedules, rollbacks, power cuts, bad networks, fuzzing, packaging: about an hour.
test-exhaustive: $(VENV)/installed
	$(BIN)/python -m pytest -m exhaustive $(PYTEST)

# Reinstalled when the dependencies change; constraints.txt holds the versions the tests last passed with.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/installed
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. protos/mpcdp/pb/*.proto

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
