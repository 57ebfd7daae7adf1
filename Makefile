# trueup: `make demo` shows the whole loop, `make test` proves it. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DO_NOT_TRACK := 1

.PHONY: setup demo test lint format bench bench-monitor bench-serving bench-trainer lock clean

setup: $(READY)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "trueup needs Python 3.11 or newer; run: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/trueup demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

bench-monitor: $(READY)
	$(BIN)/python -m tests.benchmarks monitor

bench-serving: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[bench]'
	$(BIN)/python -m tests.benchmarks serving
	$(BIN)/python -m tests.benchmarks http_layer
	$(BIN)/python -m tests.benchmarks ledger_cost
	$(BIN)/python -m tests.benchmarks endurance restarts --rounds 20
	$(BIN)/python -m tests.benchmarks endurance swaps --rounds 100
	$(BIN)/python -m tests.benchmarks endurance kills --database sqlite --rounds 1000
	$(BIN)/python -m tests.benchmarks endurance kills --database postgresql --rounds 1000
	$(BIN)/python -m tests.benchmarks endurance million

bench-trainer: $(READY)
	$(BIN)/python -m tests.benchmarks data_gate
	$(BIN)/python -m tests.benchmarks trainer
	$(BIN)/python -m tests.benchmarks forgetting
	$(BIN)/python -m tests.benchmarks head_quality
	$(BIN)/python -m tests.benchmarks retrain_cost
	$(BIN)/python -m tests.benchmarks trainer_faults

lock:
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet -e '.[dev]'
	.lock-venv/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' > requirements.lock
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) .trueup .trueup-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
