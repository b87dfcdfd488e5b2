"""Translate sentences with any seq2seq checkpoint."""

from __future__ import annotations

import functools
from typing import Any

from tasks import languages as codes
from tasks.errors import UserError, first_line
from xstilts.checkpoint.tokenizer import refuse_empty

LENGTH = 512  # maximum input in tokens, if the tokenizer has no lower limit
# counted sentences: the translation was stopped before its end; the input was too long and was cut
COUNTS = ("stopped", "shortened")


@functools.cache
def load(name: str, revision: str, dtype: str) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a checkpoint, on the GPU if there is one. Cached: all languages share it.

    Raises:
        UserError: it does not load as a seq2seq model, has a PEFT adapter beside it, or has no tokenizer.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from xstilts.checkpoint.encoder import check_plain

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        model = AutoModelForSeq2SeqLM.from_pretrained(name, revision=revision, dtype=precision)
    except Exception as error:
        raise UserError(f"{name}: does not load as a seq2seq model ({first_line(error)}).") from error
    check_plain(name, model)
    refuse_empty(tokenizer, name)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


class Translator:
    """A translator of one pair of languages: `translator(texts)` returns (translations, counts of COUNTS).

    Args:
        name: the checkpoint, a folder or a Hub id; revision: of a Hub id; dtype: "fp32" or "bf16".
        named: words ours=theirs, what the model calls languages.
        prefix: text before every input, with {source} and {target} for the languages' English names.
        batch_size: in sentences.

    Raises:
        UserError: the checkpoint does not load, or does not know a language by this code.
    """

    def __init__(
        self,
        name: str,
        source: str,
        target: str,
        *,
        revision: str,
        dtype: str,
        named: list[str],
        prefix: str,
        batch_size: int,
        num_beams: int,
    ) -> None:
        self.model, self.tokenizer = load(name, revision, dtype)
        self.batch_size, self.num_beams = batch_size, num_beams
        self.source, self.options = language_options(self.tokenizer, source, target, named)
        self.prefix = prefix.format(source=codes.ud_name(source), target=codes.ud_name(target))
        self.limit = min(self.tokenizer.model_max_length, LENGTH)

    def fits(self, text: str) -> bool:
        """Return whether the model takes the whole text."""
        return len(self.tokenizer(self.prefix + text)["input_ids"]) <= self.limit

    def __call__(self, texts: list[str]) -> tuple[list[str], dict[str, int]]:
        import torch

        if self.source:
            self.tokenizer.src_lang = self.source
        done, counts = [""] * len(texts), dict.fromkeys(COUNTS, 0)
        counts["shortened"] = sum(not self.fits(text) for text in texts)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # batches of one length
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            inputs = self.tokenizer(
                [self.prefix + texts[i] for i in chosen],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self.limit,
            ).to(self.model.device)
            inputs.pop("token_type_ids", None)
            room = min(2 * inputs["input_ids"].shape[1] + 16, LENGTH)
            with torch.inference_mode():
                found = self.model.generate(
                    **inputs, num_beams=self.num_beams, do_sample=False, max_new_tokens=room, **self.options
                )
            counts["stopped"] += int((found[:, 1:] != self.tokenizer.eos_token_id).all(1).sum())
            for i, text in zip(chosen, self.tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
                done[i] = text.strip()
        return done, counts


def named_languages(pairs: list[str]) -> dict[str, str]:
    """Return {our code: the model's code} from --language_codes.

    Raises:
        UserError: a word has another form than ours=theirs, or a language is repeated.
    """
    names: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise UserError(f"--language_codes {pair}: expected ours=theirs, e.g. de=deu_Latn.")
        if names.setdefault(codes.normalize(ours), theirs) != theirs:
            raise UserError(
                f"--language_codes {pair}: {ours} is also named {names[codes.normalize(ours)]!r}. Give one of them."
            )
    return names


def language_options(tokenizer: Any, source: str, target: str, given: list[str]) -> tuple[str | None, dict[str, int]]:
    """Return (the tokenizer's name of the source, arguments of `generate` for the target).

    A model of one pair of languages needs neither: (None, {}).

    Raises:
        UserError: the model has no such language.
    """
    names = named_languages(given)
    if not hasattr(tokenizer, "src_lang"):
        if names:
            raise UserError("--language_codes: this model has no languages to choose from; leave them out.")
        return None, {}
    ids = {}
    for code in (source, target):
        name = names.get(code, code)
        found = language_id(tokenizer, name)
        if found is None:
            raise UserError(
                f"--language_codes: the model does not know {code} as {name!r}; give its code, e.g. {code}=deu_Latn."
            )
        ids[code] = found
    return names.get(source, source), {"forced_bos_token_id": ids[target]}


def language_id(tokenizer: Any, name: str) -> int | None:
    """Return the id of the token that names a language; None if the tokenizer has no such token.

    Neither an ordinary piece of its vocabulary, such as "de" in NLLB, nor a token such as </s> is one: the translation
    would begin with it.
    """
    if hasattr(tokenizer, "get_lang_id"):  # M2M100 writes its codes as __de__
        try:
            return tokenizer.get_lang_id(name)
        except KeyError:
            return None
    named = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens} - set(tokenizer.special_tokens_map.values())
    return tokenizer.convert_tokens_to_ids(name) if name in named else None
