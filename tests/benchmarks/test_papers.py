"""Tiny folders in the formats of the paper's data go the whole way; what is missing in them is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.emoji36.__main__ import app
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.files import FileData
from benchmarks.emoji36.papers import Layout, open_data
from benchmarks.emoji36.table import Bench, fill
from model.base import Base
from model.encoder import Encoder
from model.training import LearnSettings
from tests.benchmarks.paper_folders import FIGURES, TESTED, WRITERS, captions
from worker.prepare import compute_teacher_features


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each layout, not to be changed."""
    roots = {layout: tmp_path_factory.mktemp(layout) for layout in WRITERS}
    for layout, root in roots.items():
        WRITERS[layout](root)
    return roots


def opened(
    encoder: Encoder, layout: Layout, root: Path, cache: Path, train_root: Path | None = None, languages: str = "3"
) -> tuple[FileData, list[str]]:
    lines: list[str] = []
    data = open_data(layout, encoder, root, cache, lines.append, train_root=train_root, languages=languages)
    return data, lines


# By layout: pictures of the training side and of the test side, and Italian test captions
@pytest.mark.parametrize(
    ("layout", "train", "sizes", "queries"),
    [
        ("coco", None, {"train": 7, "test": 4}, 24),
        ("xm3600", "coco", {"train": 7, "test": 12}, 72),
        ("xm3600", None, {"train": 7, "test": 5}, 30),
        ("folder", None, {"train": 8, "test": 4}, 24),
    ],
)
def test_a_chain_and_an_addressed_row_are_filled(
    base: Base,
    encoder: Encoder,
    roots: dict[str, Path],
    tmp_path: Path,
    layout: Layout,
    train: str | None,
    sizes: dict[str, int],
    queries: int,
) -> None:
    data, lines = opened(encoder, layout, roots[layout], tmp_path, train and roots[train])  # type: ignore[arg-type]
    assert (data.languages, data.sizes) == (["en", "it", "de"], sizes)
    assert any("--train-root" in line for line in lines) == (layout == "xm3600" and train is None)
    bench = Bench(base, data, LearnSettings(epochs=1, vocabulary=20), tmp_path / "run", lambda _: None)
    chain, addressed = fill(bench, "teir").content, fill(bench, "addressed").content
    assert [len(row) for row in chain["triangle"]] == [1, 2, 3]
    assert chain["triangle"][2][1]["seen"]["pairs"] == queries
    assert addressed["bitwise_equal"] and addressed["triangle"][1] == addressed["triangle"][2][:2]


def test_captions_stay_with_their_pictures_and_translations(
    encoder: Encoder, roots: dict[str, Path], tmp_path: Path
) -> None:
    data, _ = opened(encoder, "coco", roots["coco"], tmp_path)
    files = [roots["coco"] / "val2014" / f"COCO_val2014_{number:012}.jpg" for number in range(12)]
    vectors = encoder.encode_pictures([Image.open(file).convert("RGB") for file in files])
    corpus, test = data.build_corpus("it"), data.tests("it")["captions"]
    for caption, english, owner in zip(corpus.captions, corpus.pivot_features, corpus.picture_rows, strict=True):
        number, place = next(
            (n, captions("it", f).index(caption)) for n, f in enumerate(FIGURES) if caption in captions("it", f)
        )
        assert np.allclose(corpus.pictures[owner], vectors[number], atol=1e-5)
        expected = compute_teacher_features(encoder, [captions("en", FIGURES[number])[place]], lambda: None)[0]
        assert torch.allclose(english, expected, atol=1e-4)
    assert len(corpus.captions) == 42
    assert all(
        caption in captions("it", TESTED[owner]) for caption, owner in zip(test.captions, test.owner, strict=True)
    )
    assert test.captions[0] == test.captions[1]
    assert np.allclose(data.galleries["seen"], vectors[8:], atol=1e-5)


