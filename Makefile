# Each command makes the virtual environment that it needs; a second call finds it there.
# TORCH chooses the build of PyTorch, PYTHON the interpreter: make test TORCH='torch>=2.8' PYTHON=python3.12

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-slow test-faults fuzz lint audit package docs pictures vendor clean

demo: $(VENV)/installed
	$(BIN)/cdal demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

# Commands that are killed and hindered at up to MOMENTS random moments for each fault, from a random
# SEED that is printed.
MOMENTS ?= 20
test-faults: $(VENV)/installed-dev
	cd tests && ../$(BIN)/python -m faults --moments $(MOMENTS) $(if $(SEED),--seed $(SEED))

# Damaged and hostile files for MINUTES, from a random SEED that is printed.
MINUTES ?= 30
fuzz: $(VENV)/installed-dev
	cd tests && ../$(BIN)/python -m helpers.mutants --minutes $(MINUTES) $(SEED)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHONPATH=docs $(BIN)/python -m tools.site

# Known weaknesses of the installed packages. It asks a public database, so it is not part of lint.
audit: $(VENV)/installed-dev
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

# Wheel, source archive, and the list of all that the program needs (SBOM, CycloneDX), in dist/.
package: $(VENV)/torch
	$(BIN)/pip install --quiet build
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(PYTHON) -m venv dist/.sbom
	dist/.sbom/bin/pip install --quiet '$(TORCH)'
	dist/.sbom/bin/pip install --quiet dist/*.whl
	$(BIN)/pip install --quiet cyclonedx-bom
	$(BIN)/cyclonedx-py environment dist/.sbom --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json
	rm -rf dist/.sbom

# The documentation site, in site/.
docs: $(VENV)/installed-dev
	PYTHONPATH=docs $(BIN)/python -m tools.site

# The pictures of the guide to the page, drawn by its tests; and those of the method, for which
# `cdal demo` has to have run.
pictures: $(VENV)/installed-dev
	CDAL_PICTURES=yes $(BIN)/python -m pytest -m slow tests/serve/page/test_pictures.py
	PYTHONPATH=docs $(BIN)/python -m tools.pictures

# The scripts of other projects that the page uses. A build never needs this.
vendor:
	PYTHONPATH=tests $(PYTHON) -m helpers.vendor

# PyTorch goes first, by itself: whatever build is chosen satisfies what is installed after it.
$(VENV)/torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet '$(TORCH)'
	touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/torch pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
