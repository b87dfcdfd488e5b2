"""--freeze_embeddings spares gradient and optimizer, a tied output layer too; checks of weights make no copies."""

import pytest
import torch
from conftest import ROOT
from torch.utils._python_dispatch import TorchDispatchMode

from xstilts.checkpoint import heads
from xstilts.checkpoint.encoder import all_finite


@pytest.mark.parametrize("head", ["xnli", "mlm"])
def test_frozen_embeddings_have_neither_gradient_nor_state(head, tiny_model, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import frozen

    whole, spared = (frozen.measure(str(tiny_model), head, way, 1, 8) for way in (False, True))
    embeddings = heads.masked_lm(str(tiny_model)).base_model.embeddings
    size = sum(weight.nbytes for weight in embeddings.parameters())
    assert whole["gradients"] - spared["gradients"] == size
    # two moments of each weight, and a step count of each tensor
    assert 2 * size <= whole["optimizer"] - spared["optimizer"] <= 2 * size + 8 * len(list(embeddings.parameters()))
    assert whole["weights"] == spared["weights"]


class Largest(TorchDispatchMode):
    """The most elements of a result within the block that is no view of `weight`."""

    def __init__(self, weight):
        super().__init__()
        self.own, self.elements = weight.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        made = [value for value in (found if isinstance(found, tuple) else [found]) if torch.is_tensor(value)]
        copies = [value.numel() for value in made if value.untyped_storage().data_ptr() != self.own]
        self.elements = max([self.elements, *copies])
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_weight_that_is_not_finite_is_found_without_a_copy(dtype, value, place):
    weight = torch.nn.Parameter(torch.randn(1000).to(dtype))
    weight.data[place] = value
    with Largest(weight) as largest:
        assert all_finite(weight) is (value == 1.0)
    assert largest.elements <= 2
    assert all_finite(torch.nn.Parameter(torch.empty(0)))
