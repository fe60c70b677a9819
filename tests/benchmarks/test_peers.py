"""The measurement beside peers, without the peers: weights, texts, turns, arithmetic, the table and the refusals."""

import json
import re
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks.peers import proof, weights
from benchmarks.peers.__main__ import app
from benchmarks.peers.home import Home
from benchmarks.peers.material import copies, photograph, texts
from benchmarks.peers.report import as_json, table, text_kind
from benchmarks.peers.run import memory
from benchmarks.peers.turns import Rounds, order
from model.base import open_base
from model.encoder import Encoder
from model.tokenizer import Tokenizer

TINY = "tiny-vit"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Both formats of a tiny architecture."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / f"{TINY}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{TINY}.json")
    written = Home(folder)
    weights.write(written.checkpoint, written.huggingface, TINY)
    return written


def test_our_encoder_and_open_clip_read_the_same_vectors_from_the_weights(home: Home) -> None:
    model = open_clip.create_model(TINY, pretrained=str(home.checkpoint)).eval()
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model.encode_text(open_clip.get_tokenizer(TINY)(texts()[:8])), dim=-1)
    encoder = Encoder(open_base(f"{TINY}@{home.checkpoint}"))
    found = encoder.texts([(encoder.base_view, text) for text in texts()[:8]]).vectors
    assert proof.least_cosine(expected.numpy(), found) > 0.9999
    assert proof.largest_between(found) < proof.ALIKE  # so that equal ones are told from different ones


def test_the_folder_for_transformers_gives_the_vectors_of_open_clip(home: Home) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModel.from_pretrained(home.huggingface).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(home.huggingface)
    model = open_clip.create_model(TINY, pretrained=str(home.checkpoint)).eval()
    with torch.inference_mode():
        tokens = tokenizer(texts()[:8], padding=True, return_tensors="pt")
        torch.testing.assert_close(
            theirs.get_text_features(**tokens), model.encode_text(open_clip.get_tokenizer(TINY)(texts()[:8]))
        )
        pixels = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(theirs.get_image_features(pixels), model.encode_image(pixels))


def test_the_folder_for_transformers_holds_every_number_once(home: Home) -> None:
    one, other = load_file(home.checkpoint), load_file(home.huggingface / "model.safetensors")
    assert len(other) == len(one) + 2 * 2 * 2 * 2  # query, key and value apart: weights and biases, layers, towers
    numbers = [torch.cat([tensor.flatten() for tensor in each.values()]).sort().values for each in (one, other)]
    assert torch.equal(*numbers)
    layer = "transformer.resblocks.1.attn.in_proj_weight"
    query = other["text_model.encoder.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(one[layer][:32], query) and torch.equal(
        one["text_projection"].T, other["text_projection.weight"]
    )


