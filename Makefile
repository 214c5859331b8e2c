# Needs Python ≥ 3.11, git and make; everything else goes into .venv from the package registry.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run ui test test-slow lint format bench bench-cuda clean

run: .venv/installed          ## the main job: find winning tickets on MNIST
	$(BIN)/lt run

ui: .venv/installed           ## MLflow's UI on what has been run
	$(BIN)/lt ui

test: .venv/installed-dev     ## all tests but the slow ones
	$(BIN)/pytest -n 2 --dist worksteal

test-slow: .venv/installed-dev  ## what takes long
	$(BIN)/pytest -n 2 -m slow

lint: .venv/installed-dev     ## style, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: export GOMP_SPINCOUNT ?= 1000  # as lt has it
bench: .venv/installed        ## measured claims, printed
	$(BIN)/python bench/start.py
	$(BIN)/python bench/quick.py
	$(BIN)/python bench/engine.py fc1
	$(BIN)/python bench/engine.py lenet5
	$(BIN)/python bench/late_rounds.py fc1
	$(BIN)/python bench/late_rounds.py lenet5 --precision bfloat16
	$(BIN)/python bench/sparse.py fc1 lenet5 vgg resnet20 convolution trajectory
	$(BIN)/python bench/cifar.py
	$(BIN)/python bench/layout.py
	$(BIN)/python bench/both_engines.py
	$(BIN)/python bench/criteria.py
	$(BIN)/python bench/changing.py
	$(BIN)/python bench/pages.py
	$(BIN)/python bench/streamed.py
	$(BIN)/python bench/denormals.py
	$(BIN)/python bench/size.py
	$(BIN)/python bench/tickets.py
	$(BIN)/python bench/boundary.py
	$(BIN)/python bench/importance.py
	$(BIN)/python bench/full_store.py
	$(BIN)/python bench/determinism.py
	$(BIN)/python bench/soak.py
	$(BIN)/python bench/judgements.py

bench-cuda: .venv/installed   ## the engine on a CUDA device, tables into results/
	mkdir -p results
	$(BIN)/python bench/engine.py fc1 --device cuda --csv results/cuda-fc1.csv
	$(BIN)/python bench/engine.py lenet5 --device cuda --csv results/cuda-lenet5.csv

clean:
	rm -rf .venv build dist *.egg-info

# Modules are compiled when they are first imported, not all of them now.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch .venv/installed $@
