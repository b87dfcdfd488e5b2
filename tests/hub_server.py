"""A stand-in for the Hugging Face Hub on the loopback: it answers what `datasets`, `transformers` and
`huggingface_hub` ask.

Repositories are held in memory. A pushed commit changes them, and what was pushed can be loaded again. It can also
refuse, stay silent, be slow, cut a download and demand a token.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep  # not through the module: tests replace `time.sleep`
from typing import TYPE_CHECKING, Any

from tests.hub_layout import Repository, under_lfs

if TYPE_CHECKING:
    import pytest
    from huggingface_hub import HfApi

TOKEN = "hf_secretsecretsecret"


class Hub:
    """The server, what it holds and what was asked of it.

    Attributes:
        repositories: {name: {path: content}} of model repositories, at their newest commit.
        datasets: {name: `Repository`} of dataset repositories, with their revisions.
        web: {path: content} of other web pages, such as GitHub's files, below ``url + "/web"``.
        calls: (method, path) of every call; `tokens`: the Authorization headers; `cdn_tokens`: those that the host
            of big files got.
        files: the last pushed content of each path, in any repository; `sent`: the pushed paths in their order.
        refuse: {part of a call's path: status, or (status, headers)}.
        limit: {part of a path: [how often, headers]}: 429 that often.
        silent: part of a path that is never answered; `slow`: {part of a path: seconds}.
        cut: {part of a path: how often}: the connection breaks after half of a file.
        private, gated: names of repositories that ask for `TOKEN`; gated ones refuse other accounts with 403.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.refuse: dict[str, Any] = {}
        self.limit: dict[str, list] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.datasets: dict[str, Repository] = {}
        self.web: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.tokens: set[str | None] = set()
        self.cdn_tokens: set[str | None] = set()
        self.silent: str | None = None
        self.slow: dict[str, float] = {}
        self.cut: dict[str, int] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # big files come from another host, as the real ones do: the client then sends it no token
        self.cdn = f"http://localhost:{self.server.server_port}/cdn"
        # `close` waits for the next poll
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Return the environment of a process that takes this server for the Hub and keeps its cache in `home`."""
        kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_DATASETS_OFFLINE")}
        return (
            kept
            | {
                "HF_ENDPOINT": self.url,
                "HF_HOME": str(home),
                "HF_DATASETS_CACHE": f"{home}/datasets",
                "HF_HUB_CACHE": f"{home}/hub",
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1",
                "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            }
            | ({"HF_TOKEN": token} if token else {})
        )

    def asked(self, part: str) -> list[tuple[str, str]]:
        """Return the calls whose path has `part`."""
        return [call for call in self.calls if part in call[1]]

    def repository(self, kind: str, name: str) -> Repository | None:
        if kind == "datasets":
            return self.datasets.get(name)
        return Repository({"main": self.repositories[name]}) if name in self.repositories else None


def clients() -> list[HfApi]:
    """Return the clients that the libraries keep for as long as the process lives."""
    from huggingface_hub.hf_api import api
    from transformers.utils.hub import hf_api

    return [api, hf_api()]


def use(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process take the server for the Hub."""
    kept = clients()  # one that is first made below would ask this server for ever
    for name, value in (("ENDPOINT", hub.url), ("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    for client in kept:
        monkeypatch.setattr(client, "endpoint", hub.url)


class _Answer(Exception):
    """An answer other than the usual one."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None):
        self.status, self.headers = status, dict(headers or {})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second would wait 40 ms for the first's ACK

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "X-Request-Id": "Root=1-2",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_call(self) -> None:
        hub = self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(address.path)
        hub.calls.append((self.command, path))
        (hub.cdn_tokens if path.startswith("/cdn/") else hub.tokens).add(self.headers.get("Authorization"))
        if hub.silent and hub.silent in path:
            self.close_connection = True
            return sleep(100)
        sleep(next((seconds for part, seconds in hub.slow.items() if part in path), 0))
        try:
            self.misbehave(path)
            self.route(path, dict(urllib.parse.parse_qsl(address.query)), body)
        except _Answer as other:
            self.answer({"error": "no"}, other.status, other.headers)
        except (BrokenPipeError, ConnectionResetError):
            pass

    do_GET = do_POST = do_PUT = do_HEAD = handle_call

    def misbehave(self, path: str) -> None:
        for part, answer in self.hub.refuse.items():
            if part in path:
                raise _Answer(*(answer if isinstance(answer, tuple) else (answer,)))
        for part, left in self.hub.limit.items():
            if part in path and left[0]:
                left[0] -= 1
                raise _Answer(429, left[1])

    def route(self, path: str, query: dict[str, str], body: bytes) -> None:
        hub = self.hub
        for prefix, content in (("/web/", hub.web), ("/cdn/", self.by_oid())):
            if path.startswith(prefix):
                if path.removeprefix(prefix) not in content:
                    raise _Answer(404)
                return self.content(path, content[path.removeprefix(prefix)])
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path.startswith("/put/"):
            hub.files[path[5:]] = body
            return self.answer({})
        kind, name, verb, rest = _parsed(path)
        if verb == "preupload":
            return self.answer({"files": self.preupload(name, json.loads(body)["files"])})
        if verb == "lfs":
            objects = [self.upload_address(item) for item in json.loads(body)["objects"]]
            return self.answer({"transfer": "basic", "objects": objects})
        if verb == "commit":
            return self.commit(name, body)
        repository = self.allowed(kind, name)
        if verb == "info" and not rest:
            rest = "main"
        if verb == "resolve":
            revision, inside = repository.split(rest)
            return self.resolve(repository, revision, inside)
        revision, inside = repository.split(rest)
        commit = self.commit_of(repository, revision)
        files = repository.files(commit)
        if verb == "info":
            siblings = [{"rfilename": path} for path in files]
            return self.answer({"id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings})
        if verb == "paths-info":
            form = urllib.parse.parse_qs(body.decode()) if body[:1] != b"{" else json.loads(body)
            return self.answer(list(_entries(files, form["paths"])))
        if verb == "tree":
            found = list(_tree(files, inside, query.get("recursive", "").lower() == "true"))
            if inside and not found:
                raise _Answer(404, {"X-Error-Code": "EntryNotFound"})
            return self.answer(found)
        raise _Answer(404)

    # ---- reading ------------------------------------------------------------------------------------------------

    def by_oid(self) -> dict[str, bytes]:
        every = [self.hub.repositories[name] for name in self.hub.repositories]
        every += [files for repository in self.hub.datasets.values() for files in repository.commits.values()]
        return {hashlib.sha256(c).hexdigest(): c for files in every for c in files.values()}

    def allowed(self, kind: str, name: str) -> Repository:
        """The repository, as the real Hub gives it to whoever asks. Raise the Hub's refusals."""
        repository, authorization = self.hub.repository(kind, name), self.headers.get("Authorization")
        known = authorization == f"Bearer {TOKEN}"
        if repository is None or (name in self.hub.private and not known):
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            raise _Answer(404 if authorization else 401, headers)
        if name in self.hub.gated and not known and self.command in ("GET", "HEAD") and "/resolve/" in self.path:
            message = f"Access to {kind[:-1]} {name} is restricted."
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": message}
            raise _Answer(403 if authorization else 401, headers)
        return repository

    def commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.commit_of(revision)
        if commit is None:
            raise _Answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        return commit

    def resolve(self, repository: Repository, revision: str, inside: str) -> None:
        commit = self.commit_of(repository, revision)
        files = repository.files(commit)
        if inside not in files:
            message = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit}
            raise _Answer(404, message)
        content = files[inside]
        if under_lfs(inside):
            oid = hashlib.sha256(content).hexdigest()
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": commit}
            return self.answer(b"", 302, linked | {"Location": f"{self.hub.cdn}/{oid}"})
        self.content(inside, content, {"ETag": f'"{git_oid(content)}"', "X-Repo-Commit": commit})

    def content(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a file, or the part of it that was asked for."""
        asked, first = self.headers.get("Range"), 0
        part = content
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first = int(start)
            part = content[first : int(end) + 1 if end else len(content)]
        self.send_response(206 if asked else 200)
        headers = {"ETag": f'"{git_oid(content)}"', **(headers or {}), "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        for name, text in {**headers, "Content-Length": str(len(part))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command == "HEAD":
            return
        breaks = next((name for name, left in self.hub.cut.items() if name in path and left), None)
        if breaks:
            self.hub.cut[breaks] -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)

    # ---- pushing ------------------------------------------------------------------------------------------------

    def create(self, asked: dict) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self.hub.repositories.setdefault(name, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        self.answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def preupload(self, name: str, files: list[dict]) -> Iterator[dict]:
        there = self.hub.repositories.get(name, {})
        return [
            {
                "path": file["path"],
                "shouldIgnore": False,
                "oid": oid(file["path"], there[file["path"]]) if file["path"] in there else None,
                "uploadMode": "lfs" if under_lfs(file["path"]) else "regular",
            }
            for file in files
        ]

    def upload_address(self, item: dict) -> dict:
        address = f"{self.hub.url}/put/{item['oid']}"
        return {"oid": item["oid"], "size": item["size"], "actions": {"upload": {"href": address}}}

    def commit(self, name: str, body: bytes) -> None:
        hub = self.hub
        repository = hub.repositories.setdefault(name, {})
        for line in io.BytesIO(body):
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                content = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                content = hub.files[value["oid"]]
            else:
                continue
            hub.files[value["path"]] = repository[value["path"]] = content
            hub.sent.append(value["path"])
        commit = Repository({"main": repository}).commit_of("main")
        self.answer({"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}"})


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def oid(path: str, content: bytes) -> str:
    """As the Hub names a file's content: its sha256 under LFS, else git's."""
    return hashlib.sha256(content).hexdigest() if under_lfs(path) else git_oid(content)


def _parsed(path: str) -> tuple[str, str, str, str]:
    """(models or datasets, name, verb, what follows) of an address of the Hub."""
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        kind, name, rest = parts[1], "/".join(parts[2:4]), parts[4:]
        if not rest:
            return kind, name, "info", ""
        verb = "info" if rest[0] == "revision" else rest[0]
        return kind, name, verb, "/".join(rest[1:])
    kind = "datasets" if parts[0] == "datasets" else "models"
    parts = parts[1:] if kind == "datasets" else parts
    name, rest = "/".join(parts[:2]).removesuffix(".git"), parts[2:]
    if rest[:2] == ["info", "lfs"]:
        return kind, name, "lfs", ""
    return kind, name, rest[0] if rest else "page", "/".join(rest[1:])


def _entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if under_lfs(path):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _folder(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _entries(files: Mapping[str, bytes], paths: list[str] | str) -> Iterator[dict]:
    for path in [paths] if isinstance(paths, str) else paths:
        path = path.strip("/")
        if path in files:
            yield _entry(path, files[path])
        elif any(name.startswith(f"{path}/") for name in files):
            yield _folder(path)


def _tree(files: Mapping[str, bytes], inside: str, recursive: bool) -> Iterator[dict]:
    prefix = f"{inside}/" if inside else ""
    folders = set()
    for path in sorted(files):
        if not path.startswith(prefix):
            continue
        steps = path.removeprefix(prefix).split("/")
        for depth in range(1, len(steps) if recursive else min(2, len(steps))):
            folder = prefix + "/".join(steps[:depth])
            if folder not in folders:
                folders.add(folder)
                yield _folder(folder)
        if recursive or len(steps) == 1:
            yield _entry(path, files[path])
