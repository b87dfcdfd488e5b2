# The paper's size: XLM-R Large, rows from the Hub. The settings of phases 2 and 3 are those of jiant, the authors' own
# code; what the paper itself used is unconfirmed (docs/protocol.md). Needs a GPU, and days: docs/scaling.md
# estimates hours and memory.
MODEL ?= FacebookAI/xlm-roberta-large
DATA_ROOT ?= hub
ARMS ?= none mnli squad hellaswag all
TARGETS ?= xnli udpos xquad tydiqa
RETRIEVAL ?= tatoeba
SEEDS ?= 0
INTERMEDIATE_ARGS ?= --learning_rate 1e-5 --num_train_epochs 3 --per_device_train_batch_size 8 --gradient_accumulation_steps 4 \
  --warmup_steps 0.1 --weight_decay 0.01 --max_seq_length 256
TARGET_ARGS ?= --learning_rate 1e-5 --per_device_train_batch_size 8 --gradient_accumulation_steps 4 --warmup_steps 0.1 --weight_decay 0.01
ARGS_squad ?= --max_seq_length 384
ARGS_squad_v2 ?= --max_seq_length 384
# without ccg, whose rows are not on the Hub (python run_intermediate.py --tasks ccg says where they come from)
ARGS_all ?= --tasks anli_plus mnli qqp squad squad_v2 hellaswag cosmosqa csqa
ARGS_pawsx ?= --num_train_epochs 5 --max_seq_length 256
ARGS_panx ?= --num_train_epochs 10 --max_seq_length 256
ARGS_mlqa ?= --num_train_epochs 2 --gradient_accumulation_steps 2
ARGS_xnli ?= --num_train_epochs 2 --max_seq_length 256
ARGS_udpos ?= --num_train_epochs 10 --max_seq_length 256
ARGS_xquad ?= --num_train_epochs 2 --gradient_accumulation_steps 2
ARGS_tydiqa ?= --num_train_epochs 2 --gradient_accumulation_steps 2
RETRIEVAL_ARGS ?= --layer 14 --max_seq_length 512