def test_the_tokenizer_for_transformers_is_clips(home: Home) -> None:
    vocabulary = json.loads((home.huggingface / "vocab.json").read_text())
    _, *merges = (home.huggingface / "merges.txt").read_text().splitlines()
    words = {number: token for token, number in vocabulary.items()}
    assert len(vocabulary) == 49408 and len(merges) == 48894 and merges[0] == "i n"
    (ids,) = Tokenizer().encode(["a red boat"])
    assert [words[number] for number in ids] == ["a</w>", "red</w>", "boat</w>"]
    assert (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (49406, 49407)


def test_texts_are_distinct_and_of_about_twelve_tokens() -> None:
    lengths = [len(ids) + 2 for ids in Tokenizer().encode(texts())]
    assert len({*texts()}) == len(lengths) > 64 and min(lengths) >= 11 and max(lengths) <= 15
    assert texts() == texts()


def test_copies_are_new_files_with_the_same_pixels(tmp_path: Path) -> None:
    photograph(1).save(tmp_path / "photo-1.jpg", quality=90)
    copies([tmp_path / "photo-1.jpg"], tmp_path / "round", "b7")
    (copy,) = (tmp_path / "round").iterdir()
    assert copy.name == "b7-photo-1.jpg" and copy.read_bytes() != (tmp_path / "photo-1.jpg").read_bytes()
    np.testing.assert_array_equal(Image.open(copy), Image.open(tmp_path / "photo-1.jpg"))


def test_every_system_has_its_turn_in_every_round_and_another_one_begins_each() -> None:
    blocks = list(order(["text 1", "text 4"], ["ours", "infinity", "clip_retrieval"], 3))
    assert len(blocks) == 18 and all(blocks.count(block) == 3 for block in blocks)
    for start in range(0, 18, 3):  # neighbours: one kind, each system once
        assert len({kind for kind, _ in blocks[start : start + 3]}) == 1
        assert len({system for _, system in blocks[start : start + 3]}) == 3
    assert [blocks[start][1] for start in (0, 3, 6, 9, 12, 15)] == [
        "ours", "ours", "infinity", "infinity", "clip_retrieval", "clip_retrieval"
    ]  # fmt: skip


def recorded() -> tuple[Rounds, Rounds]:
    """Three rounds; a busy machine halves both systems in the last one."""
    rates, latencies = Rounds(), Rounds()
    for mine, infinity, clip in ((120.0, 20.0, 10.0), (80.0, 20.0, 10.0), (50.0, 10.0, 5.0)):
        for system, rate in (("ours", mine), ("infinity", infinity), ("clip_retrieval", clip)):
            rates.add(text_kind(16), system, rate)
            latencies.add(text_kind(16), system, 1_000 / rate)
        rates.add("encode", "ours", 4 * infinity)
        rates.add("encode", "open_clip", infinity)
    return rates, latencies


def test_ratios_are_those_of_neighbours_and_come_with_their_spread() -> None:
    report = as_json(*recorded())
    row = report["text"]["16"]
    assert (row["ours"], row["infinity"], row["clip_retrieval"]) == (80.0, 20.0, 10.0)
    assert (row["ratio_infinity"], row["spread_infinity"]) == (5.0, [4.0, 6.0])
    assert (row["ratio_clip_retrieval"], row["spread_clip_retrieval"]) == (10.0, [8.0, 12.0])
    assert row["p50_ms"] == {"ours": 12.5, "infinity": 50.0, "clip_retrieval": 100.0}
    encode = {"ours": 80.0, "open_clip": 20.0, "ratio_open_clip": 4.0, "spread_open_clip": [4.0, 4.0]}
    assert report["pictures"] == {"encode": encode}


def test_the_table_has_a_row_for_each_figure_and_peer() -> None:
    used = {"ours": {"pss": 300.0, "rss": 500.0}, "infinity": {"pss": 600.0, "rss": 610.0}}
    console = Console(width=100, record=True)
    console.print(table(as_json(*recorded()) | {"memory_mb": memory(used)}))
    _, *rows = console.export_text().splitlines()
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
        ["text queries/s, clients: 16", "80", "infinity", "20", "5 (4 to 6)"],
        ["text queries/s, clients: 16", "80", "clip_retrieval", "10", "10 (8 to 12)"],
        ["pictures/s, encode", "80", "open_clip", "20", "4 (4 to 4)"],
        ["memory at rest, MB", "300", "infinity", "600", "0.5"],
    ]


def test_run_before_make_is_one_sentence_and_starts_nothing(tmp_path: Path) -> None:
    before = psutil.Process().children()
    ended = CliRunner().invoke(app, ["run", "--home", str(tmp_path / "none")])
    assert str(ended.exception) == (
        f"The peers are not made yet: run `python -m benchmarks.peers make --home {tmp_path / 'none'}` first."
    )
    assert isinstance(ended.exception, SystemExit)
    assert not (tmp_path / "none").exists() and psutil.Process().children() == before


def test_what_another_release_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text('{"format": 0}')
    with pytest.raises(SystemExit, match=r"^The peers were made by another release .*: run `.*` again\.$"):
        Home(tmp_path).made()


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["run", "--only", "texts"])
    assert str(ended.exception) == "There is no part texts; there are text, memory, import, encode."


@pytest.mark.parametrize("changed", [{"text": {"ours": 0.99}}, {"pictures": {"infinity": float("nan")}}])
def test_other_vectors_are_refused(changed: dict[str, dict[str, float]]) -> None:
    same = {"unlike_texts": 0.9, "text": {"ours": 0.9999}, "pictures": {"infinity": 1.0}}
    proof.require_same(same)
    with pytest.raises(SystemExit, match="gives other vectors"):
        proof.require_same(same | changed)
    with pytest.raises(SystemExit, match="too alike"):
        proof.require_same(same | {"unlike_texts": 0.999})
