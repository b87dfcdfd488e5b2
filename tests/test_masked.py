"""Masked LM asks its output layer for the masked tokens alone: same loss and gradients, a fraction of the logits."""

from types import SimpleNamespace

import pytest
import torch

from tests import architectures
from xstilts.checkpoint import heads
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.train.masked import masked_tokens_alone
from xstilts.train.trainers import Masking, token_mean


def loss_and_gradients(model, batch, labels, alone):
    model.zero_grad()
    with masked_tokens_alone(model, labels if alone else None):
        logits = model(**batch).logits
    loss = token_mean({"logits": logits}, labels)
    loss.backward()
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, logits.shape


@pytest.mark.parametrize(
    "name",
    [
        "xlm-roberta",
        "bert",
        "distilbert",
        "deberta-v2",
        "rembert",
        "albert",
        "electra",
        "modernbert",
        "xlm",
        "gte",
    ],
)
def test_loss_and_gradients_are_those_of_all_logits(name, tmp_path):
    architectures.build(name, tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), mask=True)
    model = heads.masked_lm(str(tmp_path)).eval()
    rows = [tokenizer(text) for text in architectures.TEXTS[:4]]
    batch = dict(Masking(tokenizer, 0.3, 0)(rows))
    labels = batch.pop("labels")
    whole, gradients, shape = loss_and_gradients(model, batch, labels, False)
    loss, found, fewer = loss_and_gradients(model, batch, labels, True)
    assert shape[:2] == labels.shape and fewer == (int((labels != -100).sum()), shape[-1])
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    assert found.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-6)


def test_other_heads_are_left_alone(tmp_path):
    architectures.build("xlm-roberta", tmp_path)
    model = heads.fresh_head(
        SimpleNamespace(num_labels=3, labels=("a", "b", "c"), auto_class="AutoModelForTokenClassification"),
        str(tmp_path),
    )
    ids = torch.tensor([[0, 5, 6, 2]])
    with masked_tokens_alone(model, torch.tensor([[-100, 1, 2, -100]])):
        assert model(input_ids=ids).logits.shape == (1, 4, 3)
