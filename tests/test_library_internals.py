"""Private parts of libraries are used in xstilts/train/library_internals.py alone, and are what it was written for."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors import safe_open
from sentence_transformers import SentenceTransformerTrainer
from transformers import BertConfig, PreTrainedModel, Trainer, TrainingArguments, trainer_optimizer
from transformers.training_args import OptimizerNames

import tasks.fingerprint
import xstilts
from xstilts.train import library_internals, training_checks

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*(ROOT / "xstilts").rglob("*.py"), *(ROOT / "tasks").rglob("*.py"), *ROOT.glob("run_*.py")]
LIBRARIES = (
    "transformers",
    "torch",
    "accelerate",
    "peft",
    "datasets",
    "sentence_transformers",
    "faiss",
    "huggingface_hub",
)
# what else is used, and where: of the standard library, and datasets' cache key, which tasks/ needs
ALLOWED = {
    ("xstilts/run/endings.py", "_exit"),
    ("xstilts/cli/words.py", "_SubParsersAction"),
    ("xstilts/cli/words.py", "_actions"),
    ("xstilts/cli/words.py", "_option_string_actions"),
    ("tasks/fingerprint.py", "_fingerprint"),
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def own_names(trees):
    """Private names that the project itself defines: functions, classes, variables, attributes of self."""
    names = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    names.add(node.attr)
    return names


def test_no_other_module_uses_private_names_of_a_library():
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
    own, found = own_names(trees.values()), set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                of_super = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
                if of_super or node.attr not in own:
                    found.add((path, node.attr))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARIES):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                found |= {(path, part) for part in parts if is_private(part)}
    assert {use for use in found if use[0] != "xstilts/train/library_internals.py"} == ALLOWED


def our_classes():
    """(name, class, the classes of libraries that it inherits from) of every class of ours."""
    for info in pkgutil.walk_packages(xstilts.__path__, "xstilts."):
        for name, cls in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(cls) and cls.__module__ == info.name:
                yield name, cls, [base for base in cls.__mro__ if base.__module__.startswith(LIBRARIES)]


def test_no_other_class_sets_a_private_attribute_of_a_library():
    found = set()
    for name, cls, of_libraries in our_classes():
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))) if of_libraries else ():
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_private(node.attr):
                found |= {(name, node.attr) for base in of_libraries if hasattr(base, node.attr)}
    assert found == set()


def test_a_model_of_parts_is_saved_with_its_tied_weights_once(tmp_path):
    """`set_tied_weights`: save_pretrained refuses tensors that share memory and are not named as tied."""
    config = BertConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, max_length=8
    )

    class Parts(PreTrainedModel):
        def __init__(self):
            super().__init__(config)
            self.one = torch.nn.Linear(4, 4)
            self.other = torch.nn.Linear(4, 4)
            self.other.weight = self.one.weight
            library_internals.set_tied_weights(self, {"other.weight": "one.weight"})

    Parts().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {"one.weight", "one.bias", "other.bias"}


def test_no_other_class_overrides_a_private_method_of_a_library():
    found = set()
    for name, cls, of_libraries in our_classes():
        for method, value in vars(cls).items():
            if is_private(method) and inspect.isfunction(value) and any(method in vars(base) for base in of_libraries):
                found.add((name, method))
    assert found == set()


def test_trainers_load_a_checkpoint_by_the_method_that_we_replace(tmp_path):
    """`CheckpointLoading`: train(folder) calls _load_from_checkpoint(folder, ...)."""
    for trainer in (Trainer, SentenceTransformerTrainer):
        first, *_ = list(inspect.signature(trainer._load_from_checkpoint).parameters)[1:]
        assert first in ("resume_from_checkpoint", "checkpoint_path")
    assert SentenceTransformerTrainer.train is Trainer.train

    class Loaded(Exception):
        pass

    class Ours(library_internals.CheckpointLoading, Trainer):
        def load_checkpoint(self, folder):
            raise Loaded(folder)

    (tmp_path / "trainer_state.json").write_text('{"global_step": 1, "max_steps": 2}')
    args = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none")
    data = Dataset.from_dict({"x": [[0.0], [1.0]]})
    with pytest.raises(Loaded, match=tmp_path.name):
        Ours(model=torch.nn.Linear(1, 1), args=args, train_dataset=data).train(str(tmp_path))


def test_the_optimizers_that_need_the_model_are_those_of_the_library():
    """transformers has no public list of them."""
    handlers, names = trainer_optimizer._OPTIMIZER_HANDLERS, {}
    for name, handler in handlers.items():
        names.setdefault(handler.__name__, set()).add(name.value)
    low_rank = names["_get_galore_optimizer"] | names["_get_apollo_optimizer"]
    everything = {name.value for name in OptimizerNames}
    assert {name for name in everything if name.startswith(training_checks.LOW_RANK)} == low_rank
    need_model = low_rank | names["_get_lomo_optimizer"]
    assert {name for name in everything if name.startswith(training_checks.NEED_MODEL)} == need_model


def test_one_gpu_is_used_where_several_are_visible(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    args._n_gpu = 4
    assert args.n_gpu == 4 and args.train_batch_size == 4 * args.per_device_train_batch_size
    library_internals.use_one_gpu(args)
    assert args.n_gpu == 1 and args.train_batch_size == args.per_device_train_batch_size


def test_the_cache_key_of_rows_changes_with_them_and_with_nothing_else():
    rows = Dataset.from_dict({"x": [1, 2]})
    assert tasks.fingerprint.rows_key(rows) == tasks.fingerprint.rows_key(rows)
    assert tasks.fingerprint.rows_key(rows) != tasks.fingerprint.rows_key(rows.select([0]))
    assert tasks.fingerprint.rows_key(rows.select([0])) == tasks.fingerprint.rows_key(rows.select([0]))
