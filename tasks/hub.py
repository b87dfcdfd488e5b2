"""Load rows from the Hub at a commit. Rows that are in the cache at that commit are read without a request."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import UserError, file_for_folder, one_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

logger = logging.getLogger("xstilts")
ATTEMPTS = 3  # to load a config where the connection breaks, and 2 after a timeout; what was downloaded before is kept
PATIENCE = 5  # how often to wait for a busy Hub
LONGEST_WAIT = 600  # seconds; the Hub counts requests in windows of 5 minutes
TIMEOUT = 20.0  # seconds without an answer from the Hub, after which to give up a request
CONVERTED = "refs/convert/parquet"  # the branch on which the Hub itself converts a repository's files
_T = TypeVar("_T")


def load(source: str, config: str, split: str, revision: str | None) -> tuple[Dataset, str]:
    """Return the rows of one split of a dataset repository, and the commit that they are from.

    The datasets library falls back to any cached commit when a download fails. Here only the commit that was asked
    for counts.

    Args:
        source: the Hub id.
        revision: a commit or branch; None: what `main` is now. Offline: the commit cached for the branch.

    Raises:
        UserError: the Hub refuses or does not answer, or has no such config or split; says what to type.
    """
    name = f"{source} (config {config}, split {split}, revision {revision or 'main'})"
    try:
        return _patiently(lambda: _load(source, config, split, revision), f"{source} (config {config})")
    except Exception as error:
        raise UserError(f"Could not load {name} from the Hub: {advice(error, source)}") from error


def _load(source: str, config: str, split: str, revision: str | None) -> tuple[Dataset, str]:
    commit = client().resolve_revision(source, repo_type="dataset", revision=revision).resolved
    if revision == CONVERTED:
        return _load_converted(source, config, split, commit), commit
    builder = cached(source, config, commit) or _download(source, config, commit)
    return builder.as_dataset(split=split), commit


def load_file(url: str, split: str) -> Dataset:
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
        return load_dataset(kind, data_files={split: path}, split=split, **options)
    except Exception as error:
        raise UserError(
            f"Could not load {url}: {one_line(error)} Without a network give --data_root FOLDER."
        ) from error


def client(timeout: float | None = None) -> HfApi:
    """Return the Hub's client, and give every request of the Hub's library a timeout.

    By default most have none, and a listing asks for none: a Hub that does not answer would block the run forever.

    Args:
        timeout: seconds; None: `TIMEOUT`.
    """
    from huggingface_hub import HfApi, get_session, set_client_factory

    usual = get_session()
    hooks: list[Any] = [hook for hook in usual.event_hooks["request"] if not isinstance(hook, _Limit)]
    timeout = TIMEOUT if timeout is None else timeout

    def with_timeout() -> httpx.Client:
        # the library's own client, except for the timeout: its event hook keeps it offline if HF_HUB_OFFLINE is set
        every = {**usual.event_hooks, "request": [*hooks, _Limit(timeout)]}
        return type(usual)(event_hooks=every, follow_redirects=usual.follow_redirects, timeout=timeout)

    set_client_factory(with_timeout)
    return HfApi()


@dataclass(frozen=True)
class _Limit:
    """A hook that gives a request without a timeout one. A client's own does not hold if a request asks for none."""

    timeout: float

    def __call__(self, request: httpx.Request) -> None:
        if request.extensions.get("timeout", {}).get("read") is None:
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout)


def cached(source: str, config: str, commit: str) -> DatasetBuilder | None:
    """Return the builder of a config that the datasets library has prepared at this commit; None if it has not."""
    from datasets.packaged_modules.cache.cache import Cache

    name = source.rpartition("/")[2]
    builder = Cache(repo_id=source, dataset_name=name, config_name=config, version="0.0.0", hash=commit)
    return builder if Path(builder.cache_dir).is_dir() else None


def _download(source: str, config: str, commit: str) -> DatasetBuilder:
    """Download and prepare a config."""
    from datasets import load_dataset_builder

    check_access(source, commit)
    builder = load_dataset_builder(source, config, revision=commit)
    if builder.hash != commit:
        raise ConnectionError(f"the Hub stopped answering, and the cache has only commit {builder.hash}")
    builder.download_and_prepare()
    return builder


