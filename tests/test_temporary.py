"""Temporary folders of killed processes are removed by the next process, and nothing else is."""

import os
import platform
import shutil
import signal
from types import SimpleNamespace

import pytest

from tasks.errors import UserError
from xstilts.cli.arguments import RetrievalArguments
from xstilts.retrieve import measure, together
from xstilts.retrieve.cache import cached_embed
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.vectors import new_array
from xstilts.run import processes
from xstilts.run.files import folder_beside
from xstilts.run.temporary import temporary_folder


def left_by_a_killed_process(parent, prefix):
    """A temporary folder whose process has got SIGKILL."""
    before = set(parent.iterdir())
    if not (child := os.fork()):
        with temporary_folder(parent, prefix) as folder:
            (folder / "vectors.npy").write_bytes(b"0" * 2000)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left,) = set(parent.iterdir()) - before
    return left


def foreign(parent, prefix):
    """Folders that are not known to be a killed process's: without a lock, of another host, of no name, and of a
    killed run, which can go on."""
    for name, holder in {"mine": None, "far": "process 7 on elsewhere (since 2020)\n", "new": ""}.items():
        (parent / f"{prefix}{name}").mkdir()
        if holder is not None:
            (parent / f"{prefix}{name}/.lock").write_text(holder)
    (parent / f"{prefix}run/checkpoint-5").mkdir(parents=True)
    (parent / f"{prefix}run/.lock").write_text(f"process 4194305 on {platform.node()} (since 2020)\n")
    return {f"{prefix}{name}" for name in ("mine", "far", "new", "run")}


def test_only_what_a_killed_process_has_left_is_removed(tmp_path):
    left, stay = left_by_a_killed_process(tmp_path, "part-"), foreign(tmp_path, "part-")
    with temporary_folder(tmp_path, "part-") as running:
        assert not left.exists() and {path.name for path in tmp_path.iterdir()} == stay | {running.name}
        with temporary_folder(tmp_path, "part-") as second:
            assert running.is_dir() and second != running
    assert {path.name for path in tmp_path.iterdir()} == stay


@pytest.mark.parametrize("prefix", ["part-", "unit-", ".vectors-", ".encoder."])
def test_every_place_removes_its_own(prefix, tiny_model, tmp_path, monkeypatch):
    left, stay = left_by_a_killed_process(tmp_path, prefix), foreign(tmp_path, prefix)
    if prefix == "part-":
        cached_embed(Encoder.load(tiny_model), ["a sentence"], tmp_path)
    elif prefix == "unit-":
        vectors = Encoder.load(tiny_model).embed(["a sentence", "two"])[2]
        with measure._unit(RetrievalArguments(index="Flat", cache_dir=str(tmp_path)), vectors) as (unit,):
            assert unit.shape == vectors.shape
    elif prefix == ".vectors-":
        monkeypatch.setattr(processes, "world_size", lambda: 2)
        monkeypatch.setattr(processes, "broadcast", lambda value: value)
        with together.shared_cache(None, str(tmp_path)) as folder:
            assert os.path.isdir(folder)
    else:
        with folder_beside(tmp_path / "encoder") as folder:
            assert folder.is_dir()
    assert not left.exists() and {path.name for path in tmp_path.iterdir() if path.is_dir()} == stay


def test_a_full_disk_names_what_others_have_left(tmp_path, monkeypatch):
    foreign(tmp_path, "part-")
    (tmp_path / "part-far/layer1.npy").write_bytes(b"0" * 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with temporary_folder(tmp_path, "part-") as part, pytest.raises(UserError, match=r"part-far \(2\.000 MB\)"):
        new_array(part / "layer1.npy", (10, 10))
