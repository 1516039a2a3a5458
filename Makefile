# make demo        everything from nothing: videos, export, detection, timeline, mAP, speed  (minutes)
# make test        the tests            make lint        ruff and mypy
# make train-demo  train the shipped checkpoint anew     (about a quarter of an hour on two cores)
# make ablations   Table 2 on synthetic videos, three seeds     (an hour or more)
# make benchmark   the published-size network beside the paper's Table 3
# make test-slow   the checks that take minutes each
# make int8        INT8 of the shipped network by every method, for both targets, three seeds     (half an hour)
# make engines     TensorRT-RTX engines of the published-size network for three GPUs, without a GPU    (ten minutes)
# make gpu-check   on a machine with an NVIDIA GPU: every engine, its parity and its speed, as a report in docs/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
RUN := runs/synthetic

.PHONY: demo test test-slow lint train-demo ablations benchmark int8 engines gpu-check clean

demo: $(READY)
	@$(BIN)/afsd demo --out runs/demo

test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not gpu" -n auto --dist worksteal

test-slow: $(READY)
	@$(BIN)/pytest -m "slow and not gpu"

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

train-demo: $(READY)
	@$(BIN)/python -m export.studies.train_demo --out $(RUN)

ablations: $(READY)
	@$(BIN)/python -m export.studies.ablations --out runs/ablations

benchmark: $(READY)
	@$(BIN)/python -m export.studies.full_size --out runs/thumos14
	@$(BIN)/afsd benchmark runs/thumos14/thumos14.ckpt runs/thumos14/thumos14.onnx runs/thumos14/thumos14.xml \
		runs/thumos14/thumos14.xml@bf16

int8: $(READY)
	@$(BIN)/python -m calibration.method_table --out runs/int8

engines: $(READY)
	@$(BIN)/python -m export.studies.engine_table --out runs/engines

gpu-check: $(READY)
	@$(BIN)/python -m export.studies.gpu_check --gpu
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-gpu.txt
	@$(BIN)/python -m export.studies.gpu_check

# The environment is made anew when what it is made from is newer.
$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"needs Python 3.11 or newer, got {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@echo "setting up $(VENV): PyTorch, ONNX Runtime, OpenVINO and the tools (about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

clean:
	rm -rf $(VENV) runs
