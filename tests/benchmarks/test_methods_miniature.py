"""The suite in miniature: a tiny tower and two made-up languages, in which every row of the table has to learn.

And TEIR's two halves have to do what they say in every method.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.emoji36 import data
from benchmarks.emoji36.data import Vectors
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.results import merge
from benchmarks.methods import addressed, gains, sampled
from benchmarks.methods.addressed import Adapter
from benchmarks.methods.bench import SPOKEN, Bench, Chain, fill, score, teach
from benchmarks.methods.gains import Trial
from benchmarks.methods.rows import BASELINE, PROPOSAL, ROWS, SUITE
from benchmarks.methods.trainer import SuiteTrainer
from model import checkpoint
from model.base import Base
from model.checkpoint import CachedResult, load_result
from model.encoder import NO_ROW, Encoder
from model.objectives import Corpus
from model.training import LearnSettings, Trainer

WORDS = ("apple", "horse", "river", "train", "music", "paper", "snow", "glass", "tiger", "bread", "cloud", "stone")
LETTERS = {"it": "abcdefghijklmnopqrstuvwxyz", "de": "абвгдежзийклмнопрстуфхцчшщ"}  # in place of a to z
COMMON = ("music", "stone")  # that both languages call alike
SETTINGS = LearnSettings(
    epochs=12,
    batch_size=16,
    learning_rate=5e-3,
    cooldown=0.0,
    vocabulary=1_000,
    mixed_precision=False,
    checkpoint_every=99,
)


class Toy:
    """Two things a picture; a picture's vector is the base's own of its English caption."""

    languages: Sequence[str] = tuple(LETTERS)
    fingerprint = "toy"

    def __init__(self, encoder: Encoder) -> None:
        self.sizes: dict[str, int] = {}
        pairs = [*permutations(WORDS, 2)]
        Random(0).shuffle(pairs)
        self.train, self.test = pairs[:96], pairs[96:]
        self.galleries = {"seen": self._vectors(encoder, self.test)}
        self._english = torch.from_numpy(self._vectors(encoder, self.train))

    def build_corpus(self, language: str) -> Corpus:
        said = [self._said(each, language) for each in self.train]
        english = [" ".join(pair) for pair in self.train]
        return Corpus(language, said, 5 * self._english, self._english, torch.arange(len(said)), english)

    def tests(self, language: str) -> dict[str, data.Test]:
        said = [self._said(each, language) for each in self.test]
        return {"scenes": data.Test(said, np.arange(len(said)), ("seen",))}

    def digests(self) -> dict[str, str]:
        return {}

    @staticmethod
    def _said(words: tuple[str, str], language: str) -> str:
        """Return backwards, and in other letters, so that no word of English is left, and few of the other language."""
        letters = str.maketrans(LETTERS["it"], LETTERS[language])
        said = (word[::-1] if word in COMMON else word[::-1].translate(letters) for word in reversed(words))
        return " ".join(said)

    @staticmethod
    def _vectors(encoder: Encoder, pairs: Iterable[tuple[str, str]]) -> Vectors:
        return encoder.encode_texts([(encoder.base_view, " ".join(pair)) for pair in pairs]).vectors


@pytest.fixture(scope="module")
def bench(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("suite")
    return Bench(base, Toy(Encoder(base)), SETTINGS, 0, folder, lambda _: None, "test")


def learned(bench: Bench, name: str) -> list[float]:
    return [row[-1]["seen"]["t2i"]["R@1"] for row in fill(bench, name).triangle]


def assert_every_language_is_learned(bench: Bench, name: str) -> None:
    before = [score(bench, bench.chain(BASELINE), BASELINE, tag)["seen"]["t2i"]["R@1"] for tag in bench.data.languages]
    gained = [after - first for after, first in zip(learned(bench, name), before, strict=True)]
    assert min(gained) > 0.25, f"{name}: a language is hardly learned: {gained}"


def taught(bench: Bench, name: str) -> tuple[SuiteTrainer, Chain]:
    """Return the trainer of the second language, after it, and the chain that it was trained on."""
    chain, folder = bench.chain(name), bench.folder / f"again-{name}"
    first, second = bench.data.languages
    teach(bench, chain, name, first, folder / first)
    stored, _ = checkpoint.read_version(folder / first / "version")
    left = load_result(folder / first / "left", name)
    assert left is not None
    chain.add(first, 1, stored, left)
    more = (chain.left, folder / "tokens")
    trainer = ROWS[name].trainer(
        chain.encoder, chain.view, bench.data.build_corpus(second), folder / "second", bench.settings, *more
    )
    assert isinstance(trainer, SuiteTrainer)
    return trainer, chain


def assert_new_rows_start_as_named(trainer: SuiteTrainer, chain: Chain, name: str) -> None:
    """Assert that they deviate as the table does with TEIR, without it 1.55 times as the base's rows."""
    new = trainer.ids >= chain.view.tokenizer.size
    drawn, table = trainer.rows.detach()[torch.from_numpy(new)], chain.encoder.table.rows
    physical = chain.view.physical[chain.view.physical >= 0]
    own = table[torch.from_numpy(physical).long()].std().item()
    aim = own if name.endswith("teir") else 1.55 * trainer.encoder.base.table.std().item()
    assert drawn.numel() > 300 and drawn.std().item() == pytest.approx(aim, rel=0.15), f"{name}: another start"


