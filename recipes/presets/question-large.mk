# The primary contrast alone with XLM-R Large, three seeds; otherwise as question-base. Not run here.
# 12 trainings of 8 million tokens: 3.2 GPU-hours if your GPU trains 10,000 tokens a second, 1.4 at 30,000, in some 10 GiB (estimated,
# docs/scaling.md): python benchmarks/scaling.py PRESET=question-large --tokens_per_second ...
MODEL ?= FacebookAI/xlm-roberta-large
ARMS ?= none xnli xnli+multilingual xnli+cross xnli+shuffled
TARGETS ?=
RETRIEVAL ?= tatoeba
SEEDS ?= 0 1 2
QUESTION ?= recipes/question/large.yaml
INTERMEDIATE_ARGS ?= --learning_rate 1e-5 --max_train_samples 100000 --max_steps 6250 --per_device_train_batch_size 8 \
  --gradient_accumulation_steps 4 --warmup_steps 0.1 --weight_decay 0.01 --save_strategy steps --save_steps 1000
RETRIEVAL_ARGS ?= --layer all --report_layer 14 --center language --csls 10 --languages \
  af ar he vi id jv tl eu ml ta te nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu cs da sv nb ca sk hr
include recipes/presets/question-base.mk
