# make reproduce · make quick · make test · make lint · make bench · make figures · make docs · make clean
# Everything is installed into .venv from constraints.txt; nothing else is touched.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: reproduce reproduce-cifar10 quick test lint docs bench figures clean
.DELETE_ON_ERROR:

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tiltcli needs Python 3.11 or later; try: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/installed-bench: .venv/installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

# What the report is made of; sweeps that are done already are not run again.
SPIRAL := spiral-phase spiral-confirm spiral-fig4 spiral-onsets spiral-curvature
DIGITS := digits-mlp digits-confirm digits-myrtle5-phase digits-myrtle5-confirm

reproduce: .venv/installed
	@for name in $(SPIRAL) $(DIGITS); do $(BIN)/tiltcli sweep sweeps/$$name.toml || exit; done
	@for name in spiral-confirm digits-confirm digits-myrtle5-confirm; do \
	  $(BIN)/tiltcli compare $$name@loss.kind=static $$name@loss.kind=dynamical || exit; done
	@$(BIN)/tiltcli report $(SPIRAL) $(DIGITS) -o results/report.html & page=$$!; \
	  $(BIN)/tiltcli report $(SPIRAL) $(DIGITS) -o results/REPORT.md && wait $$page

# The paper's own phase diagram, for a GPU or a cluster: days on a few cores. The pictures are
# fetched unless they are in the cache.
reproduce-cifar10: .venv/installed
	@$(BIN)/tiltcli sweep sweeps/cifar10-myrtle5.toml
	@$(BIN)/tiltcli compare cifar10-myrtle5@loss.kind=static cifar10-myrtle5@loss.kind=dynamical \
	  --best val_accuracy
	@$(BIN)/tiltcli report cifar10-myrtle5 -o results/cifar10.html

# The confirmation alone, on eight seeds of its own: under a minute.
quick: .venv/installed
	@$(BIN)/tiltcli sweep sweeps/spiral-confirm.toml --set name=spiral-quick \
	  --set 'train.seeds={ range = [200, 208, 1] }'
	@$(BIN)/tiltcli compare spiral-quick@loss.kind=static spiral-quick@loss.kind=dynamical
	@$(BIN)/tiltcli report spiral-quick -o results/QUICK.md

# The report and figures that the README shows.
figures: reproduce
	@$(BIN)/tiltcli report $(SPIRAL) $(DIGITS) -o results/published/REPORT.md

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy

# The section of README.md that says what every command's --help says.
docs: .venv/installed
	$(BIN)/python -m tiltcli.cli.reference README.md

bench: .venv/installed-bench
	PYTHONPATH=tests $(BIN)/python -m bench

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
