# The question with XLM-R base: rows from the Hub, five seeds. One GPU; checked as a plan, not run here (docs/protocol.md).
# A run is 6,250 steps of 32 rows, 200,000 rows: of XNLI some 7 million tokens in English, of SQuAD 38 million, of text 51 million; 20 arms
# and 5 seeds are 2.4 billion. With masked LM's head that is 58 GPU-hours at 20,000 tokens a second of your GPU, 25 at 50,000 (estimated,
# docs/scaling.md): python benchmarks/scaling.py PRESET=question-base --model xlm-r-base --tokens_per_second ...
MODEL ?= FacebookAI/xlm-roberta-base
DATA_ROOT ?= hub
# MUSE's lexicons (en-de.txt ...), which are not on the Hub: docs/retrieval.md
LEXICON ?= data/lexicons
ARMS ?= none xnli xnli+multilingual xnli+cross xnli+hybrid xnli+codeswitched xnli+shuffled xnli+translated+lora xnli+mlm squad squad+multilingual squad+cross squad+hybrid squad+shuffled pawsx pawsx+multilingual pawsx+cross squad_dual squad_dual+multilingual mlm mlm_en
TARGETS ?=
RETRIEVAL ?= tatoeba
SEEDS ?= 0 1 2 3 4
QUESTION ?= recipes/question/base.yaml
# XNLI's languages, also for the text; for SQuAD and PAWS those with translations
TRAIN_LANGUAGES ?= en ar bg de el es fr hi ru sw th tr ur vi zh
FAMILY_squad ?= --train_languages en ar de el es hi ru th tr vi zh
FAMILY_squad_dual ?= $(FAMILY_squad) --per_device_train_batch_size 64 --max_seq_length 256
FAMILY_pawsx ?= --train_languages en de es fr ja ko zh
ARGS_xnli+codeswitched ?= --switch_languages ar bg de el es fr hi ru th tr vi zh
INTERMEDIATE_ARGS ?= --learning_rate 1e-5 --max_train_samples 100000 --max_steps 6250 --per_device_train_batch_size 32 --warmup_steps 0.1 \
  --weight_decay 0.01 --save_strategy steps --save_steps 1000
RETRIEVAL_ARGS ?= --layer all --report_layer 7 --center language --csls 10 --languages \
  af ar he vi id jv tl eu ml ta te nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu cs da sv nb ca sk hr
