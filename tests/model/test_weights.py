"""Files of a base, from a folder or a hub: what does not fit is refused; a large table is its file."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import pretrained
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file, save_file

from model import base
from model.base import open_base
from model.encoder import Encoder
from store.errors import BaseNotFound, BaseNotSupported, CheckpointUnfit, TokenizerUnfit
from tests.groups import GROUPS, list_texts, shrink_config, write_base
from tests.tiny import NAME, write_tiny_base

Change = Callable[[dict[str, Any]], None]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMED, WEIGHTS = "timm/ViT-B-16-SigLIP2", "somebody/small"


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def too_long(content: dict[str, Any]) -> None:
    content["model"]["vocab"] += [[f"piece {number}", -9.0] for number in range(8)]


def without_end(content: dict[str, Any]) -> None:
    content["post_processor"] = None


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "file", "change", "said"),
    [
        ("siglip", "tokenizer.json", too_long, r"[0-9,]+ tokens, but the base's table has [0-9,]+ rows"),
        ("siglip", "tokenizer.json", lambda content: content.pop("model"), "cannot be read"),
        ("siglip", "tokenizer_config.json", lambda content: content.update(pad_token="<nothing>"), "<nothing>"),
        ("siglip2", "tokenizer_config.json", lambda content: content.update(padding_side="left"), "in front"),
        ("worldwide", "tokenizer.json", without_end, "token 2, with which tokenizer.json ends no text"),
        ("clipa", "tokenizer_config.json", lambda content: content.update(sep_token="<sep>"), "no token <sep>"),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_table_is_refused(
    tmp_path: Path, group: str, file: str, change: Change, said: str
) -> None:
    spec = write_base(tmp_path, GROUPS[group])
    edit(tmp_path / file, change)
    with pytest.raises(TokenizerUnfit, match=said) as refused:
        open_base(spec, "cpu")
    assert refused.value.code == "base_tokenizer_unfit" and str(tmp_path) not in refused.value.detail


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    spec = write_base(tmp_path, GROUPS["siglip2"])
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerUnfit, match=r"tokenizer\.json cannot be read"):
        open_base(spec, "cpu")


def test_a_base_without_its_tokenizer_says_where_to_put_it(tmp_path: Path) -> None:
    spec = write_base(tmp_path, GROUPS["siglip2"])
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BaseNotFound, match=r"put its tokenizer\.json beside the checkpoint"):
        open_base(spec, "cpu")


def test_the_settings_beside_a_tokenizer_are_not_needed(tmp_path: Path) -> None:
    """A SigLIP fills up with the end of a text, which its file does not say; a Gemma has a pad."""
    for group in ("siglip", "siglip2", "clipa", "worldwide"):
        spec = write_base(tmp_path / group, GROUPS[group])
        before = open_base(spec, "cpu")
        (tmp_path / group / "tokenizer_config.json").unlink()
        after = open_base(spec, "cpu")
        assert after.reading == before.reading and after.text_fingerprint == before.text_fingerprint


def test_a_base_whose_pads_nobody_names_is_refused(tmp_path: Path) -> None:
    spec = write_base(tmp_path, GROUPS["siglip2"])
    (tmp_path / "tokenizer_config.json").unlink()
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8").replace("<pad>", "<nobody>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(TokenizerUnfit, match=r"put tokenizer_config\.json beside"):
        open_base(spec, "cpu")


def test_another_tokenizer_is_another_base(tmp_path: Path) -> None:
    spec = write_base(tmp_path, GROUPS["siglip"])
    before = open_base(spec, "cpu")
    edit(tmp_path / "tokenizer.json", lambda content: content["model"]["vocab"][-1].__setitem__(1, -3.25))
    after = open_base(spec, "cpu")
    assert before.text_fingerprint != after.text_fingerprint and before.image_fingerprint == after.image_fingerprint


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    spec = write_base(tmp_path, GROUPS["siglip"])
    path = tmp_path / "base.safetensors"
    whole = load_file(path)
    save_file({key: tensor for key, tensor in whole.items() if "ln_final" not in key}, path)
    with pytest.raises(CheckpointUnfit, match="other names or sizes") as refused:
        open_base(spec, "cpu")
    assert refused.value.code == "base_checkpoint_unfit"


def test_a_checkpoint_of_longer_texts_is_refused_and_not_stretched(tmp_path: Path) -> None:
    """open_clip would interpolate the places of a text, with a line in the log."""
    write_base(tmp_path, GROUPS["siglip"])
    path = tmp_path / "base.safetensors"
    whole = load_file(path)
    whole["text.positional_embedding"] = torch.zeros(77, 32)
    save_file(whole, path)
    with pytest.raises(CheckpointUnfit, match="77 places"):
        open_base(f"{GROUPS['siglip']}-small@{path}", "cpu")


def test_a_file_that_is_no_checkpoint_is_not_found(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    Path(spec.partition("@")[2]).write_bytes(b"no tensors here")
    with pytest.raises(BaseNotFound, match="cannot be read") as refused:
        open_base(spec, "cpu")
    assert refused.value.code == "base_not_found"


def test_pictures_are_prepared_as_the_weights_of_that_name_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip prepares those of a file as OpenAI's: for a SigLIP that would be other colours, and another cut."""
    checkpoint = tmp_path / "base.safetensors"
    checkpoint.touch()
    assert base.find_preparation("ViT-B-16-SigLIP", str(checkpoint)) == {
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize_mode": "squash",
    }  # fmt: skip
    assert base.find_preparation("ViT-L-14", str(checkpoint)) == {}  # its weights do not agree
    assert base.find_preparation("ViT-B-16-SigLIP", "webli") == {}  # open_clip's own affair
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}))
    assert base.find_preparation("ViT-B-16-SigLIP", str(checkpoint)) == {"mean": [0.1, 0.2, 0.3]}

    spec = write_base(tmp_path / "siglip", GROUPS["siglip"])
    before = open_base(spec, "cpu")
    edit(tmp_path / "siglip" / "open_clip_config.json", lambda said: said.update(preprocess_cfg={"mean": [0.5] * 3}))
    after = open_base(spec, "cpu")
    assert before.image_fingerprint != after.image_fingerprint and before.text_fingerprint == after.text_fingerprint
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    assert not torch.allclose(before.preprocess(grey), after.preprocess(grey))


