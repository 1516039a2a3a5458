# make demo        everything from nothing: videos, export, detection, timeline, mAP, speed  (minutes)
# make test        the tests            make lint        ruff and mypy
# make train-demo  train the shipped checkpoint anew     (about a quarter of an hour on two cores)
# make ablations   Table 2 on synthetic videos, three seeds     (an hour or more)
# make benchmark MINUTES=34   the published-size network in every engine, beside its bound: docs/speed.md and its figures
# make test-thorough   the checks that continuous integration runs beside them     (six minutes)
# make test-runtime    the tests of runtime/ where PyTorch cannot be imported      (half a minute)
# make test-triton   the repository of `afsd triton` in a real Triton Inference Server, in a folder of its own
# make test-slow   all checks that `make test` leaves out, some of minutes each
# make mutation    faults planted in the arithmetic, one at a time: how many the tests notice     (an hour on one core)
# make audit       known vulnerabilities of the locked packages, where a package index answers
# make sbom        build/sbom.cdx.json: what is installed, as a bill of materials (CycloneDX)
# make licences    docs/licences.md anew from what is installed
# make attack MINUTES=60   every reader with changed input, in children with limits, as a table
# make soak HOURS=2   cameras that fail once a minute, beside a file: memory, threads, files, detections
# make int8        INT8 of the shipped network by every method, for both targets, three seeds     (half an hour)
# make engines     TensorRT-RTX engines of the published-size network for three GPUs, without a GPU    (ten minutes)
# make gpu-check   on a machine with an NVIDIA GPU: every engine, its parity and its speed, as a report in docs/
# make clean       delete the environment, builds and caches; runs/ stays, since what you trained cannot be made again
# make distclean   list what is deleted when runs/ goes too, with sizes; make distclean YES=1 deletes it
#
# make VARIABLE=…  PYTHON: interpreter of the environment (python3); TORCH_INDEX: see below

PYTHON ?= python3
# PyTorch's own index of CPU wheels. On Linux the plain package brings two gigabytes of CUDA, so PyTorch comes from here
# where there is no NVIDIA GPU and the index answers within seconds. Empty: always the plain package.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
RUN := runs/synthetic
AUDIT := .audit
TRITON := .triton
REMADE := $(VENV) $(AUDIT) $(TRITON) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal

.PHONY: demo test test-thorough test-runtime test-triton test-slow attack soak lint train-demo ablations benchmark int8 engines
.PHONY: gpu-check mutation audit sbom licences clean distclean

demo: $(READY)
	@$(BIN)/afsd demo --out runs/demo

test: $(READY)
	@$(PYTEST) -m "not thorough and not slow and not gpu"

test-thorough: $(READY)
	@$(PYTEST) -m "thorough and not slow and not gpu"

test-runtime: $(READY)
	@$(PYTEST) -p tests.without_torch $(or $(ONLY),tests/runtime) -m "not thorough and not slow and not gpu"

test-triton: $(READY)
	@if [ $(TRITON)/ready -nt requirements-triton.txt ] || error=$$($(MAKE_TRITON) 2>&1); then \
		OMP_NUM_THREADS=1 $(BIN)/pytest -q -m thorough tests/runtime/triton; \
	else echo "Triton's tests skipped: its server cannot be installed here ($$(echo "$$error" | tail -n 1))"; fi

test-slow: $(READY)
	@$(BIN)/pytest -m "(slow or thorough) and not gpu"

attack: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.fuzz --minutes $(or $(MINUTES),60) --seed $(or $(SEED),1) --coverage

soak: $(READY)
	@AFSD_SOAK_MINUTES=$$((60 * $(or $(HOURS),2))) OMP_NUM_THREADS=1 $(BIN)/pytest -q -s -m slow \
		tests/runtime/live/test_soak.py

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

mutation: $(READY)
	@nice -n 10 $(BIN)/python -m tests.mutation --out runs/mutation

