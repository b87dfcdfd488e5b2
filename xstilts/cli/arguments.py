"""The arguments of the scripts as small dataclasses; `xstilts.cli.parsing` parses them. Imports nothing heavy."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tasks import RETRIEVAL

STARTED = time.time()  # about when this process began
POOLINGS = ("mean", "cls")
MEASURED_LENGTH = 512  # --max_seq_length of a measurement, if it is not given


@dataclass
class ModelArguments:
    """The checkpoint that a run starts from, and how it is loaded."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A folder or Hub id from_pretrained takes: the checkpoint this phase starts from."},
    )
    model_revision: str = field(default="main", metadata={"help": "Revision, if it is a Hub id."})
    freeze_embeddings: bool = field(default=False, metadata={"help": "Train everything but the embedding layer."})
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "eager, sdpa, padding_free, flash_attention_2 ...; default: transformers' choice."},
    )

    @property
    def loading(self) -> dict[str, Any]:
        """The keyword arguments that the loaders of `xstilts.checkpoint` take."""
        return {"revision": self.model_revision, "attention": self.attn_implementation}

    def settings(self) -> dict[str, Any]:
        """The settings that a training records beside its checkpoint; the attention only if the user set it."""
        attention = {"attn_implementation": self.attn_implementation} if self.attn_implementation else {}
        return {"freeze_embeddings": self.freeze_embeddings} | attention


