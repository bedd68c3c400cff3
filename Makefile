# make check  — environment, then the theorem check on real images (writes out/check/report.html)
# make test   — environment, then all tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: check test lint types clean

check: .venv/ready
	$(BIN)/diffincl check --out out/check

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/pyright

# The pins are installed first, so that nothing pulls a newer torch.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv out .pytest_cache .ruff_cache .hypothesis *.egg-info
