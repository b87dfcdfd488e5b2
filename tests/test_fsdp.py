"""recipes/accelerate/gpu-8-fsdp2.yaml names no class of layers: accelerate finds that of the models below."""

import re

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from conftest import ROOT
from transformers import AutoModelForMaskedLM

from tests.architectures import LAYERS, build

# transformers names the layers (`_no_split_modules`) of these; docs/where-to-run.md says what to type for the others
FOUND = "bert camembert ernie eurobert gte jina_embeddings_v3 modernbert nomic_bert roberta xlm-roberta xlm-roberta-xl"


@pytest.mark.parametrize("name", FOUND.split())
def test_each_layer_is_a_unit(name, tmp_path):
    build(name, tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    assert any(len(layers) == LAYERS and all(type(layer) in wrapped for layer in layers) for layers in lists)


def test_the_page_names_these_models():
    page = (ROOT / "docs" / "where-to-run.md").read_text(encoding="utf-8")
    assert re.split(", | and ", re.search(r"It says so of (.+?) \(", page)[1]) == FOUND.split()
