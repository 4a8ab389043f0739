# make quickstart   a virtual environment, a small GPT tuned on Pushkin, and samples of it
# make test         a virtual environment, the tests
# make test-slow    the quickstart in full, two processes, fifty architectures: minutes
# make faults       hundreds of runs killed, blocked and damaged: ten minutes
# make architectures  every causal architecture, tiny, beside stock transformers: half an hour; writes its table
# make tutorial   runs docs/tutorial/ and writes what it prints into it, and docs/gptft.ipynb; minutes
# make fuzz         generated configs, runs and models for ten minutes
# make bench-startup  seconds from command to answer
# make bench-prepare  text -> blocks beside other pipelines: speed, memory; minutes
# make bench-tokens    counting a corpus beside bare fastokens; a minute
# make bench-generate  gptft generate beside a bare model.generate; two minutes
# make bench-checkpoints  a save and a resume beside the stock Trainer's; two minutes
# make bench-train    a training step on a CPU beside the stock one; a minute
# make bench-train-peer   gptft train beside run_clm.py's Trainer: speed, memory; half an hour
# make bench-plan   what gptft plan says beside what gptft train takes, six models; minutes
# make bench-pack   data.packing: best_fit beside stream: time, and how full blocks are
# make bench-recite   what is recited of one poem and of twelve, and after how many steps; minutes
# make bench-pico   the bundled model beside compressors, and what it writes; needs CORPUS=PATH
# make pictures     the pictures of the README, from real runs; needs Chromium
# make site         the documentation as a site, in build/site/html
# make check        what .ci/run runs: tests, lint, types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow faults fuzz architectures tutorial bench-startup bench-prepare bench-tokens bench-generate bench-checkpoints bench-train bench-train-peer bench-plan bench-pack bench-recite bench-pico pictures site lint types check clean

quickstart: $(VENV)/.installed
	$(BIN)/gptft train configs/quickstart.yaml --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults

architectures: $(VENV)/.installed-dev
	$(BIN)/python -m tests.architectures --write

tutorial: $(VENV)/.installed-dev
	$(BIN)/python -m tests.tutorial

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz

bench-startup: $(VENV)/.installed
	$(BIN)/python benchmarks/startup.py

bench-prepare: $(VENV)/.installed
	$(BIN)/python benchmarks/prepare.py

bench-tokens: $(VENV)/.installed
	$(BIN)/python benchmarks/count_tokens.py

bench-generate: $(VENV)/.installed
	$(BIN)/python benchmarks/generate.py

bench-checkpoints: $(VENV)/.installed
	$(BIN)/python benchmarks/checkpoints.py

bench-train: $(VENV)/.installed
	$(BIN)/python benchmarks/train.py

bench-train-peer: $(VENV)/.installed
	$(BIN)/python benchmarks/train_commands.py

bench-plan: $(VENV)/.installed
	$(BIN)/python benchmarks/plan.py

bench-pack: $(VENV)/.installed
	$(BIN)/python benchmarks/pack.py

bench-recite: $(VENV)/.installed
	$(BIN)/python benchmarks/recite.py

CORPUS ?= corpus/ru-classics

bench-pico: $(VENV)/.installed
	$(BIN)/python benchmarks/held_out.py --corpus $(CORPUS)
	$(BIN)/python benchmarks/writing.py --corpus $(CORPUS)

pictures: $(VENV)/.installed-dev
	$(BIN)/python -m tests.pictures

site: $(VENV)/.installed-dev
	$(BIN)/pip install -q zensical
	PATH="$(BIN):$$PATH" $(BIN)/python docs/build_site.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

check: test lint types

# pip is silent for minutes where it unpacks torch: on a terminal a dot a second says that it works.
define install
echo "Installing gptft and its libraries into $(VENV), a few minutes the first time" >&2; \
if [ -t 2 ]; then (while sleep 1; do printf . >&2; done) & dots=$$!; else dots=; fi; \
trap 'kill $$dots 2>/dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(1); code=$$?; \
test -z "$$dots" || echo >&2; exit $$code
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "gptft needs Python 3.11 or newer; $$($(PYTHON) --version) is too old." \
	       "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python could not make a virtual environment. On Debian or Ubuntu:" \
	       "apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@$(call install,-e .)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@$(call install,-e '.[dev]')
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