@dataclass
class DataArguments:
    """The rows of a run."""

    data_root: str = field(default="hub", metadata={"help": "'hub', or a folder of rows laid out as data/world."})
    splits: list[str] = field(
        default_factory=list, metadata={"help": "Other source splits, e.g. hellaswag.train=validation[:8000]."}
    )
    benchmark: str = field(
        default="xtreme",
        metadata={"help": "Benchmark whose languages are read from the Hub.", "choices": ["xtreme", "xtreme-r"]},
    )
    languages: list[str] = field(
        default_factory=list, metadata={"help": "Score these only (two- or three-letter codes)."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": f"Tokens; default: the task's, {MEASURED_LENGTH} in run_retrieval.py."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first N examples only."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Score the first N examples of each language only."}
    )


@dataclass
class MixtureArguments:
    """What run_intermediate.py trains on."""

    tasks: list[str] = field(
        default_factory=list, metadata={"help": "One task, several (a mixture), or pairs (a dual encoder)."}
    )
    examples_cap: int | None = field(
        default=None, metadata={"help": "Mixture: count at most this many examples of each task."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Mixture: p ~ min(n, cap) ** (1 / temperature)."})
    mlm_rate: float = field(
        default=0.0,
        metadata={"help": "Masked LM alongside: its share of all steps. It adds steps, unless --max_steps is given."},
    )


@dataclass
class FamilyArguments:
    """Arguments that all arms of a family share, so that they train on the same rows (docs/arms.md)."""

    train_languages: list[str] = field(
        default_factory=list,
        metadata={
            "help": "The family's languages. Every arm, the English one too, trains on rows that all of them have."
        },
    )
    match_roundtrip: bool = field(
        default=False,
        metadata={"help": "Keep only rows with a round-trip translation. Give it to every arm if one is +roundtrip."},
    )
    translations: str | None = field(
        default=None,
        metadata={"help": "Folder of translated rows (python -m xstilts.translate), for what --data_root lacks."},
    )
    lexicon: str | None = field(
        default=None,
        metadata={"help": "Folder of en-de.txt (source TAB target) or en-de/train.parquet, for --code_switch."},
    )


@dataclass
class ChangeArguments:
    """What an arm does with rows, whatever is trained on them."""

    alpha: float = field(default=0.5, metadata={"help": "hybrid: the share in one language; the others are in two."})
    code_switch: str | None = field(
        default=None,
        metadata={
            "help": "Replace English words: one language a text, or drawn for each word.",
            "choices": ["bilingual", "multilingual"],
        },
    )
    switch_probability: float = field(default=0.5, metadata={"help": "Of replacing a word that is in the lexicon."})
    switch_languages: list[str] = field(
        default_factory=list,
        metadata={
            "help": "New languages; default: --train_languages, else all in the folder. bilingual: one, or one a text."
        },
    )
    switch_treebank: bool = field(
        default=False,
        metadata={
            "help": "Replace words as the code of arXiv 2305.05295 does: Treebank tokens, the first translation, "
            "tokens joined again (docs/retrieval.md)."
        },
    )
    skip_identities: bool = field(default=False, metadata={"help": "Skip entries whose two words are equal."})
    shuffle_labels: bool = field(
        default=False,
        metadata={"help": "Shuffle the labels (of pairs: the passages), as a control: training without label signal."},
    )


@dataclass
class ArmArguments(ChangeArguments):
    """What an arm of run_intermediate.py does with the rows of its tasks."""

    language_mode: str = field(
        default="english",
        metadata={
            "help": "multilingual: each train row in one of --train_languages; translated: the same, never English; "
            "cross: its two texts in two; hybrid: --alpha of the rows as multilingual; roundtrip: translated back.",
            "choices": ["english", "multilingual", "translated", "cross", "hybrid", "roundtrip"],
        },
    )
    number_of_languages: int | None = field(default=None, metadata={"help": "Required number of --train_languages."})


@dataclass
class TextArguments:
    """The text of masked LM."""

    text_languages: list[str] = field(
        default_factory=list,
        metadata={"help": "Languages of the text; default: --train_languages, else all there are."},
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    text_of: str | None = field(
        default=None,
        metadata={
            "help": "Instead of Wikipedia: the texts of this task's train rows, each in one of the text's languages, "
            "as the task's arms have them."
        },
    )


@dataclass
class PeftArguments:
    """The adapter to train in place of all weights."""

    peft: str | None = field(
        default=None,
        metadata={"help": "Train an adapter, and the head, in place of all weights.", "choices": ["lora"]},
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank of the update of each target."})
    lora_alpha: float | None = field(
        default=None, metadata={"help": "The update is scaled by alpha / rank; default: twice the rank."}
    )
    lora_targets: list[str] | None = field(
        default=None,
        metadata={
            "help": "Modules of the encoder to adapt, or all-linear; default: peft's choice for the model type, "
            "query and value for XLM-R."
        },
    )
    lora_dropout: float = field(default=0.1, metadata={"help": "Dropout before the update."})


@dataclass
class RetrievalArguments:
    """How run_retrieval.py measures."""

    tasks: list[str] = field(default_factory=list, metadata={"help": f"One or more of {', '.join(RETRIEVAL)}."})
    layer: str = field(default="last", metadata={"help": "k (hidden_states[k], 0 = embeddings), 'all' or 'last'."})
    report_layer: int | None = field(
        default=None,
        metadata={"help": "With --layer all: the headline layer, fixed before looking; default: the last."},
    )
    select_on: str | None = field(
        default=None,
        metadata={
            "help": "With --layer all: the headline layer is the best one on languages that "
            "are then not reported (tatoeba:ces,dan) or on a dev split (bucc:dev)."
        },
    )
    pooling: str | None = field(
        default=None,
        metadata={"help": "Default: the checkpoint's own, else the mean of all tokens.", "choices": [*POOLINGS]},
    )
    include_special: bool = field(
        default=True, metadata={"help": "Whether the mean counts <s> and </s>, as XTREME's does."}
    )
    query_side: str = field(
        default="english",
        metadata={
            "help": "Tatoeba, NTREX, FLORES: the side that the queries are from (XTREME: english).",
            "choices": ["english", "foreign"],
        },
    )
    pairs: str = field(
        default="english",
        metadata={
            "help": "NTREX, FLORES: each language with English, or also any two others (accuracy_without_english, at "
            "the headline layer).",
            "choices": ["english", "all"],
        },
    )
    center: str = field(
        default="none",
        metadata={
            "help": "Not BUCC: also report <metric>_centered, after subtracting each language's mean.",
            "choices": ["none", "language"],
        },
    )
    csls: int | None = field(
        default=None, metadata={"help": "Not BUCC: also report <metric>_csls with N neighbours (usually 10)."}
    )
    margin: str = field(
        default="ratio", metadata={"help": "BUCC: the margin score.", "choices": ["ratio", "distance", "absolute"]}
    )
    mining: str = field(
        default="max",
        metadata={
            "help": "BUCC: which candidates become pairs.",
            "choices": ["max", "forward", "backward", "intersect"],
        },
    )
    candidate_text: str = field(
        default="sentence",
        metadata={
            "help": "LAReQA: embed an answer alone, or with its paragraph, as lareqa_dual trains it.",
            "choices": ["sentence", "sentence_context"],
        },
    )
    dtype: str = field(
        default="auto",
        metadata={"help": "auto: bf16 where it is faster, otherwise fp32.", "choices": ["auto", "fp32", "bf16"]},
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Keep and reuse vectors here."})
    index: str | None = field(
        default=None,
        metadata={
            "help": "Tatoeba, BUCC: search with this faiss index, e.g. IVF4096,PQ64, when exact "
            "search takes long; its recall is measured. Needs --cache_dir."
        },
    )
    nprobe: int | None = field(default=None, metadata={"help": "--index: number of lists to search (default 16)."})
    index_candidates: int | None = field(
        default=None, metadata={"help": "--index: number of candidates that are then scored exactly (default 64)."}
    )
    export_sentence_transformers: str | None = field(
        default=None,
        metadata={"help": "Write this checkpoint, layer and pooling to a new folder SentenceTransformer loads."},
    )


@dataclass
class PairArguments:
    """What only the training of a dual encoder takes."""

    switch_side: str = field(
        default="both", metadata={"help": "Which texts to code-switch.", "choices": ["query", "passage", "both"]}
    )
    scale: float = field(default=20.0, metadata={"help": "Cosines are multiplied by it: 1 / temperature."})
    cached_loss_mini_batch: int | None = field(
        default=None, metadata={"help": "GradCache: texts encoded at a time, for large batches."}
    )
    query_prompt: str | None = field(
        default=None,
        metadata={
            "help": "Text before every query, e.g. 'query: ' for e5: in training, where it is kept with the model "
            "(default: none), and in measuring (default: what the checkpoint's sentence-transformers config has)."
        },
    )
    passage_prompt: str | None = field(default=None, metadata={"help": "Text before every passage, in the same way."})


@dataclass
class VectorArguments(PairArguments):
    """`PairArguments` of run_intermediate.py, and which vectors are trained."""

    layer: str = field(
        default="last", metadata={"help": "Pairs: train the vectors of this layer: k (hidden_states[k]), or 'last'."}
    )
    pooling: str = field(
        default="mean", metadata={"help": "Pairs: mean of all tokens, or the first.", "choices": [*POOLINGS]}
    )


@dataclass
class _OldArguments(ChangeArguments):
    """The words of run_retrieval.py --do_train, which settings in run.json and results.json keep."""

    do_train: bool = field(
        default=False,
        metadata={"help": "Deprecated, use run_intermediate.py --tasks: train a dual encoder instead of measuring."},
    )
    train_tasks: list[str] = field(default_factory=list, metadata={"help": "With --do_train: pairs, e.g. squad_dual."})
    batch_languages: str = field(
        default="mono",
        metadata={
            "help": "With --do_train: one of --train_languages a batch (multilingual in run_intermediate.py), query "
            "and passage in two, or both kinds; or English alone.",
            "choices": ["mono", "cross", "hybrid", "english"],
        },
    )


@dataclass
class DualEncoderArguments(PairArguments, _OldArguments):
    """The settings of a dual encoder's training."""


@dataclass
class RunArguments:
    """The folder, place in the matrix and Hub repository of a run."""

    output_dir: str | None = field(default=None, metadata={"help": "Folder for checkpoint, results.json and card."})
    arm: str | None = field(
        default=None,
        metadata={
            "help": "Name of phase 2 in the report; default: the arm of the checkpoint measured; for a training, that "
            "of its folder <arm>/seed<k>, else its tasks."
        },
    )
    seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of order, fresh heads and dropout; default: that of the checkpoint measured, else of the "
            "folder seed<k>, else 0."
        },
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Push the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to push to: name or namespace/name."})
    hub_private_repo: bool = field(default=False, metadata={"help": "Create that repository as private."})
    list_tasks: bool = field(default=False, metadata={"help": "Print the tasks and exit."})


@dataclass
class MeasurementArguments(RunArguments):
    """`RunArguments` of the scripts that measure a checkpoint."""

    plain_model: bool = field(
        default=False,
        metadata={"help": "The checkpoint is the plain model of a matrix, arm none, whatever its own record says."},
    )


# all that run_intermediate.py takes
PHASE_2 = (
    MixtureArguments,
    TextArguments,
    FamilyArguments,
    ArmArguments,
    VectorArguments,
    PeftArguments,
    ModelArguments,
    DataArguments,
    RunArguments,
)
