"""Export one layer of a checkpoint, without training, as a folder that SentenceTransformer loads."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import UserError
from tasks.reading import read_object
from tasks.rows import sha256
from xstilts.cli.arguments import MEASURED_LENGTH, DataArguments, RetrievalArguments
from xstilts.cli.privacy import public
from xstilts.cli.unused import BESIDE_SELECTION
from xstilts.retrieve.embedding import Encoder
from xstilts.run import card, card_metadata
from xstilts.run import settings as kept
from xstilts.run.checks import then_and_now
from xstilts.run.files import folder_beside, obey_umask, write_text
from xstilts.run.record import chain

logger = logging.getLogger("xstilts")

CARD = """---
{front}
---

# {title}

`{model}` as a sentence encoder: layer {layer}, {pooling} pooling, at most {length} tokens a text. Written by X-STILTs;
nothing was trained.

Chain: {chain}

```python
{usage}
```

Vectors of untrained layers lie close together and keep an offset of each language: compare them by cosine, and look at
the scores of the checkpoint itself before relying on them.
"""


NOTE = "export.json"  # what an export was made with, and digests of its files
# Settings of a measurement that leave an export as it is: always, and where the layer is not chosen on rows
BESIDE = BESIDE_SELECTION | {"candidate_text", "languages"}
OF_ROWS = {f.name for kind in (RetrievalArguments, DataArguments) for f in dataclasses.fields(kind)} - {
    *("layer", "report_layer", "select_on", "pooling", "max_seq_length")
}


def check_new_folder(folder: str | Path | None) -> None:
    """Raise UserError if `folder` exists, is not an empty folder, and holds no export of ours (see `to_write`)."""
    if folder is not None and not Path(folder, NOTE).is_file():
        _refuse_occupied(Path(folder))


def _refuse_occupied(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not empty: give another folder, or remove it.")


def to_write(folder: str | None, settings: Mapping[str, Any]) -> str | None:
    """Return the folder to export to; None if there is none, or if it holds the same export.

    Args:
        settings: those of a measurement, as `cells.settings_of` returns them.

    Raises:
        UserError: the folder holds something else: an export with other settings or of other rows, or a file of it
            has changed.
    """
    check_new_folder(folder)
    if folder is None or not Path(folder, NOTE).is_file():
        return folder
    advice = "Give another folder, or remove it."
    found = read_object(Path(folder, NOTE), f", so what {folder} holds is unknown. {advice}")
    then, now = found.get("settings", {}), _own(settings)
    known = [key for key in now | then if key != "model_files" or key in then]  # older versions lack it
    if differ := [key for key in known if then.get(key) != now.get(key)]:
        raise UserError(f"{folder} was exported with other arguments ({then_and_now(then, now, differ)}). {advice}")
    if reason := kept.changed_rows(dict(settings), found.get("data", [])):
        raise UserError(f"{folder} was exported before: {reason} since. {advice}")
    files, here = found.get("files", {}), _digests(Path(folder))
    if other := next((name for name in files if files[name] != here.get(name)), None):
        raise UserError(f"{Path(folder, other)} is not as it was exported. {advice}")
    logger.info("%s is exported; nothing to do.", folder)
    return None


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an export depends on, paths by their last part."""
    beside = BESIDE if settings["select_on"] else BESIDE | OF_ROWS
    return kept.by_name({name: value for name, value in settings.items() if name not in beside})