# --- a table that is its file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_a_mapped_table_gives_the_same_bits(tmp_path: Path, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is in memory or in its file, which may hold halves: those are exact in float32."""
    spec = write_base(tmp_path, GROUPS["siglip2"])
    if half:
        path = tmp_path / "base.safetensors"
        save_file({key: tensor.half() for key, tensor in load_file(path).items()}, path)
    usual = open_base(spec, "cpu")
    monkeypatch.setattr(base, "_LARGE", 0)
    mapped = open_base(spec, "cpu")
    assert mapped.table.dtype == (torch.float16 if half else torch.float32) and usual.table.dtype == torch.float32
    assert mapped.text_fingerprint == usual.text_fingerprint
    one, other = Encoder(usual), Encoder(mapped)
    assert np.array_equal(
        one.encode_texts([(one.base_view, text) for text in list_texts()]).vectors,
        other.encode_texts([(other.base_view, text) for text in list_texts()]).vectors,
    )


MEASURE = """
import sys, psutil, torch
from model.base import open_base
from model.encoder import Encoder
import numpy as np
encoder = Encoder(open_base(sys.argv[1], "cpu"))
rows = encoder.table.append(torch.randn(900, encoder.base.table.shape[1]))
view = encoder.base_view.extend(1, "xx", encoder.base_view.tokenizer, np.arange(5, 905), rows, {})
encoder.encode_texts([(view, "a red apple"), (encoder.base_view, "a red apple")])
print(psutil.Process().memory_info().rss)
print(1024 * int(open("/proc/self/status").read().partition("RssAnon:")[2].split()[0]))
"""


@pytest.mark.nightly
def test_a_large_table_costs_at_most_its_own_bytes(tmp_path: Path) -> None:
    """256,000 rows of 768 in a process that reads with them, against a table of a few hundred rows."""
    config = shrink_config(GROUPS["siglip2"])
    text = {**config["text_cfg"], "width": 768}
    used = []
    for rows in (text["vocab_size"], 256_000):
        spec = write_base(tmp_path / str(rows), GROUPS["siglip2"], {**config, "text_cfg": {**text, "vocab_size": rows}})
        result = subprocess.run([sys.executable, "-c", MEASURE, spec], check=True, capture_output=True, text=True)
        used.append([int(number) for number in result.stdout.split()])
    resident, own = (large - little for little, large in zip(*used, strict=True))
    assert resident <= 1.05 * 4 * 256_000 * 768  # its pages in the file's cache, which other processes share
    assert own < 0.05 * 4 * 256_000 * 768


# --- how pictures are prepared ----------------------------------------------------------------------------------------


def test_name_json_says_how_pictures_are_prepared_before_any_other_file(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    plain = open_base(spec, "cpu")
    how: dict[str, Any] = {"interpolation": "bilinear", "resize_mode": "longest", "fill_color": 200}
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.5] * 3, "size": 32, **how}
    edit(tmp_path / f"{NAME}.json", lambda content: content.update(preprocess_cfg=said))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": {"mean": [0.9] * 3}}))
    custom = open_base(spec, "cpu")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8))
    expected = image_transform(32, is_train=False, mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, **how)
    assert torch.equal(custom.preprocess(picture), expected(picture))
    assert not torch.equal(custom.preprocess(picture), plain.preprocess(picture))
    assert custom.image_fingerprint != plain.image_fingerprint
    assert custom.text_fingerprint == plain.text_fingerprint


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"resize_mode": "stretch"}, "does not know"),
        ({"colour": "red"}, "does not know"),
        (["mean"], "does not know"),
        ({"size": 64}, "another size than the 32"),
    ],
)
def test_a_preparation_that_open_clip_does_not_do_is_refused(tmp_path: Path, said: object, reason: str) -> None:
    spec = write_tiny_base(tmp_path)
    edit(tmp_path / f"{NAME}.json", lambda content: content.update(preprocess_cfg=said))
    with pytest.raises(BaseNotSupported, match=reason):
        open_base(spec, "cpu")


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
