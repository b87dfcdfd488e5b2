"""Export one layer of a checkpoint, without training, as a folder that SentenceTransformer loads."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from xstilts.cli.arguments import MEASURED_LENGTH
from xstilts.errors import UserError
from xstilts.retrieve.embedding import Encoder
from xstilts.run import card, card_metadata
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


def check_new_folder(folder: str | Path) -> Path:
    """Return the path. Raise UserError if it exists and is not an empty folder."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not empty: give another folder, or remove it.")
    return path


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
    out = check_new_folder(out_dir)
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


def export(encoder: Encoder, layer: int, folder: str, prompts: dict[str, str] | None = None) -> None:
    """Write an encoder, cut after a layer, as a folder that SentenceTransformer loads, with its prompts and a card.

    Raises:
        UserError: see `export_sentence_transformers`; or the encoder's checkpoint is none.
    """
    from huggingface_hub import ModelCardData

    name, length = str(encoder.checkpoint), encoder.max_length
    export_sentence_transformers(name, layer, encoder.pooling, folder, length, encoder.revision, prompts)
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
    write_text(Path(folder, "README.md"), text)
    write_text(Path(folder, "LICENSE.md"), card.licence(parent, name, parents))
    logger.info("Wrote %s", folder)
