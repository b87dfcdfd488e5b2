"""The tiny world's rows, laid out on the stand-in under the ids, configs and revisions that the task adapters name.

Columns, types and names of labels are the Hub's. The invented languages stand for real ones, which the Hub's configs
are named after.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, List
from pyarrow import parquet

from tasks import TASKS, get_task
from tasks import languages as codes
from tasks.hub import CONVERTED
from tests.hub_layout import Repository, dataset, digest
from tests.hub_server import Hub

AS = {"qaa": "de", "qab": "sw"}  # the language that an invented one stands for
NLI = ["entailment", "neutral", "contradiction"]
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()
NER = "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC".split()
# the names of the Hub's ClassLabels: (folder, config's beginning) -> {column: names}
LABELS: dict[tuple[str, str], dict[str, list[str]]] = {
    ("facebook__xnli", ""): {"label": NLI},
    ("facebook__anli", ""): {"label": NLI},
    ("stanfordnlp__snli", ""): {"label": NLI},
    ("nyu-mll__glue", "mnli"): {"label": NLI},
    ("nyu-mll__glue", "qqp"): {"label": ["not_duplicate", "duplicate"]},
    ("nyu-mll__glue", "rte"): {"label": ["entailment", "not_entailment"]},
    ("google-research-datasets__paws-x", ""): {"label": ["0", "1"]},
    ("aps__super_glue", ""): {"label": ["choice1", "choice2"]},
    ("google__xtreme", "udpos"): {"pos_tags": UPOS},
    ("google__xtreme", "PAN-X"): {"ner_tags": NER},
    ("unimelb-nlp__wikiann", ""): {"ner_tags": NER},
}
Configs = dict[str, dict[str, list[dict]]]  # {config: {split: rows}}


def revisions() -> dict[str, str | None]:
    """{Hub id: the revision that the adapters pin} of every source that is loaded from the Hub."""
    from tasks.text import Wikipedia

    sources = [source for name in TASKS for source in get_task(name).sources] + list(Wikipedia().sources)
    return {source.id: source.revision for source in sources if not source.files}


def fill(hub: Hub, world: Path, shards: int = 2) -> None:
    """Lay out everything in the world on the stand-in."""
    sources = {folder.name: _configs(folder) for folder in sorted(world.iterdir()) if folder.is_dir()}
    sources |= _derived(sources)
    pins = revisions()
    for name, configs in sources.items():
        source = name.replace("__", "/")
        if source not in pins:
            continue
        made = {
            config: {split: _shards(name, config, rows, shards) for split, rows in splits.items()}
            for config, splits in configs.items()
        }
        if pins[source] == CONVERTED:
            files = {
                f"{config}/{split}/{number:04d}.parquet": shard
                for config, splits in made.items()
                for split, several in splits.items()
                for number, shard in enumerate(several)
            }
            script = f"{source.partition('/')[2]}.py"
            hub.datasets[source] = Repository({"main": {script: b"import datasets\n"}, CONVERTED: files})
        else:
            files = dataset(made)
            hub.datasets[source] = Repository({pins[source] or digest(files): files})
    # a loading script, which nothing can load any more
    hub.datasets["allenai/social_i_qa"] = Repository({"main": {"social_i_qa.py": b"import datasets\n"}})
    _web(hub, sources)


def _configs(folder: Path) -> Configs:
    """The world's rows of one id, under the names that the Hub's configs have."""
    found: Configs = {}
    for config in sorted(path for path in folder.iterdir() if path.is_dir()):
        splits = {path.stem: parquet.read_table(path).to_pylist() for path in sorted(config.glob("*.parquet"))}
        if splits:
            found[_hub_config(folder.name, config.name)] = splits
    if "tydiqa" in folder.name:
        for rows in found["secondary_task"].values():
            for row in rows:  # the id's first word is the language's English name, which the Hub writes in lower case
                code, _, rest = row["id"].partition("-")
                row["id"] = f"{codes.ud_name('fi').lower() if code in AS else code}-{rest}"
    if folder.name in ("mteb__NTREXBitextMining", "mteb__FloresBitextMining"):
        for rows in found["default"].values():
            for row in rows:
                for code, real in AS.items():
                    row[codes.flores_code(real)] = row.pop(code)
    return found


def _hub_config(folder: str, config: str) -> str:
    for code, real in AS.items():
        if folder == "cambridgeltl__xcopa":
            real = "it" if code == "qaa" else real  # it has no German
        name: Callable[[str], str] = {
            "mteb__tatoeba-bitext-mining": codes.tatoeba_code,
            "facebook__belebele": codes.flores_code,
            "Davlan__sib200": codes.flores_code,
        }.get(folder, str)
        if folder == "google__xtreme" and config == f"udpos.{code}":
            # it has no Swahili
            return f"udpos.{codes.ud_name('fi' if real == 'sw' else real)}"
        config = config.replace(code, name(real))
    return config


def _derived(sources: dict[str, Configs]) -> dict[str, Configs]:
    """What the Hub has, and the world has not: the same rows in other columns."""
    made = {}
    xtreme = dict(sources["google__xtreme"])
    xtreme["XNLI"] = {
        split: [
            {
                "language": language,
                "sentence1": row["premise"],
                "sentence2": row["hypothesis"],
                "gold_label": NLI[row["label"]],
            }
            for language in ("en", "de")
            for row in sources["facebook__xnli"][language][split]
        ]
        for split in ("validation", "test")
    }
    for language in ("en", "de"):
        paws = sources["google-research-datasets__paws-x"][language]
        xtreme[f"PAWS-X.{language}"] = {
            split: [
                {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": str(row["label"])}
                for row in rows
            ]
            for split, rows in paws.items()
        }
        xtreme[f"XQuAD.{language}"] = sources["google__xquad"][f"xquad.{language}"]
    xtreme["tydiqa"] = sources["google-research-datasets__tydiqa"]["secondary_task"]
    xtreme["tatoeba.deu"] = {
        "validation": [
            {
                "source_sentence": row["sentence1"] + "\n",
                "target_sentence": row["sentence2"] + "\n",
                "source_lang": "deu",
                "target_lang": "eng",
            }
            for row in sources["mteb__tatoeba-bitext-mining"]["deu-eng"]["test"]
        ]
    }
    made["google__xtreme"] = xtreme
    made["unimelb-nlp__wikiann"] = {
        code: {
            split: [row | {"spans": []} for row in sources["google__xtreme"]["PAN-X.en"][split]]
            for split in ("train", "validation", "test")
        }
        for code in ("lt", "qu")
    }
    made["juletxara__xquad_xtreme"] = {
        "de": {
            f"translate_{split}": sources["rajpurkar__squad"]["plain_text"][other]
            for split, other in (("train", "train"), ("dev", "validation"))
        }
    }
    nested = dict(sources["facebook__xnli"])
    both = [nested["en"], {"train": nested["en"]["train"], **nested["de"]}]  # the world's train split is English
    nested["all_languages"] = {
        split: [
            {
                "premise": {"en": a["premise"], "de": b["premise"]},
                "hypothesis": {"language": ["en", "de"], "translation": [a["hypothesis"], b["hypothesis"]]},
                "label": a["label"],
            }
            for a, b in zip(*(splits[split] for splits in both), strict=True)
        ]
        for split in ("train", "validation", "test")
    }
    made["facebook__xnli"] = nested
    return made


def _shards(folder: str, config: str, rows: list[dict], number: int) -> list[bytes]:
    """The rows as the parquet files that `Dataset.push_to_hub` would write, with the names of the labels in them."""
    data = Dataset.from_list(rows)
    features = dict(data.features)
    for (name, start), columns in LABELS.items():
        for column, labels in columns.items():
            if folder == name and config.startswith(start):
                feature = ClassLabel(names=labels)
                features[column] = List(feature) if column.endswith("_tags") else feature
    data = data.cast(Features(features))
    parts = [data.shard(number, i, contiguous=True) for i in range(min(number, len(data)))]
    return [_bytes(part) for part in parts]


def _bytes(data: Dataset) -> bytes:
    stream = io.BytesIO()
    data.to_parquet(stream)
    return stream.getvalue()


def _web(hub: Hub, sources: dict[str, Configs]) -> None:
    """The files that are read from GitHub: Cosmos QA as CSV, LAReQA as SQuAD's nested JSON."""
    for name, split in (("train", "train"), ("valid", "validation")):
        rows = sources["allenai__cosmos_qa"]["default"][split]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        revision = get_task("cosmosqa").sources[0].revision
        hub.web[f"wilburOne/cosmosqa/raw/{revision}/data/{name}.csv"] = text.getvalue().encode()
    source = get_task("lareqa").sources[0]
    for language in ("en", "de", "sw"):
        rows = sources["lareqa__xquad-r"][language]["test"]
        titles: dict[str, list] = {}
        for row in rows:
            titles.setdefault(row["title"], []).append({k: v for k, v in row.items() if k != "title"})
        articles = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in titles.items()]
        path = f"google-research-datasets/lareqa/raw/{source.revision}/xquad-r/{language}.json"
        hub.web[path] = json.dumps({"data": articles, "version": "1.1"}).encode()