def change(path: Path, edit: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def karpathy(edit: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda root: change(root / "dataset_coco.json", lambda document: edit(document["images"]))


def rewritten(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: void((root / name).write_text(text))


def removed(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def without_italian(root: Path) -> None:
    lines = map(json.loads, (root / "captions.jsonl").read_text().splitlines())
    kept = [{key: value for key, value in line.items() if key != "it"} for line in lines]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, kept)))


def void(_: object) -> None:
    """Return nothing, for edits that return something."""


CORPUS, TRANSLATED = "corpus/multilingual_coco/36langs/coco_en-it.tsv.gz", "annotations/coco/translated/it/test_gt.json"
PICTURE = "val2014/COCO_val2014_000000000009.jpg"
REFUSALS = [
    ("coco", removed("dataset_coco.json"), "dataset_coco.json: no such file"),
    ("coco", rewritten("dataset_coco.json", "{"), "dataset_coco.json: this is no JSON document"),
    ("coco", karpathy(lambda images: images[3].pop("cocoid")), "dataset_coco.json, image 3: there is no `cocoid`"),
    ("coco", karpathy(lambda images: images.__delitem__(slice(8, 12))), "dataset_coco.json: no image with a caption"),
    ("coco", removed(PICTURE), f"{PICTURE}: no such picture"),
    (
        "coco",
        rewritten(PICTURE, "no picture"),
        f"{PICTURE}: a picture must be a JPEG, PNG, WebP, AVIF, TIFF or HEIC file",
    ),
    ("coco", rewritten(CORPUS, "none\tof\nthese\tpairs"), f"{CORPUS}: no line begins with a training caption"),
    (
        "coco",
        rewritten(TRANSLATED, '{"annotations": [{"image_id": 3, "caption": "a"}]}'),
        f"{TRANSLATED}, line 1: the p",
    ),
    ("xm3600", rewritten("captions.jsonl", '{"caption": "a", "picture": "b"}'), "captions.jsonl"),
    ("xm3600", without_italian, "captions.jsonl: the file holds no caption of this language; look at the tag (it)"),
    (
        "folder",
        removed("images/p9.png"),
        "captions/en.jsonl, line 55: 6 of 72 rows name pictures that are not in the gallery",
    ),
    ("folder", rewritten("captions/it.csv", "caption,picture\na,p1"), "captions/it.csv: 1 usable row; at least 64"),
    (
        "folder",
        rewritten("captions/it.jsonl", "{}"),
        "captions/it.jsonl: there is another file of this language, it.csv",
    ),
    ("folder", rewritten("captions/notes.txt", "a"), "captions/notes.txt: the file's name does not begin with"),
]


@pytest.mark.parametrize(("layout", "spoil", "sentence"), REFUSALS, ids=[sentence for _, _, sentence in REFUSALS])
def test_what_is_missing_is_named(
    encoder: Encoder, tmp_path: Path, layout: Layout, spoil: Callable[[Path], None], sentence: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    WRITERS[layout](root)
    spoil(root)
    with pytest.raises(Refused) as refused:
        data, _ = opened(encoder, layout, root, tmp_path / "cache")
        data.build_corpus("it")
    assert str(refused.value).startswith(f"{root}/{sentence}") and "\n" not in str(refused.value)


def command(*words: object, methods: str = "zero-shot") -> Any:
    return CliRunner().invoke(app, ["run", "--methods", methods, "--threads", "1", *map(str, words)])


@pytest.mark.usefixtures("as_before")
def test_the_command_runs_and_refuses(tiny_base: str, roots: dict[str, Path], tmp_path: Path) -> None:
    rest = ("--base", tiny_base, "--work", tmp_path, "--languages", 2)
    done = command("--data", "folder", "--root", roots["folder"], *rest)
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "folder.json").read_text())
    assert results["languages"] == ["en", "it"] and results["sizes"] == {"train": 8, "test": 4}
    assert 0 <= results["base"]["t2i"]["R@1"] <= 1
    refused = command("--data", "coco", "--root", roots["folder"], *rest)
    assert refused.exit_code == 1 and "dataset_coco.json: no such file" in str(refused.exception)
    assert "--root" in str(command("--data", "coco", *rest).exception)
