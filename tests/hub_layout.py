"""Dataset repositories as the Hub has them: a README with `configs:`, parquet shards, commits and branches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml
from pyarrow import parquet

LFS = (".parquet", ".safetensors", ".bin", ".gz", ".zip", ".arrow")


def under_lfs(path: str) -> bool:
    """Whether the Hub keeps a file under LFS (it would by .gitattributes; here by its suffix)."""
    return path.endswith(LFS)


@dataclass
class Repository:
    """The files of each commit, and the branches, {name: commit}. Attributes may be given as {revision: files}."""

    revisions: Mapping[str, dict[str, bytes]]
    commits: dict[str, dict[str, bytes]] = field(init=False)
    branches: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.commits, self.branches = {}, {}
        for revision, files in self.revisions.items():
            self.add(revision, files)

    def add(self, revision: str, files: dict[str, bytes]) -> str:
        """Add a commit, named by its 40 digits, or made for a branch. The first commit is `main` too."""
        whole = len(revision) == 40 and set(revision) <= set("0123456789abcdef")
        commit = revision if whole else digest(files)
        self.commits[commit] = files
        self.branches.setdefault("main", commit)
        if not whole:
            self.branches[revision] = commit
        return commit

    def commit_of(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None

    def files(self, commit: str) -> dict[str, bytes]:
        return self.commits[commit]

    def split(self, address: str) -> tuple[str, str]:
        """(revision, path) of ``<revision>/<path>``; a branch's name may hold slashes."""
        for revision in sorted(self.branches, key=len, reverse=True):
            if address == revision or address.startswith(f"{revision}/"):
                return revision, address[len(revision) + 1 :]
        revision, _, path = address.partition("/")
        return revision, path


def digest(files: Mapping[str, bytes]) -> str:
    """A commit's name: the same files have the same."""
    parts = (f"{path}\0{hashlib.sha256(files[path]).hexdigest()}" for path in sorted(files))
    return hashlib.sha1("\n".join(parts).encode()).hexdigest()


def dataset(configs: Mapping[str, Mapping[str, Iterable[bytes]]], default: str = "") -> dict[str, bytes]:
    """The files of a repository.

    Args:
        configs: {config: {split: parquet shards}}.
        default: the config that is marked as such.
    """
    files: dict[str, bytes] = {}
    card = []
    for config, splits in configs.items():
        entries = []
        for split, shards in splits.items():
            shards = list(shards)
            for number, shard in enumerate(shards):
                files[f"{config}/{split}-{number:05d}-of-{len(shards):05d}.parquet"] = shard
            entries.append({"split": split, "path": f"{config}/{split}-*"})
        card.append({"config_name": config, "data_files": entries} | ({"default": True} if config == default else {}))
    readme = f"---\n{yaml.safe_dump({'license': 'other', 'configs': card}, sort_keys=False)}---\n# Rows\n"
    return {".gitattributes": b"*.parquet filter=lfs\n", "README.md": readme.encode(), **files}


def rows_of(shard: bytes) -> int:
    import pyarrow as pa

    return parquet.ParquetFile(pa.BufferReader(shard)).metadata.num_rows
