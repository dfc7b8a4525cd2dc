# `make demo` and `make test` do everything on a fresh machine: each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out
PEERS ?= ../shared/peers

.PHONY: setup demo test test-all lint format report results docs gallery bench peers accelerator tpu-check
setup: .venv/done

.venv/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,tests,docs]'
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

# the page, all its figures and tables, from the committed records
report: setup
	$(BIN)/python -m experiments.report results --out $(OUT)/report

# the API reference
docs: setup
	$(BIN)/python docs/api.py $(OUT)/docs

# what is generated from the mechanisms and the records: README's tables and pictures, the page's cards
gallery: setup
	$(BIN)/python -m experiments.catalogue
	$(BIN)/python -m experiments.cards
	$(BIN)/python -m experiments.gallery

# the committed reports and calibrations again, from the committed records
# a score is the same on every device: one report of all devices for accuracy-*, of the rest one of each
results: setup
	for folder in results/accuracy-* $$(dirname results/*/*/records.jsonl | grep -v /accuracy-); do \
		$(BIN)/python -m experiments.report $$folder --out $$folder/report --figures= || exit; \
	done
	for folder in results/scaling/*/; do $(BIN)/python -m experiments.calibrate $$folder > /dev/null || exit; done

# BENCH="--length 4096 --cores 2 -k local": shorter, on both cores, of one mechanism
# fresh memory in huge pages, as in all measured processes
bench: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
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

# on a machine whose python has jax for its device (PYTHON=python3); records come out merged, and
# the same command goes on where it was cut; failed tests make it fail at its end. They run with
# exact products, which are off by default on a GPU; XLA_FLAGS that are set keep the tests' own for
# quick compiling away
accelerator: export PYTHONPATH := .:$(PYTHONPATH)
accelerator: export XLA_FLAGS ?= --xla_gpu_enable_triton_gemm=false
accelerator:
	mkdir -p $(OUT)
	XLA_PYTHON_CLIENT_PREALLOCATE=false JAX_DEFAULT_MATMUL_PRECISION=highest $(PYTHON) -m pytest tests/test_mechanisms.py tests/test_tiles.py -n 8 -m 'not slow' --tb=short > $(OUT)/tests.log 2>&1; echo $$? > $(OUT)/tests.status; tail -n 20 $(OUT)/tests.log
	$(PYTHON) -m experiments.run --config configs/accelerator.py --out $(OUT)/scaling
	$(PYTHON) -m experiments.run --config configs/reordering.py --out $(OUT)/reordering
	JAX_DEFAULT_MATMUL_PRECISION=highest $(PYTHON) -m experiments.run --config configs/accuracy/mqar.py:medium --out $(OUT)/accuracy-mqar
	@exit $$(cat $(OUT)/tests.status)
