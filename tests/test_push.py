"""Pushing a finished folder with the real huggingface_hub client against a small HTTP double of the Hub."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PUSH = """
import sys
from types import SimpleNamespace
from pathlib import Path
from xstilts import cards
from xstilts.errors import UserError
run = SimpleNamespace(push_to_hub=True, hub_model_id="me/arm", hub_private_repo=False, output_dir=sys.argv[1])
try:
    cards.check_push(run)
    print("created", run.hub_model_id)
    cards.push(run, Path(sys.argv[1]))
except UserError as error:
    sys.exit(f"error: {error}")
"""


class Hub:
    """What the client asked for, and how the double answers."""

    def __init__(self):
        self.calls, self.files, self.refuse = [], {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def answer(self, value, code=200):
                body = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_call(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                path = self.path.split("?")[0]
                hub.calls.append((self.command, path))
                code = next((code for part, code in hub.refuse.items() if part in path), None)
                if code:
                    return self.answer({"error": "no"}, code)
                if path == "/api/repos/create":
                    return self.answer({"url": f"{hub.url}/me/arm", "name": "me/arm", "id": "me/arm"})
                if path == "/api/validate-yaml":
                    return self.answer({"errors": [], "warnings": []})
                if path.endswith("/preupload/main"):
                    files = json.loads(body)["files"]
                    return self.answer({"files": [{"path": f["path"], "shouldIgnore": False,
                                                   "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                                                  for f in files]})
                if path.endswith("/info/lfs/objects/batch"):
                    objects = json.loads(body)["objects"]
                    return self.answer({"transfer": "basic", "objects": [
                        {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{hub.url}/put/{o['oid']}"}}}
                        for o in objects]})
                if path.startswith("/put/"):
                    hub.files[path[5:]] = body
                    return self.answer({})
                if path.endswith("/commit/main"):
                    for line in body.decode().splitlines():
                        item = json.loads(line)
                        if item["key"] == "file":
                            hub.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                        elif item["key"] == "lfsFile":
                            hub.files[item["value"]["path"]] = hub.files[item["value"]["oid"]]
                    return self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.url}/me/arm/commit/{'0' * 40}"})
                return self.answer({"error": "not here"}, 404)

            do_GET = do_POST = do_PUT = do_HEAD = handle_call

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.server.shutdown()


@pytest.fixture
def folder(tmp_path):
    for name, text in (("config.json", "{}"), ("model.safetensors", "weights"), ("results.json", "{}"),
                       ("README.md", "---\nlicense: other\n---\n# card\n"),
                       ("checkpoint-5/optimizer.pt", "old"), ("xnli/results.json", "{}"), ("xnli/model.safetensors", "other")):
        path = tmp_path / "arm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "arm"


def push(hub, folder):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secretsecretsecret", "HF_HUB_DISABLE_XET": "1",
                                "HF_HUB_OFFLINE": "0"}
    return subprocess.run([sys.executable, "-c", PUSH, str(folder)], env=environment, capture_output=True, text=True, timeout=120)


def test_a_finished_folder_is_pushed_without_its_checkpoints(hub, folder):
    done = push(hub, folder)
    assert done.returncode == 0, done.stderr
    assert "created me/arm" in done.stdout
    assert {"config.json", "model.safetensors", "README.md", "results.json"} <= set(hub.files)
    assert hub.files["model.safetensors"] == b"weights"
    assert not any(name.startswith(("checkpoint-5", "xnli")) for name in hub.files)


@pytest.mark.parametrize("part, code, said", [("/api/repos/create", 401, "hf auth login"), ("/commit/main", 500, "was not pushed")])
def test_a_refusal_is_one_line_without_the_token_and_loses_nothing(hub, folder, part, code, said):
    hub.refuse[part] = code
    done = push(hub, folder)
    assert done.returncode == 1 and said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "hf_secret" not in done.stderr + done.stdout
    assert (folder / "model.safetensors").read_text() == "weights"
