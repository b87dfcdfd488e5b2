# Is phase 2 better in English or in several languages? A wider world, with languages that no arm has seen.
# A demonstration of the experiment, not evidence about human languages (docs/world.md, docs/arms.md): 57 trainings of 300 steps, 60 cells,
# and 8,000 steps for the model. How long it takes: docs/matrix.md.
DATA_ROOT ?= data/world9
WORLD_ARGS ?= --seed 0 --languages 9
TRANSLATIONS ?= data/world9-translated
LEXICON ?= $(DATA_ROOT)/bilingual-lexicons__world
# fixed before looking: seen and unseen languages both include SVO and verb-final ones, and different scripts. Unseen are
# qab qac qaf qag; the layer is chosen on qah and qai
TRAIN_LANGUAGES ?= en qaa qad qae
ARMS ?= none xnli xnli+multilingual xnli+cross xnli+hybrid xnli+codeswitched xnli+shuffled squad squad+multilingual squad+cross squad+hybrid squad+codeswitched squad+shuffled squad_dual squad_dual+multilingual squad_dual+cross squad_dual+hybrid squad_dual+codeswitched squad_dual+shuffled mlm
TARGETS ?=
RETRIEVAL ?= tatoeba
SEEDS ?= 0 1 2
QUESTION ?= recipes/question/world.yaml
MLM_ARGS ?= --config_name recipes/models/xlmr-tiny.json --vocab_size 3000 --mlm_probability 0.2 --learning_rate 2e-3 \
  --per_device_train_batch_size 32 --max_steps 8000 --warmup_steps 0.06 --adam_beta2 0.98 --save_steps 1000 --save_strategy steps --bf16 False
INTERMEDIATE_ARGS ?= --learning_rate 3e-4 --max_steps 300 --per_device_train_batch_size 32 --warmup_steps 0.1 --freeze_embeddings \
  --max_seq_length 192 --bf16 False --save_strategy no
# as in the preset world: dual encoders train the vectors of the reported layer
FAMILY_squad_dual ?= --learning_rate 1e-4 --layer 2 --freeze_embeddings False
RETRIEVAL_ARGS ?= --layer all --report_layer 2 --dtype fp32 --center language --csls 10
DEFAULT_JOBS ?= 2