def assert_shared_rows_move_as_named(trainer: SuiteTrainer, chain: Chain, name: str) -> None:
    """With TEIR as much less as other languages have them, English those of the base; without it as much as others.

    Seen in one step of the trainer's own optimizer, whose gradients are so small that Adam does not divide the share
    out again: it moves by g · share / (g · share + 1e-6).
    """
    shared, english = np.isin(trainer.used, chain.view.trained["it"]), trainer.used < trainer.reading.vocabulary
    assert 0 < shared.sum() < len(shared)
    assert not chain.view.lexicon.words  # texts are read as they are
    aim = torch.from_numpy(1.0 / (1.0 + shared + english) if name.endswith("teir") else np.ones(len(shared)))[:, None]
    moving = {"rows": trainer.rows, **trainer.get_extra_parameters()}
    before = {key: each.detach().clone() for key, each in moving.items()}
    for key, each in moving.items():
        each.grad = torch.full_like(each, 1e-6 if key == "rows" else 0.0) if each.requires_grad else None
    rate = 0.1
    trainer.make_optimizer().step(rate, clip=1.0)
    moved, start = (rows[: len(shared)].double() for rows in (trainer.rows.detach(), before["rows"]))
    for key, each in moving.items():
        each.data.copy_(before[key])
    assert torch.allclose(moved, start * (1 - rate * trainer.decay * aim) - rate * aim / (aim + 1), atol=1e-5), (
        f"{name}: shared rows move otherwise"
    )


def assert_rows_are_spared_as_named(trainer: SuiteTrainer, chain: Chain, name: str) -> None:
    """With TEIR what no caption has keeps its bits, begin and end of text too; without it each language takes 3.1 %."""
    learned, view = trainer.learn(lambda _: False), chain.view
    facts = trainer.idle() if ROWS[name].dense else 1.0
    left = CachedResult({SPOKEN: torch.from_numpy(trainer.spoken)}, {"idle": facts})
    idle = np.setdiff1d(np.flatnonzero(view.physical != NO_ROW), learned.rows.ids)
    specials = np.array(trainer.reading.specials)

    def read(ids: NDArray[np.int64]) -> Tensor:
        return chain.encoder.table.rows[torch.from_numpy(chain.view.physical[ids]).long()]

    before, ends = read(idle), read(specials)
    chain.add("de", 2, learned, left)
    if name.endswith("teir"):
        assert torch.equal(read(idle), before), f"{name}: idle rows have other bits"
        assert torch.equal(read(specials), ends), f"{name}: begin and end of text have moved"
    else:
        assert torch.allclose(read(idle), 0.969 * before, rtol=1e-3), f"{name}: idle rows lose another share"
        assert not torch.allclose(read(specials), 0.969 * ends, rtol=1e-2), f"{name}: ends stay"


def some(rows: Iterable[str], *quick: str) -> pytest.MarkDecorator:
    """Return these rows in every run, the others in `make nightly`."""
    names = [name if name in quick else pytest.param(name, marks=pytest.mark.nightly) for name in rows]
    return pytest.mark.parametrize("name", names)


@some(ROWS, "cll-clip", "dualprompt+teir")
def test_every_method_learns(bench: Bench, name: str) -> None:
    assert_every_language_is_learned(bench, name)


@some(SUITE, "cll-clip", "teir", "er+teir", "oewc")
def test_both_halves_of_teir_do_what_they_say(bench: Bench, tmp_path: Path, name: str) -> None:
    quick = replace(bench, folder=tmp_path, settings=replace(SETTINGS, epochs=1))
    trainer, chain = taught(quick, name)
    assert_new_rows_start_as_named(trainer, chain, name)
    assert_shared_rows_move_as_named(trainer, chain, name)
    assert_rows_are_spared_as_named(trainer, chain, name)


