"""A base from a model hub: a small server on this machine speaks what huggingface_hub's client asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import open_clip
import pytest
from open_clip import pretrained

from model.base import open_base
from store.errors import BaseNotFound
from tests.groups import GROUPS, write_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMED, WEIGHTS = "timm/ViT-B-16-SigLIP2", "somebody/small"


class Hub(SimpleHTTPRequestHandler):
    """The files of one folder as a model hub gives them, for every repository that is asked for."""

    def __init__(self, *arguments: Any, repositories: tuple[str, ...], **more: Any) -> None:
        self.repositories = repositories
        super().__init__(*arguments, **more)

    def send_head(self) -> Any:
        owner, name, _, _, file = self.path.strip("/").split("/", 4)
        path = Path(self.directory) / file
        if f"{owner}/{name}" not in self.repositories or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256(path.read_bytes()).hexdigest()}"')
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        return path.open("rb")

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal."""


def opened_by_name(config: str) -> str:
    """The fingerprint of a base that this process knows as one of open_clip's, or the refusal."""
    name = Path(config).stem
    open_clip.add_model_config(config)
    pretrained._PRETRAINED[name] = {"made": pretrained._slpcfg(hf_hub=f"{WEIGHTS}/")}
    try:
        return open_base(f"{name}/made", "cpu").text_fingerprint
    except BaseNotFound as error:
        return f"{error.code}: {error.detail}"


@contextmanager
def hub(folder: Path, *repositories: str) -> Iterator[str]:
    """The address of a hub with a small SigLIP 2 under these names."""
    if not folder.exists():
        write_base(folder, GROUPS["siglip2"])
        (folder / "base.safetensors").rename(folder / "open_clip_model.safetensors")
    handler = partial(Hub, directory=str(folder), repositories=repositories)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def through(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path, offline: bool = False) -> None:
    """What the client has read from its environment when it was imported."""
    urls = {"ENDPOINT": endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}"}
    for name, value in {**urls, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": offline}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.mark.parametrize("repositories", [(WEIGHTS, NAMED), (WEIGHTS,)])
def test_a_base_comes_from_the_hub_with_its_tokenizer(
    repositories: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the repository that open_clip names, or else from that of the weights; afterwards without the hub."""
    local = open_base(write_base(tmp_path / "local", GROUPS["siglip2"]), "cpu").text_fingerprint
    config = str(tmp_path / "hub" / f"{GROUPS['siglip2']}-small.json")
    with hub(tmp_path / "hub", *repositories) as endpoint:
        through(monkeypatch, endpoint, tmp_path / "cache")
        assert opened_by_name(config) == local
    through(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache", offline=True)
    assert opened_by_name(config) == local


def test_what_the_hub_does_not_have_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(tmp_path / "hub") as endpoint:
        through(monkeypatch, endpoint, tmp_path / "cache")
        refused = opened_by_name(str(tmp_path / "hub" / f"{GROUPS['siglip2']}-small.json"))
        assert refused == f"base_not_found: the hub gives no tokenizer.json of {GROUPS['siglip2']}-small"
    through(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache", offline=True)
    refused = opened_by_name(str(tmp_path / "hub" / f"{GROUPS['siglip2']}-small.json"))
    assert refused.startswith("base_not_found: the hub cannot be reached for the tokenizer.json of")
