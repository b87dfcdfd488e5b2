"""recipes/accelerate/gpu-8-fsdp2.yaml names no class of layers: the trainer names that of the model it gets."""

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from conftest import ROOT
from transformers import AutoModelForMaskedLM, TrainingArguments

from tests.architectures import LAYERS, PAGE, build
from xstilts.train.trainers import TaskTrainer

# models whose layers are not found so, as docs/where-to-run.md says: ALBERT has one layer, used again and again; XLM
# has a list for each part of a layer
OTHERS = ["albert", "xlm"]


def models() -> list[str]:
    """Every model type that docs/models.md has with a masked-LM head."""
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [row[1].strip(" `") for row in rows if row[3].strip() == "ok"]


@pytest.mark.parametrize("name", sorted({*models()} - {*OTHERS}))
def test_each_layer_is_a_unit(name, tmp_path, monkeypatch):
    build(name, tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    monkeypatch.setattr(AcceleratorState, "fsdp_plugin", plugin, raising=False)
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none")
    TaskTrainer(model=model, args=arguments)
    plugin.set_auto_wrap_policy(model)  # as accelerate does when it shards the model
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    assert any(len(layers) == LAYERS and all(type(layer) in wrapped for layer in layers) for layers in lists)


def test_the_page_names_the_others():
    page = (ROOT / "docs" / "where-to-run.md").read_text(encoding="utf-8")
    assert f"For {', '.join(OTHERS)} and dual encoders" in page
