# Three commands, which do their own set-up: `make demo` shows what this is, `make check` says in two minutes whether
# a change is sound, `make test` whether it is right.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := bundles/vit_b16
SAMPLE := demo/sample.jpg
IMAGE ?= $(SAMPLE)

.PHONY: demo sound check test format clean gpu-check triton-check kernels

demo: $(VENV)/.demo
	@echo "== 1. The engine: GLASS on ViT-B/16 for the CPU. Its weights are UNTRAINED: no trained ones are published."
	@if [ -f $(ENGINE)/manifest.json ]; then echo "  $(ENGINE) is there already"; \
	  else $(BIN)/glass-rt build --backbone vit_b16 --backend onnxruntime; fi
	@echo "== 2. The image: $(IMAGE)"
	@if [ "$(IMAGE)" = "$(SAMPLE)" ] && [ ! -f $(SAMPLE) ]; then \
	  $(BIN)/python -m glass_bench.sample --megapixels 12 --seed 606 --output $(SAMPLE); fi
	@echo "== 3. The verdict, and its evidence picture"
	@start=$$(date +%s.%N); $(BIN)/glass-rt infer --engine $(ENGINE) --overlay demo "$(IMAGE)" && \
	  echo "  opening the engine and judging took $$(echo "$$(date +%s.%N) $$start" | awk '{printf "%.1f", $$1 - $$2}') s"

# Format, lint, types and the direction of imports; then the quick tests, or all of them.
sound: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: sound
	$(BIN)/python -m pytest -m "not slow and not ray and not browser and not trt"

test: sound
	$(BIN)/python -m pytest

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# On a machine with an NVIDIA GPU: builds, parity, soak and speed, into one report. Without network: see the script
# benchmarks/gpu_check_offline.sh.
gpu-check: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[tensorrt-rtx,cuda]'
	$(BIN)/python -m glass_bench.gpu.check --output gpu-check

# The model for Triton, with the real server and client. The server is the CPU build of Triton 24.10 that a Python
# package carries; its Python backend wants NumPy 1, so it gets an environment of its own (0.6 GB).
TRITON := .venv-triton
triton-check: $(VENV)/.dev $(TRITON)/.ready
	GLASS_RT_TRITON=$(TRITON) $(BIN)/python -m pytest tests/glass_rt/serve/triton

$(TRITON)/.ready: Makefile pyproject.toml
	test -x $(TRITON)/bin/python || $(PYTHON) -m venv $(TRITON)
	for packages in nvidia-pytriton==0.7.0 '--editable .[cpu]' 'numpy<2'; do \
	  $(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check $$packages || exit 1; done
	touch $@

# The kernels that are shipped compiled; needs nvcc of CUDA 13.
KERNELS := glass_rt/backends/cuda/kernels
kernels:
	cd $(KERNELS) && nvcc -O3 -fatbin -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_86,code=sm_86 \
	  -gencode=arch=compute_89,code=sm_89 -gencode=arch=compute_90,code=sm_90 \
	  '-gencode=arch=compute_120,code=[sm_120,compute_120]' -o views.fatbin views.cu

# Bundles stay: some may be built from checkpoints of yours.
clean:
	rm -rf $(VENV) $(TRITON) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.demo: pyproject.toml
	@echo "== 0. Installing into $(VENV) (once; PyTorch for the export stage is most of it: 5 GB, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,export]' && \
	  echo "  installed in $$(( $$(date +%s) - start )) s"
	@touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.demo