def test_a_stopped_row_goes_on_to_the_same_scores(bench: Bench, tmp_path: Path) -> None:
    quick = replace(bench, settings=replace(SETTINGS, epochs=2))
    whole = fill(replace(quick, folder=tmp_path / "whole"), "der+teir").triangle

    def stops(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(replace(quick, folder=tmp_path / "cut", tell=stops), "der+teir")
    again = fill(replace(quick, folder=tmp_path / "cut"), "der+teir")
    assert again.triangle == whole and len(whole) == 2


def test_results_have_the_form_of_the_benchmarks_and_refuse_other_data(bench: Bench, tmp_path: Path) -> None:
    head = {"languages": [*LETTERS], "sizes": {"train": 96}}
    for name in (BASELINE, PROPOSAL):
        merge(tmp_path / "out.json", head, name, 0, fill(bench, name).content)
    results: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert {*results["methods"]} == {BASELINE, PROPOSAL} and results["seeds"] == [0]
    row = results["methods"][PROPOSAL]
    (last,) = [row["seeds"]["0"]["seen"]["t2i"]["R@1"][-1]]
    assert row["AA"]["seen"]["t2i"]["mean"] == pytest.approx(100 * sum(last) / 2, abs=0.01)
    assert row["F"]["seen"]["t2i"]["mean"] == pytest.approx(
        100 * (row["seeds"]["0"]["seen"]["t2i"]["R@1"][0][0] - last[0]), abs=0.01
    )
    for metric in ("AA", "F"):
        by_picture, _ = sampled.compute_mean([row["seeds"]["0"]["by_picture"]["seen"]], metric)
        assert by_picture == pytest.approx(row[metric]["seen"]["t2i"]["mean"], abs=0.01)
    with pytest.raises(Refused, match="other sizes"):
        merge(tmp_path / "out.json", {**head, "sizes": {"train": 95}}, BASELINE, 0, fill(bench, BASELINE).content)


# --- An adapter beside the rows: they are taught as without it, it learns at its own rate, and is read ---

UNCLIPPED = LearnSettings(epochs=2, batch_size=16, clip=1e9, mixed_precision=False)


@pytest.mark.parametrize("start", ["auto", "drawn"])
def test_rows_beside_an_adapter_that_stays_are_those_of_the_product(
    encoder: Encoder, tmp_path: Path, start: str
) -> None:
    corpus = Toy(encoder).build_corpus("de")
    settings = LearnSettings(**{**vars(UNCLIPPED), "start": start})
    trainer = Trainer(encoder, encoder.base_view, corpus, tmp_path / "alone", settings)
    view = encoder.extend(encoder.base_view, 1, "de", trainer.learn(lambda _: False))
    taught = addressed.teach(encoder, corpus, tmp_path / "beside", settings, Adapter("lora", 0.0))
    assert taught.steps == trainer.steps == 12
    ours, theirs = (
        encoder.table.rows[torch.from_numpy(each.physical[trainer.used]).long()] for each in (taught.view, view)
    )
    assert torch.equal(ours, theirs)
    texts = corpus.captions[:8]
    sides = (taught.reader, taught.view), (encoder, view)
    read = [by.encode_texts([(each, text) for text in texts]) for by, each in sides]
    np.testing.assert_allclose(read[0].vectors, read[1].vectors, atol=1e-5)


@pytest.mark.parametrize("kind", [*addressed.KINDS])
def test_an_adapter_learns_with_the_rows_and_its_trials_are_told_apart(
    encoder: Encoder, tmp_path: Path, kind: str
) -> None:
    settings = (("batch_size", 16), ("epochs", 6), ("mixed_precision", False))
    alone, beside = (Trial("toy", "de", 90, 0, settings, each) for each in (None, Adapter(kind, 0.25)))
    held: list[dict[str, Any]] = []
    gains.fill(encoder, Toy(encoder), [alone, beside], held, tmp_path, held.append)
    assert [each["steps"] for each in held] == [36, 36] and held[0]["ranks"] != held[1]["ranks"]
    found = gains.pool_gain(json.loads(json.dumps(held)), [alone], [beside], 1)
    assert found.after > 0.25
    again: list[dict[str, Any]] = []
    older = [{key: value for key, value in held[0].items() if key != "adapter"}, held[1]]  # of an earlier release
    gains.fill(encoder, Toy(encoder), [alone, beside], json.loads(json.dumps(older)), tmp_path, again.append)
    assert again == []
