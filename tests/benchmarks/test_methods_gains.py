"""What settings gain: trials on a toy and on a part of the demo, none done twice, and the error of the difference."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.methods import gains
from benchmarks.methods.gains import DemoData, Trial
from demo.gallery import list_outlines
from model.base import open_base
from model.encoder import Encoder
from model.text import clean
from tests.benchmarks.test_methods_miniature import Toy

SHORT, LONG = (("epochs", 1),), (("batch_size", 16), ("epochs", 6), ("start", "aligned"))


@pytest.fixture(scope="module")
def encoder(spec: str) -> Encoder:
    return Encoder(open_base(spec))


def trials(settings: tuple[tuple[str, Any], ...]) -> list[Trial]:
    return [Trial("toy", "de", 90, seed, settings) for seed in (0, 1)]


@pytest.fixture(scope="module")
def held(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    folder = tmp_path_factory.mktemp("gains")
    gains.fill(encoder, Toy(encoder), [*trials(SHORT), *trials(LONG)], found, folder, found.append)
    yield found


def test_a_longer_training_gains_and_its_error_is_that_of_the_pictures(held: list[dict[str, Any]]) -> None:
    assert [each["steps"] for each in held] == [2, 2, 36, 36]
    found = gains.pool_gain(held, trials(SHORT), trials(LONG), 1)
    hits = np.array([each["ranks"] for each in held]) < 1
    difference = (hits[2:].mean(axis=0) - hits[:2].mean(axis=0)).astype(float)  # of each picture, over both seeds
    assert found.mean == pytest.approx(difference.mean()) and found.mean > 0.2
    assert found.error == pytest.approx(difference.std(ddof=1) / len(difference) ** 0.5)


def test_what_is_held_is_not_measured_again(encoder: Encoder, held: list[dict[str, Any]], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    read = json.loads(json.dumps(held[:2] + held[3:]))
    gains.fill(encoder, Toy(encoder), [*trials(SHORT), *trials(LONG)], read, tmp_path, told.append)
    (again,) = told
    assert again | {"seconds": 0} == held[2] | {"seconds": 0}


def test_the_demos_rows_are_taught_and_its_held_out_captions_ask_among_all_pictures(
    encoder: Encoder, tmp_path: Path
) -> None:
    shown = [*list_outlines()[:12], *list_outlines()[-40:]]
    data = DemoData(encoder, tmp_path, shown)
    corpus, (test,) = data.build_corpus("tr"), data.tests("tr").values()
    assert len(corpus.captions) + len(test.captions) == len(data.galleries["all"]) == 52 and len(test.captions) > 3
    said = {outline.id: clean(outline.caption) for outline in shown}
    assert list(corpus.pivot_texts) == [said[shown[place].id] for place in corpus.picture_rows.tolist()]
    assert torch.equal(corpus.pictures, torch.from_numpy(data.galleries["all"]))
    assert all(len(shown[place].objects) > 1 for place in test.owner)
    assert corpus.pivot_texts == data.build_corpus("ja").pivot_texts  # in one order