def _patiently(action: Callable[[], _T], name: str) -> _T:
    """Return what `action` returns. Wait for a busy Hub; continue a broken download where it stopped.

    huggingface_hub repeats downloads by itself, but asks only once for a commit or a listing.
    """
    from huggingface_hub.errors import RevisionResolutionError
    from huggingface_hub.utils import httpx

    failures = 0
    while True:
        try:
            return action()
        except (OSError, httpx.TransportError, RevisionResolutionError) as error:
            failures += 1
            wait = _pause(error, failures)
            if wait is None:
                raise
            logger.warning("%s: %s Trying again in %d s.", name, one_line(error), wait)
            sleep(wait)


def _pause(error: BaseException, failures: int) -> int | None:
    """Return the seconds to wait before another attempt; None if there is no point in one, or no more patience.

    Another attempt may help if the connection broke, or if the Hub is busy (429) or has a fault of its own (5xx).
    After a timeout there is one more: huggingface_hub may have tried several times by then.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import httpx

    answer = answer_of(error)
    if answer is not None and answer.status_code == 429:
        asked = seconds_to_wait(answer.headers)
        return asked if failures <= PATIENCE and asked <= LONGEST_WAIT else None
    refused = answer is not None and answer.status_code < 500
    silent = any(isinstance(e, httpx.TimeoutException) for e in causes(error))
    if refused or constants.is_offline_mode() or failures >= (2 if silent else ATTEMPTS):
        return None
    return 2 ** (failures - 1)


def seconds_to_wait(headers: Mapping[str, str]) -> int:
    """Return how long a busy Hub asks to wait: `Retry-After`, else the `t` of `ratelimit`, else a minute."""
    after, window = headers.get("Retry-After", ""), re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    return int(after) if after.isdigit() else int(window[1]) if window else 60


def _load_converted(source: str, config: str, split: str, commit: str) -> Dataset:
    """Return rows of the Hub's own conversion to parquet: ``<config>/<split>/0000.parquet``, without a README."""
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    pattern = f"{config}/{split}/*.parquet"
    folder = Path(snapshot_download(source, repo_type="dataset", revision=commit, allow_patterns=pattern))
    files = sorted(map(str, folder.glob(pattern)))
    if not files:
        raise ValueError(f"the branch {CONVERTED} has no {pattern}.")
    return load_dataset("parquet", data_files={split: files}, split=split)


def check_access(source: str, commit: str) -> None:
    """Raise huggingface_hub's own error if the repository cannot be read. The datasets library hides such errors."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    if constants.is_offline_mode():
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE=1 is set, and the cache does not have these rows at this commit.")
    url = hf_hub_url(source, "README.md", repo_type="dataset", revision=commit)
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except EntryNotFoundError:
        pass  # a repository without a README can be read


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def answer_of(error: BaseException) -> httpx.Response | None:
    """Return the answer with which the Hub refused a request; None if it did not answer."""
    from huggingface_hub.errors import HfHubHTTPError

    return next((cause.response for cause in causes(error) if isinstance(cause, HfHubHTTPError)), None)


def is_of_the_hub(error: BaseException) -> bool:
    """Whether the Hub refused, did not answer, or may not be asked (HF_HUB_OFFLINE=1): no fault of the files."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    kinds = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError)
    return any(isinstance(cause, kinds) for cause in causes(error))


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
    from huggingface_hub.utils import httpx

    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}"
    offline = constants.is_offline_mode() and kind == "model"  # transformers does not say so
    for cause in causes(error):
        if in_place := file_for_folder(cause):
            return in_place
        if isinstance(cause, OfflineModeIsEnabled) or offline:
            return (
                "HF_HUB_OFFLINE=1 is set, and the cache does not have it. Run the same command once with a network "
                "and HF_HUB_OFFLINE=0, or give a folder."
            )
        if not isinstance(cause, HfHubHTTPError):
            continue
        status = cause.response.status_code
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
            return (
                f"too many requests (429). Wait {seconds_to_wait(cause.response.headers)} seconds, then repeat the "
                "command: what was downloaded is kept. `hf auth login` raises the limit."
            )
        if kind == "model" and status in (401, 403):
            return f"the Hub refuses it ({status}). Look at {page}, then log in: `hf auth login`, or set HF_TOKEN."
    broken = next((e for e in causes(error) if isinstance(e, httpx.TransportError | HfHubHTTPError)), None)
    if kind == "model" and broken is not None:  # transformers hides it behind advice of its own
        return f"{one_line(broken)} Repeat the command: what was downloaded is kept. Without a network give a folder."
    if isinstance(error, OSError) or not isinstance(error, ValueError):
        return f"{one_line(error)} Without a network give {'--data_root FOLDER' if kind == 'dataset' else 'a folder'}."
    return one_line(error)  # no such config or split
