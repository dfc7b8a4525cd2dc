# `make demo` and `make test` do everything on a fresh machine: each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out
PEERS ?= ../shared/peers

.PHONY: setup demo test test-all lint format report bench peers accelerator tpu-check
setup: .venv/done

.venv/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,tests]'
	touch $@

demo: setup
	$(BIN)/python -m experiments.run --config configs/demo.py --out $(OUT)/demo
	$(BIN)/python -m experiments.report $(OUT)/demo --out $(OUT)/demo/report

test: setup
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: setup
	$(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

report: setup
	$(BIN)/python -m experiments.report results --out $(OUT)/report

# BENCH="--length 4096 --cores 2 -k local": shorter, on both cores, of one mechanism
bench: setup
	$(BIN)/python -m pytest benchmarks -o addopts="-q --strict-markers -p no:cacheprovider" --benchmark-columns=median,iqr,rounds $(BENCH)

# ours and $(PEERS)/bench_peers.py side by side; the peers have an environment of their own.
# ARGS="--cases local_lucid --lengths 1024" for some of it
peers: setup .venv-peers/done
	$(BIN)/python -m benchmarks.peers --peers $(PEERS) --python .venv-peers/bin/python $(ARGS)

.venv-peers/done: benchmarks/peers.txt
	@test -f $(PEERS)/bench_peers.py || { echo "no bench_peers.py in $(PEERS): name its folder, make peers PEERS=FOLDER"; exit 2; }
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	touch $@

# every mechanism through the real TPU compiler, without a TPU; libtpu has an environment of its own,
# for jax would look for a TPU wherever it is installed
tpu-check: .venv-tpu/done
	JAX_PLATFORMS=cpu .venv-tpu/bin/python -m pytest -n 2 tests/test_compiled.py

.venv-tpu/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,tests,tpu]'
	touch $@

# on a machine whose python has jax for its device (PYTHON=python3); records come out merged.
# XLA_FLAGS that are set, be it to nothing, keep the tests' own for quick compiling away
accelerator:
	PYTHONPATH=. XLA_FLAGS="$(XLA_FLAGS)" $(PYTHON) -m pytest tests/test_mechanisms.py -x -p no:xdist -o addopts="-q --strict-markers" > $(OUT)/tests.log 2>&1; tail -n 3 $(OUT)/tests.log
	PYTHONPATH=. $(PYTHON) -m experiments.run --config configs/accelerator.py --out $(OUT)/scaling
	PYTHONPATH=. $(PYTHON) -m experiments.run --config configs/reordering.py --out $(OUT)/reordering
	PYTHONPATH=. $(PYTHON) -m experiments.run --config configs/language.py --config.isolate=mechanism --config.tasks=stdlib --out $(OUT)/language
