# Each target works on a fresh clone: it makes the virtual environment that it needs. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
RUN = runs/demo
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-oldest gpu check docs format bench pins clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.uv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "zoo needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	@touch $@

$(VENV)/.run: $(VENV)/.uv pyproject.toml
	@echo "installing into $(VENV) (the first time takes a while: torch is large)"
	@$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.run  ## compare the classics, train LeNet-5 on real digits, and use it (one or two minutes)
	@rm -rf $(RUN) $(RUN)-digits $(RUN)-mnist
	$(BIN)/zoo compare lenet5_modern alexnet vgg16 resnet50 squeezenet1_0
	$(BIN)/zoo finetune lenet5_modern --data digits --from-scratch --out $(RUN)
	$(BIN)/zoo finetune lenet5_modern --data digits --strategy full --epochs 10 --out $(RUN)-mnist
	$(BIN)/zoo eval $(RUN) $(RUN)-mnist --data digits
	$(BIN)/python -m zoo.data.digits $(RUN)-digits 20 > /dev/null
	$(BIN)/zoo predict $(RUN) $(RUN)-digits/*/*.png --top 3 --plot $(RUN)/predictions.png
	@echo "the curves of the run: $(RUN)/curves.png"
	@echo "from here on: source $(BIN)/activate puts zoo on the path of this shell"

test: $(VENV)/.dev  ## the tests, without the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev  ## the slow tests
	$(PYTEST) -m slow

test-oldest:  ## the tests with the oldest supported torch, in an environment of its own
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install -q --disable-pip-version-check uv
	@.venv-oldest/bin/uv pip install -q --python .venv-oldest/bin/python -e '.[dev]' 'torch==2.11.*' 'torchvision==0.26.*'
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 -m "not slow"

gpu: $(VENV)/.dev  ## all figures and tests that need a GPU, into build/gpu (OUT=… elsewhere)
	$(BIN)/python benchmarks/gpu.py $(if $(OUT),--out $(OUT))

check: $(VENV)/.dev  ## lint, format, types and the layout test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layout.py

docs: $(VENV)/.dev  ## whether the pages are up to date (docs/build.py, docs/catalogue.py and docs/outputs.py write them)
	$(BIN)/python docs/build.py --check
	$(BIN)/python docs/catalogue.py --check
	$(BIN)/python docs/outputs.py --check

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## speed as ratios against the peers
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/counting.py --budget 1 'resnet*' vgg16 densenet121 lenet5
	$(BIN)/python benchmarks/memory.py --tracker
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/captions.py

pins: $(VENV)/.dev  ## write down the versions that this environment holds, after testing them
	$(BIN)/uv pip freeze -q --python $(BIN)/python --exclude-editable > constraints.txt

clean:  ## remove environments, caches and build results
	rm -rf .venv .venv-oldest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
