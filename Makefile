# Two commands on a fresh machine: `make demo` and `make test`; each makes the environment first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export MYODISTILL_DATA ?= $(abspath $(wildcard ../shared/data))

FAST := -n 2 --dist loadfile --max-worker-restart 0

DEMO := runs/demo/results.parquet

.PHONY: demo live test test-slow coverage lint format clean

demo: $(VENV)/ready
	$(BIN)/myodistill run --config examples/demo.yaml
	set -- runs/demo/fold-1/seed-0/*/k-1/pretrained_distilled* && \
	$(BIN)/myodistill export $$1 --to c-int8 && \
	$(BIN)/myodistill deploy-report $$1
	$(BIN)/myodistill report runs/demo

# A page without a device: the recordings of the person whom the decoder was made for, at true speed.
live: $(DEMO)
	set -- runs/demo/fold-1/seed-0/*/k-1/pretrained_distilled* && \
	$(BIN)/myodistill live $$1 --adapt --open

$(DEMO): | $(VENV)/ready
	$(BIN)/myodistill run --config examples/demo.yaml

test: lint
	$(BIN)/pytest $(FAST) -m "not slow"

test-slow: $(VENV)/ready
	$(BIN)/pytest -n 2 --max-worker-restart 0 -m slow

coverage: $(VENV)/ready
	$(BIN)/pytest $(FAST) -m "not slow" --cov --cov-report=term:skip-covered

lint: $(VENV)/ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

# The CPU build of PyTorch goes in first: asked for as a range it would bring gigabytes of CUDA.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
