# `make demo` and `make test` do all the set-up; nothing needs to be installed before but Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # where it is set, every process compiles torch anew

.PHONY: demo test stress lint format docs bench results bundle clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[train,dev,docs,lora]'
	touch $@

demo: .venv/ready
	$(BIN)/imitate demo --out demo

test: .venv/ready lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

stress: .venv/ready
	IMITATE_FIGURES=docs/results/reliability $(BIN)/python -m pytest -m stress tests/stress tests/golden
	$(BIN)/python tests/stress/mutants.py --draw 400 --out docs/results/reliability/mutants.json
	$(BIN)/python benchmarks/soak.py --clients 8 --seconds 300 --out docs/results/reliability/soak_viewer.json
	$(BIN)/python tests/stress/summary.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/wrap.py --check
	$(BIN)/uv pip check --quiet --python $(BIN)/python

format: .venv/ready
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/python docs/wrap.py

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: .venv/ready
	for name in start install opening step data bulk onnx_classify retrieval scaling growth quickstart languages pages; do $(BIN)/python benchmarks/$$name.py || exit 1; done

results: .venv/ready
	$(BIN)/python experiments/results.py

# EXTRAS: of the package, such as train,lora; by default none, and no PyTorch
bundle: .venv/ready
	$(BIN)/python packages/bundle.py --extras "$(EXTRAS)" --out dist/bundle

clean:
	rm -rf .venv demo build dist site
