# Three commands, which do their own set-up: `make demo` shows what this is, `make check` says in two minutes whether
# a change is sound, `make test` whether it is right.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := bundles/vit_b16
SAMPLE := demo/sample.jpg
IMAGE ?= $(SAMPLE)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.NOTPARALLEL: # targets install into one environment

.PHONY: demo first-minute main-job sound check test attack docs coverage format clean gpu-check triton-check kernels \
  container-check arm-check

# $(call timed,WHAT,COMMAND): runs the command and says how long it took. A comma would end an argument.
WITH_EXPORT := '.[cpu,export]'
timed = @start=$$(date +%s); $(2) && echo "  ($(1): $$(( $$(date +%s) - start )) s)"

demo: first-minute main-job

first-minute: $(VENV)/.runtime
	@echo "== 1. GLASS and a model that sees only the resized image judge two pictures"
	$(call timed,both models built and both pictures judged,$(BIN)/python -m glass_bench.demo.twins --output demo)

main-job: $(VENV)/.demo
	@echo "== 3. GLASS on ViT-B/16, as an engine for the CPU. Its weights are UNTRAINED: no trained ones are published."
	@echo "  glass-rt build --backbone vit_b16 --backend onnxruntime"
	@if [ -f $(ENGINE)/manifest.json ]; then echo "  $(ENGINE) is there already"; else start=$$(date +%s); \
	  $(BIN)/glass-rt build --backbone vit_b16 --backend onnxruntime && echo "  (built: $$(( $$(date +%s) - start )) s)"; fi
	@echo "== 4. One image: $(IMAGE)"
	@if [ "$(IMAGE)" = "$(SAMPLE)" ] && [ ! -f $(SAMPLE) ]; then \
	  $(BIN)/python -m glass_bench.sample --megapixels 12 --seed 606 --output $(SAMPLE); fi
	@echo "  glass-rt infer --engine $(ENGINE) --overlay demo $(IMAGE)"
	$(call timed,engine opened and image judged,$(BIN)/python -m glass_bench.demo.untrained --engine $(ENGINE) --output demo "$(IMAGE)")

# Two processes: one leaves a core idle half of the time. A file's tests stay together, since they share what is built.
# A process that dies ends the run, which would wait for its tests for ever.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --max-worker-restart 0
QUICK := not slow and not ray and not browser and not trt and not attack
# Format, lint, types and the direction of imports; then the quick tests, or all of them.
sound: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: sound
	$(PYTEST) -m "$(QUICK)"

test: sound
	$(PYTEST)

# The manual as a site, in build/site. A warning is an error.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Which lines the quick tests run, measured and not judged; an HTML report lies in build/coverage. It takes longer than
# the tests alone.
coverage: $(VENV)/.dev
	mkdir -p build && $(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "$(QUICK)"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage html --quiet

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The attacks with far more trials than `make test` makes; on the loopback interface alone.
ATTACK_TRIALS ?= 5000
attack: $(VENV)/.dev
	GLASS_RT_ATTACK_TRIALS=$(ATTACK_TRIALS) $(BIN)/python -m pytest tests/attack

# On a machine with an NVIDIA GPU: the CUDA path step by step, into one report. Engines (step 8) are those of the library
# that GPU_EXTRAS installs, and TensorRT for RTX where there are wheels of it. Without network: see the script
# benchmarks/gpu_check_offline.sh. GPU_CHECK: options of the kit, such as --resume.
GPU_EXTRAS ?= cuda,jpeg
gpu-check: $(VENV)/.dev
	$(PIP) --editable '.[$(GPU_EXTRAS)]'
	$(BIN)/python -m glass_bench.gpu.check --output gpu-check $(GPU_CHECK)

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

# The container for CPUs, built by buildah without an engine, and its `infer` and `serve`: as root; five minutes, 3 GB of
# disk. Of the bundle BUNDLE, or the first one under bundles/.
container-check:
	deploy/check_container.sh $(BUNDLE)

# The bundle BUNDLE on 64-bit ARM, emulated, compared with this machine: as root; half an hour.
arm-check: $(VENV)/.runtime
	PYTHON=$(BIN)/python PYTHONPATH=benchmarks deploy/check_arm.sh $(BUNDLE)

# The kernels that are shipped compiled; needs nvcc of CUDA 13.
KERNELS := glass_rt/backends/cuda/kernels
# T4; A100; A10, RTX 30; Orin; L4, L40S, RTX 40; H100, H200; B200; B300; Thor; RTX 50. Others get by with the code that
# a driver makes for them of compute_75's, or of compute_120's.
SMS := 75 80 86 87 89 90 100 103 110 120
kernels:
	cd $(KERNELS) && nvcc -O3 -fatbin $(foreach sm,$(SMS),-gencode=arch=compute_$(sm),code=sm_$(sm)) \
	  -gencode=arch=compute_75,code=compute_75 -gencode=arch=compute_120,code=compute_120 -o views.fatbin views.cu

# Bundles stay: some may be built from checkpoints of yours.
clean:
	rm -rf $(VENV) $(TRITON) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.runtime: pyproject.toml
	@echo "== 0. Installing the runtime into $(VENV): about 110 MB to download"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call timed,installed,$(PIP) --editable '.[cpu]')
	@touch $@

# The sizes are those on Linux x86-64, where PyTorch brings the libraries of CUDA.
$(VENV)/.demo: $(VENV)/.runtime
	@echo "== 2. Installing the export stage, which is mostly PyTorch: about 3.0 GB to download, 5.5 GB installed; minutes"
	$(call timed,installed,$(PIP) --editable $(WITH_EXPORT))
	@touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.runtime $(VENV)/.demo