audit: $(READY)
	@if [ -x $(AUDIT)/bin/pip-audit ] || error=$$($(MAKE_AUDIT) 2>&1); then \
		$(BIN)/python -m tests.supply.audit $(AUDIT)/bin/pip-audit \
			requirements-dev.txt requirements-gpu.txt requirements-triton.txt requirements-audit.txt; \
	else echo "audit skipped: pip-audit cannot be installed here ($$(echo "$$error" | tail -n 1))"; fi

sbom: $(READY)
	@$(BIN)/python -m tests.supply.sbom build/sbom.cdx.json

licences: $(READY)
	@$(BIN)/python -m tests.supply.licences

train-demo: $(READY)
	@$(BIN)/python -m export.studies.train_demo --out $(RUN)

ablations: $(READY)
	@$(BIN)/python -m export.studies.ablations --out runs/ablations

benchmark: $(READY)
	@$(BIN)/python -m export.studies.speed --out runs/thumos14 --minutes $(or $(MINUTES),22) $(SCENE)

int8: $(READY)
	@$(BIN)/python -m calibration.method_table --out runs/int8

engines: $(READY)
	@$(BIN)/python -m export.studies.engine_table --out runs/engines

gpu-check: $(READY)
	@$(BIN)/python -m export.studies.gpu_check --gpu
	@$(PIP) --requirement requirements-gpu.txt
	@$(BIN)/python -m export.studies.gpu_check

# Videos of the benchmark are made of a real one where it lies beside the project, else of a synthetic one.
SCENE = $(addprefix --source ,$(wildcard ../shared/data/videos/street.mp4))
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check
MAKE_AUDIT = { $(PYTHON) -m venv --clear $(AUDIT) && $(AUDIT)/bin/python -m pip install -qq --disable-pip-version-check \
	--retries 0 --timeout 15 --requirement requirements-audit.txt; }
MAKE_TRITON = { rm -rf $(TRITON) && $(PIP) --retries 0 --timeout 15 --no-deps --target $(TRITON)/site \
	--requirement requirements-triton.txt && touch $(TRITON)/ready; }
ANSWERS := import os, sys, threading, urllib.request as u; t = threading.Timer(5, os._exit, (1,)); t.daemon = True; \
	t.start(); u.urlopen(sys.argv[1]).close()
CPU_TORCH = [ "$$(uname -s)" = Linux ] && [ -n "$(TORCH_INDEX)" ] && ! nvidia-smi -L >/dev/null 2>&1 && \
	$(BIN)/python -c '$(ANSWERS)' "$(TORCH_INDEX)/torch/" 2>/dev/null

# The environment is made anew when what it is made from is newer.
$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"needs Python 3.11 or newer, got {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@echo "setting up $(VENV), once: PyTorch, ONNX Runtime, OpenVINO, TensorRT-RTX and the tools of development."
	@echo "0.8 GB to download and 2.6 GB on disk with PyTorch for CPUs; a minute or two beside the download."
	@$(PYTHON) -m venv --clear $(VENV)
	@if $(CPU_TORCH); then \
		echo "no NVIDIA GPU here: PyTorch for CPUs from $(TORCH_INDEX)"; \
		$(PIP) --no-deps --index-url $(TORCH_INDEX) $$(grep '^torch==' requirements-dev.txt) \
		|| echo "it is not there: PyTorch's plain package, on Linux with 2 GB of CUDA more"; \
	else echo "PyTorch's plain package, which on Linux may bring 2 GB of CUDA more"; fi
	@$(PIP) --requirement requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)

clean:
	rm -rf $(REMADE)

distclean:
	@du -shc $(REMADE) runs/* 2>/dev/null || true
	@if [ "$(YES)" != 1 ]; then \
		echo "nothing is deleted yet; runs/ has what was trained here: make distclean YES=1 deletes all of this"; exit 1; fi
	rm -rf $(REMADE) runs