def _digests(folder: Path) -> dict[str, str]:
    """Return {path: SHA-256} of an export's files. Its card may be edited."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path) for path in files if path.name not in (NOTE, "README.md")}


def export_sentence_transformers(
    checkpoint: str | Path,
    layer: str | int,
    pooling: str,
    out_dir: str | Path,
    max_length: int = MEASURED_LENGTH,
    revision: str = "main",
    prompts: dict[str, str] | None = None,
) -> None:
    """Write `out_dir` so that `SentenceTransformer(out_dir).encode(sentences)` gives our vectors to 1e-5.

    The mean counts special tokens. The encoder is cut after `layer`, so AutoModel loads the folder too. A model that
    normalises before each layer keeps one more layer, and the folder reads `hidden_states[layer]`: a shorter model
    would apply its last norm to that layer. The folder is written whole or not at all, without a card.

    Args:
        layer: "last" or a number.

    Raises:
        UserError: `out_dir` exists and is not empty or cannot be written, the layer does not exist, or
            sentence-transformers computes other vectors for this model.
    """
    _export(checkpoint, layer, pooling, out_dir, max_length, revision, prompts, lambda folder: None)


def _export(
    checkpoint: str | Path,
    layer: str | int,
    pooling: str,
    out_dir: str | Path,
    max_length: int,
    revision: str,
    prompts: dict[str, str] | None,
    finish: Callable[[Path], None],
) -> None:
    """`export_sentence_transformers`; `finish` adds files to the folder before it gets its name."""
    out = Path(out_dir)
    _refuse_occupied(out)
    encoder = Encoder.load(
        checkpoint, layers=layer, pooling=pooling, max_length=max_length, device="cpu", revision=revision
    )
    if len(encoder.layers) != 1:
        raise UserError(f"layer={layer!r}: a sentence encoder has one layer: give 'last' or a number.")
    check = ["a short sentence", "a sentence that has a few more words than the first one"]
    expected = encoder.embed(check, desc="check of the export")[encoder.layers[0]]
    with folder_beside(out) as temporary:
        _save(encoder, temporary, prompts or {})
        vectors = _encode(temporary / "whole", check)
        if not np.allclose(vectors, expected, rtol=0, atol=1e-4 * np.abs(expected).max()):
            kind = encoder.model.config.model_type
            raise UserError(
                f"{checkpoint}: a {kind} model cannot be exported: sentence-transformers computes other vectors."
            )
        obey_umask(*temporary.glob("whole/*.safetensors"))
        finish(temporary / "whole")
        if out.exists():
            out.rmdir()
        os.replace(temporary / "whole", out)


def _save(encoder: Encoder, folder: Path, prompts: dict[str, str]) -> None:
    """Write the sentence-transformers folder to `folder`/whole.

    The library reads the encoder from a plain checkpoint of the cut model, so that it finds no unused key to report.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from xstilts.checkpoint.encoder import load_without_pooler, pooling_layer, quiet
    from xstilts.checkpoint.layers import hidden_state

    plain = folder / "plain"
    layer = encoder.cut.save(plain)
    encoder.tokenizer.save_pretrained(plain)
    with quiet():
        transformer = Transformer(str(plain), model_kwargs=pooling_layer(encoder.model.config, False))
        if layer is not None:
            transformer.modality_config = hidden_state(layer)
        transformer.max_seq_length = encoder.max_length
        module = Pooling(encoder.model.config.hidden_size, pooling_mode=encoder.pooling)
        model = SentenceTransformer(modules=[transformer, module], device="cpu", prompts=prompts)
        model.save(str(folder / "whole"), create_model_card=False)  # `export` writes one
    load_without_pooler(folder / "whole", encoder.model.config)


def _encode(folder: Path, sentences: list[str]) -> np.ndarray:
    """Return the vectors that sentence-transformers computes with a folder."""
    from sentence_transformers import SentenceTransformer

    from xstilts.checkpoint.encoder import quiet

    with quiet():
        return SentenceTransformer(str(folder), device="cpu").encode(sentences, show_progress_bar=False)


def export(
    encoder: Encoder,
    layer: int,
    folder: str,
    prompts: dict[str, str],
    settings: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
) -> None:
    """Write an encoder, cut after a layer, as a folder that SentenceTransformer loads, with its prompts and a card.

    Args:
        settings: as for `to_write`.
        data: records of the rows that the layer was chosen on.

    Raises:
        UserError: see `export_sentence_transformers`; or the encoder's checkpoint is none.
    """
    from huggingface_hub import ModelCardData

    name, length = str(encoder.checkpoint), encoder.max_length
    parent, parents = card_metadata.parent_of(name), chain(name)
    front = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        base_model=parent.base_model,
        datasets=parent.datasets or None,
        tags=["sentence-transformers", "feature-extraction", card_metadata.TAG],
        **card_metadata.LICENCE,
    )
    text = CARD.format(
        front=front.to_yaml(),
        title=f"Sentence vectors of {parent.title}",
        model=Path(name).name if Path(name).exists() else name,
        layer=layer,
        pooling=encoder.pooling,
        length=length,
        chain=" -> ".join(f"`{part}`" for part in parents),
        usage=card.VECTORS,
    )

    def finish(whole: Path) -> None:
        write_text(whole / "README.md", text)
        write_text(whole / "LICENSE.md", card.licence(parent, name, parents))
        note = {"settings": _own(settings), "data": public(data), "files": _digests(whole)}
        write_text(whole / NOTE, kept.as_json(note))

    _export(name, layer, encoder.pooling, folder, length, encoder.revision, prompts, finish)
    logger.info("Wrote %s", folder)
