# question-human from a second starting point: the same encoder after masked LM, as the paper starts from a masked LM. Two commands:
#   make question PRESET=question-human ARMS=mlm_xnli+multilingual SEEDS=0
#   make question PRESET=question-human-mlm
# The first trains it for 200 steps of masked LM on the sentences of XNLI in 14 languages, which are in no NTREX row. Afterwards its top layer
# finds 4 of 100 sentences instead of 90. Question, arms and the primary contrast are question-human's; family nli alone, three seeds.
MODEL ?= runs/question-human/mlm_xnli+multilingual/seed0
ARMS ?= none xnli xnli+multilingual
SEEDS ?= 0 1 2
SEEDS_none ?= 0 1 2
SEEDS_xnli ?= 0 1 2
SEEDS_xnli+multilingual ?= 0 1 2
include recipes/presets/question-human.mk
