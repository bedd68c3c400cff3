# make check  — environment, then the theorem check on real images (writes out/check/report.html)
# make test   — environment, then all tests
# make docs   — environment, then the documentation in out/docs/index.html
PYTHON ?= python3
BIN := .venv/bin

.PHONY: check test lint types docs clean

check: .venv/ready
	$(BIN)/diffincl check --out out/check

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/pyright

docs: .venv/ready
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs out/docs

# The pins are installed first, so that nothing pulls a newer torch.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv out docs/notebooks .pytest_cache .ruff_cache .hypothesis *.egg-info
