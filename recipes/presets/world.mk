# The default: a miniature world made by rule, and an encoder trained on its text. Runs anywhere, in minutes.
# A demonstration of the experiment, not evidence about human languages (docs/world.md).
DATA_ROOT ?= data/world
WORLD_ARGS ?= --seed 0
ARMS ?= none mnli squad hellaswag all squad_dual paraphrase_dual
TARGETS ?= xnli udpos tydiqa
RETRIEVAL ?= tatoeba bucc
SEEDS ?= 0 1 2
# the mixture of the arms above; give ARGS_all= for the recipe's own nine tasks
ARGS_all ?= --tasks mnli squad hellaswag --max_steps 500
# a row of HellaSwag is four texts, so one epoch takes longer than two of the others
ARGS_hellaswag ?= --num_train_epochs 1
# dual encoders train the vectors of the reported layer; few steps, because all other weights are trained too
ARGS_squad_dual ?= --learning_rate 1e-4 --max_steps 120 --layer 2 --freeze_embeddings False
ARGS_paraphrase_dual ?= $(ARGS_squad_dual)
MLM_ARGS ?= --config_name recipes/models/xlmr-tiny.json --vocab_size 2000 --mlm_probability 0.2 --learning_rate 2e-3 \
  --per_device_train_batch_size 32 --max_steps 4000 --warmup_steps 0.06 --adam_beta2 0.98 --save_steps 1000 --save_strategy steps --bf16 False
# at width 128 bf16 is no faster, and in fp32 machines differ less
INTERMEDIATE_ARGS ?= --learning_rate 3e-4 --num_train_epochs 2 --freeze_embeddings --max_seq_length 192 --bf16 False
TARGET_ARGS ?= --learning_rate 3e-4 --num_train_epochs 3 --freeze_embeddings --max_seq_length 192 --bf16 False
# its own 500 steps of warm-up would outlast the training
ARGS_tydiqa ?= --num_train_epochs 6 --warmup_steps 0.1
# English is at 99 then
ARGS_udpos ?= --num_train_epochs 2
RETRIEVAL_ARGS ?= --layer all --report_layer 2 --dtype fp32 --center language --csls 10
DEFAULT_JOBS ?= 2
