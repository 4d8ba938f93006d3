# `make demo` and `make test` make their own environment in .venv, with the constraints file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench clean

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[test]'
	# Without what it asks for: torchvision would bring another torch (see tests/timm_package.py).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'timm>=1.0'
	touch $@

demo: $(INSTALLED)
	$(BIN)/sfm2tuples demo -o demo --force

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sfm2tuples retrieval cli

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build *.egg-info
