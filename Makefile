# make reproduce · make quick · make test · make lint · make bench · make figures · make docs · make clean
# What is missing is installed into .venv, as constraints.txt has it; nothing else is touched.
# VENV=PATH takes another environment, VENV= the Python that is active. A torch that is there stays.

PYTHON ?= python3
VENV ?= .venv
PY := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
STAMPS := $(or $(VENV),build)
TILTCLI := $(PY) -m tiltcli
INSTALL := $(PY) -m pip --disable-pip-version-check install --quiet --constraint $(STAMPS)/constraints.txt

.PHONY: reproduce tuning reproduce-pictures reproduce-cifar10 quick test lint docs bench figures \
  clean
.DELETE_ON_ERROR:

$(STAMPS)/installed: pyproject.toml constraints.txt
	@python=$(PY); command -v $$python > /dev/null || python=$(PYTHON); \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tiltcli needs Python 3.11 or later; try: make PYTHON=python3.12"; exit 1; }
	@$(if $(VENV),command -v $(PY) > /dev/null || $(PYTHON) -m venv $(VENV),mkdir -p $(STAMPS))
	@if $(PY) -c 'import sys, importlib.util as u; sys.exit(u.find_spec("torch") is None)'; then \
	  echo "installing what is missing, at most 250 MB; the torch that is there stays"; \
	  grep -v '^torch==' constraints.txt > $(STAMPS)/constraints.txt; else \
	  echo "installing about 250 MB, and torch: on Linux with CUDA, some gigabytes more;"; \
	  echo "README.md says how to have its build for processors instead, about 200 MB"; \
	  cp constraints.txt $(STAMPS)/constraints.txt; fi
	$(INSTALL) --editable .
	@touch $@

$(STAMPS)/installed-%: $(STAMPS)/installed
	$(INSTALL) --editable '.[$*]'
	@touch $@

# What the report is made of; sweeps that are done already are not run again.
SPIRAL := spiral-tuning-confirm spiral-phase spiral-confirm spiral-fig4 spiral-onsets \
  spiral-curvature
DIGITS := digits-tuning-confirm digits-mlp digits-confirm
TUNED := spiral-tuning digits-tuning

reproduce: $(STAMPS)/installed
	@$(PY) -m tiltcli.cli.dry_run $(patsubst %,sweeps/%.toml,$(SPIRAL) $(DIGITS))
	@for name in $(SPIRAL) $(DIGITS); do $(TILTCLI) sweep sweeps/$$name.toml || exit; done
	@for name in spiral-confirm digits-confirm; do \
	  $(TILTCLI) compare $$name@loss.kind=static $$name@loss.kind=dynamical || exit; done
	@$(TILTCLI) report $(SPIRAL) $(DIGITS) -o results/report.html & page=$$!; \
	  $(TILTCLI) report $(SPIRAL) $(DIGITS) -o results/REPORT.md && wait $$page

# Convolutions: small digits, then real photographs; sweeps, the confirmation of what their
# validation chose, and the report.
PICTURES := digits-myrtle5-phase digits-myrtle5-confirm fashion-myrtle5-phase \
  fashion-myrtle5-confirm

reproduce-pictures: $(STAMPS)/installed
	@$(PY) -m tiltcli.cli.dry_run $(patsubst %,sweeps/%.toml,$(PICTURES))
	@for name in $(PICTURES); do $(TILTCLI) sweep sweeps/$$name.toml || exit; done
	@$(TILTCLI) report $(PICTURES) -o results/pictures.html & page=$$!; \
	  $(TILTCLI) report $(PICTURES) -o results/PICTURES.md && wait $$page

# How the methods of the *-tuning-confirm sweeps were tuned: cells, halved, chosen; half an hour.
tuning: $(STAMPS)/installed
	@$(PY) -m tiltcli.cli.dry_run $(patsubst %,sweeps/%.toml,$(TUNED))
	@keep='--keep 5'; for name in $(TUNED); do $(TILTCLI) sweep sweeps/$$name.toml && \
	  $(TILTCLI) refine $$name $$keep -o results/$$name-2.toml && \
	  $(TILTCLI) sweep results/$$name-2.toml --extend && \
	  $(TILTCLI) confirm $$name --tune -o results/$$name-confirm.toml || exit; \
	  keep='--keep 3'; done

# The paper's own phase diagram, for a GPU or a cluster: days on a few cores. The pictures are
# fetched unless they are in the cache.
reproduce-cifar10: $(STAMPS)/installed
	@$(PY) -m tiltcli.cli.dry_run sweeps/cifar10-myrtle5.toml
	@$(TILTCLI) sweep sweeps/cifar10-myrtle5.toml
	@$(TILTCLI) compare cifar10-myrtle5@loss.kind=static cifar10-myrtle5@loss.kind=dynamical \
	  --best val_accuracy
	@$(TILTCLI) report cifar10-myrtle5 -o results/cifar10.html

# The confirmation alone, on eight seeds of its own: under a minute.
quick: $(STAMPS)/installed
	@$(TILTCLI) sweep sweeps/spiral-confirm.toml --set name=spiral-quick \
	  --set 'train.seeds={ range = [200, 208, 1] }'
	@$(TILTCLI) compare spiral-quick@loss.kind=static spiral-quick@loss.kind=dynamical
	@$(TILTCLI) report spiral-quick -o results/QUICK.md

# The reports and figures that the README and docs/ show.
figures: reproduce reproduce-pictures
	@$(TILTCLI) report $(SPIRAL) $(DIGITS) -o results/published/REPORT.md
	@$(TILTCLI) report $(PICTURES) -o results/published/PICTURES.md
	@for name in spiral-edge spiral-branch; do $(TILTCLI) sweep sweeps/$$name.toml || exit; done
	@$(TILTCLI) plot phase fashion-myrtle5-phase \
	  -o results/published/figures/fashion-myrtle5-phase-phase.png
	@$(TILTCLI) plot curvature spiral-edge \
	  -o results/published/figures/spiral-edge-curvature.png
	@$(TILTCLI) branch spiral-branch --epoch 2500 --frozen --lr 0.02..8
	@$(TILTCLI) plot bifurcation spiral-branch \
	  -o results/published/figures/spiral-branch-bifurcation.png

test: $(STAMPS)/installed-dev
	$(PY) -m pytest --numprocesses auto --dist loadgroup

lint: $(STAMPS)/installed-dev
	$(PY) -m ruff check
	$(PY) -m mypy

# What is generated of README.md and docs/: results, settings, commands.
docs: $(STAMPS)/installed
	PYTHONPATH=tests $(PY) -m manual

bench: $(STAMPS)/installed-bench
	PYTHONPATH=tests $(PY) -m bench

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
