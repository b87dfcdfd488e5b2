"""Load rows from the Hub at a commit. Rows that are in the cache at that commit are read without a request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError, one_line

if TYPE_CHECKING:
    import httpx2
    from datasets import Dataset, DatasetBuilder
    from huggingface_hub import HfApi

logger = logging.getLogger("xstilts")
ATTEMPTS = 3  # to load a config; what was downloaded before is kept
TIMEOUT = 60.0  # seconds without an answer from the Hub


def load(source: str, config: str, split: str, revision: str | None) -> tuple[Dataset, str]:
    """Return the rows of one split of a dataset repository, and the commit that they are from.

    The datasets library falls back to any cached commit when a download fails. Here only the commit that was asked
    for counts.

    Args:
        source: the Hub id.
        split: the split, with a slice in the Hub's syntax.
        revision: a commit or branch; None: what `main` is now. Offline, the commit that the branch was last.

    Raises:
        UserError: the Hub refuses or does not answer, or has no such config or split; says what to type.
    """
    name = f"{source} (config {config}, split {split}, revision {revision or 'main'})"
    try:
        commit = client(TIMEOUT).resolve_revision(source, repo_type="dataset", revision=revision).resolved
        builder = cached(source, config, commit) or _download(source, config, commit)
        return builder.as_dataset(split=split), commit
    except Exception as error:
        raise UserError(f"Could not load {name} from the Hub: {advice(error, source)}") from error


def load_file(url: str, split: str, cut: str = "") -> Dataset:
    """Return the rows of a CSV or JSON file on the web. It is downloaded once: a URL names a commit.

    In JSON the rows are the objects below "data", as in SQuAD's files.

    Raises:
        UserError: the file cannot be downloaded or read.
    """
    from datasets import DownloadConfig, DownloadManager, load_dataset

    kind = "csv" if url.endswith(".csv") else "json"
    try:
        path = DownloadManager(download_config=DownloadConfig(use_etag=False, max_retries=ATTEMPTS)).download(url)
        options = {"field": "data"} if kind == "json" else {}
        return load_dataset(kind, data_files={split: path}, split=split + cut, **options)
    except Exception as error:
        raise UserError(
            f"Could not load {url}: {one_line(error)} Without a network give --data_root FOLDER."
        ) from error


def client(timeout: float) -> HfApi:
    """Return the Hub's client with a timeout in seconds; by default it has none for most calls."""
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def with_timeout() -> httpx2.Client:
        client = default_client_factory()
        client.timeout = timeout
        return client

    set_client_factory(with_timeout)
    return HfApi()


def cached(source: str, config: str, commit: str) -> DatasetBuilder | None:
    """Return the builder of a config that the datasets library has prepared at this commit; None if it has not."""
    from datasets.packaged_modules.cache.cache import Cache

    name = source.rpartition("/")[2]
    builder = Cache(repo_id=source, dataset_name=name, config_name=config, version="0.0.0", hash=commit)
    return builder if Path(builder.cache_dir).is_dir() else None


def _download(source: str, config: str, commit: str) -> DatasetBuilder:
    """Download and prepare a config. A busy Hub is waited for, and a broken download goes on where it was."""
    from datasets import load_dataset_builder
    from huggingface_hub.errors import OfflineModeIsEnabled

    for attempt in range(ATTEMPTS):
        try:
            _check_access(source, commit)
            builder = load_dataset_builder(source, config, revision=commit)
            if builder.hash != commit:
                raise ConnectionError(f"the Hub stopped answering, and the cache has only commit {builder.hash}")
            builder.download_and_prepare()
            return builder
        except OfflineModeIsEnabled:
            raise
        except OSError as error:
            if attempt == ATTEMPTS - 1 or not _may_pass(error):
                raise
            logger.warning("%s (config %s): %s Trying again.", source, config, one_line(error))
    raise AssertionError("unreachable")


def _check_access(source: str, commit: str) -> None:
    """Raise huggingface_hub's own error if the repository cannot be read. Waits as long as a busy Hub (429) asks to.

    The datasets library hides such errors behind its cache.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    if constants.is_offline_mode():
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE=1 is set, and the cache does not have these rows at this commit.")
    url = hf_hub_url(source, "README.md", repo_type="dataset", revision=commit)
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, retry_on_errors=True)
    except EntryNotFoundError:
        pass  # a repository without a README can be read


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed: the connection broke, or the Hub is busy or has a fault of its own."""
    from huggingface_hub.errors import HfHubHTTPError

    status = next((e.response.status_code for e in causes(error) if isinstance(e, HfHubHTTPError)), 500)
    return status >= 500 or status == 429


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def advice(error: BaseException, repo: str, kind: str = "dataset") -> str:
    """Return what happened at the Hub, in one line, and what to type.

    Args:
        repo: the Hub id that was asked for.
        kind: dataset or model.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}"
    for cause in causes(error):
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else 0
        if isinstance(cause, GatedRepoError):
            return (
                f"it is gated ({status}). Accept its terms at {page}, then log in: `hf auth login`, or set HF_TOKEN."
            )
        if isinstance(cause, RepositoryNotFoundError):
            return (
                f"there is no {page} ({status}), or it is private. Check the name; for a private one log in: "
                "`hf auth login`, or set HF_TOKEN."
            )
        if isinstance(cause, RevisionNotFoundError):
            return f"it has no such revision ({status}). Its commits are at {page}/commits/main."
        if status == 429:
            wait = cause.response.headers.get("Retry-After") if isinstance(cause, HfHubHTTPError) else None
            return (
                f"too many requests (429). Wait{f' {wait} seconds' if wait else ''}, then repeat the command: "
                "what was downloaded is kept. `hf auth login` raises the limit."
            )
        if isinstance(cause, OfflineModeIsEnabled):
            return (
                "HF_HUB_OFFLINE=1 is set, and the cache does not have it. Run the same command once with a network "
                "and HF_HUB_OFFLINE=0, or give a folder."
            )
    if isinstance(error, OSError) or not isinstance(error, ValueError):
        return f"{one_line(error)} Without a network give {'--data_root FOLDER' if kind == 'dataset' else 'a folder'}."
    return one_line(error)  # no such config or split
