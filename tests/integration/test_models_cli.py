"""`nearhit models` and `nearhit convert` as a user runs them; the hub is a local server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nearhit import models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = str(models.__path__[0]).rsplit("/nearhit/", 1)[0]
SCRIPT = "import sys; from nearhit.cli import main; sys.exit(main())"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def nearhit(tmp_path: Path) -> Any:
    """Runs the command with a home of its own, or with `home` = the shared one."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                "import sys; from nearhit.cli import main; sys.exit(main())",
                *arguments,
            ],
            env={**os.environ, "PYTHONPATH": PACKAGE, "NEARHIT_HOME": str(tmp_path / "home"), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


class Hub(BaseHTTPRequestHandler):
    """What of the Hugging Face hub a download needs."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        status, headers, body = self.lookup(path)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def lookup(self, path: str) -> tuple[int, dict[str, str], bytes]:
        for name, files in self.repositories.items():
            listing = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/{COMMIT}"):
                return 200, {}, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": listing}).encode()
            if path.startswith(f"/api/models/{name}/tree/"):
                rows = [
                    {"type": "file", "path": file, "size": len(content), "oid": "0"} for file, content in files.items()
                ]
                return 200, {}, json.dumps(rows).encode()
            file = path.removeprefix(f"/{name}/resolve/{COMMIT}/")
            if file in files:
                etag = hashlib.sha256(files[file]).hexdigest()
                return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, files[file]
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    Hub.repositories.clear()
    Hub.asked.clear()


def test_a_hub_model_comes_without_its_code_and_pickles(nearhit: Any, hub: str, tmp_path: Path) -> None:
    Hub.repositories["owner/small"] = {
        "model.safetensors": b"w" * 3000,
        "config.json": b"{}",
        "1_Pooling/config.json": b"{}",
        "onnx/model.onnx": b"o" * 10,
        "pytorch_model.bin": b"pickle",
        "modeling_small.py": b"raise SystemExit",
        "README.md": b"hello",
    }
    done = nearhit("models", "fetch", "owner/small", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "home" / "models" / "owner--small"
    assert done.stdout == f"{folder}\n"
    assert "downloading owner/small (0.0 MB)" in done.stderr
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {"model.safetensors", "config.json", "1_Pooling/config.json", "nearhit-model.json"}
    assert (folder / "model.safetensors").read_bytes() == b"w" * 3000
    assert json.loads((folder / "nearhit-model.json").read_text())["origin"].endswith(f"owner/small/tree/{COMMIT}")
    assert not [path for path in Hub.asked if path.endswith((".py", ".bin", ".onnx"))]


def test_a_hub_model_without_usable_weights_is_refused(nearhit: Any, hub: str) -> None:
    Hub.repositories["owner/pickled"] = {"pytorch_model.bin": b"pickle", "config.json": b"{}"}
    done = nearhit("models", "fetch", "owner/pickled", HF_ENDPOINT=hub)
    assert done.returncode == 1
    assert "no .safetensors or .gguf file (pickled weights are never loaded)" in done.stderr


def test_several_gguf_files_ask_for_a_choice(nearhit: Any, hub: str) -> None:
    Hub.repositories["owner/quants"] = {"a.Q4.gguf": b"x", "a.Q8.gguf": b"y"}
    done = nearhit("models", "fetch", "owner/quants", HF_ENDPOINT=hub)
    assert done.returncode == 1
    assert "several GGUF files (a.Q4.gguf, a.Q8.gguf)" in done.stderr


def test_an_unknown_hub_model_and_an_unreachable_hub_are_told_apart(nearhit: Any, hub: str) -> None:
    unknown = nearhit("models", "fetch", "owner/nothing", HF_ENDPOINT=hub)
    assert unknown.returncode == 1
    assert "the hub has no model 'owner/nothing'" in unknown.stderr
    unreachable = nearhit("models", "fetch", "owner/nothing", HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable.returncode == 1
    assert "downloading owner/nothing from the hub failed" in unreachable.stderr
    assert "Traceback" not in unknown.stderr + unreachable.stderr


def test_convert_list_and_remove_from_the_command_line(nearhit: Any, minilm: Path, tmp_path: Path) -> None:
    fetched = nearhit("models", "fetch", str(minilm))
    assert fetched.returncode == 0, fetched.stderr
    out = tmp_path / "out"
    converted = nearhit("convert", minilm.name, str(out), "--quantization", "float16")
    assert (converted.returncode, converted.stdout) == (0, f"{out}\n"), converted.stderr
    assert "bert encoder, 384 wide, float16, 46.0 MB" in converted.stderr
    again = nearhit("convert", minilm.name, str(out))
    assert again.returncode == 2
    assert "already there" in again.stderr
    listed = nearhit("models", "list", "--json")
    (row,) = json.loads(listed.stdout)
    assert (row["name"], row["converted"]) == (minilm.name, [])
    assert row["bytes"] > 90_000_000
    assert minilm.name in nearhit("models", "list").stdout
    removed = nearhit("models", "rm", minilm.name)
    assert (removed.returncode, removed.stdout) == (0, f"removed {minilm.name} (91.3 MB)\n")
    empty = nearhit("models", "list")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "nearhit models fetch" in empty.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("models", "rm", "nothing"), 1, "no model 'nothing'"),
        (("models", "fetch", "nothing"), 1, "the default models are all-MiniLM-L6-v2, smollm2-135m-instruct"),
        (("convert", "nothing", "out"), 1, "nearhit models fetch nothing"),
        (("convert", "nothing", "out", "--quantization", "int4"), 2, "int4"),
        (("models",), 2, "ACTION"),
    ],
)
def test_mistakes_get_one_line_and_a_status(
    nearhit: Any, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = nearhit(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
