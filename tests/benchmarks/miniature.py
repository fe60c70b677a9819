"""What holds of an honest run of Emoji-36, however small."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.emoji36.methods import TRAININGS
from benchmarks.emoji36.run import Taught
from benchmarks.emoji36.table import Bench, Ledger, fill
from benchmarks.emoji36.trainer import Method
from model.encoder import Encoder
from model.evaluation import average_accuracy, forgetting
from model.table import NO_ROW, View
from model.tokenizer import BEGIN, CLIP_TOKENS, END

FAINT = 1e-6  # a norm of all gradients, so small that Adam's eps is far larger than any of them


def triangle(ledger: Ledger) -> list[list[float]]:
    """R@1 of each language after each one learned."""
    return [[scores["seen"]["t2i"]["R@1"] for scores in row] for row in ledger.triangle]


def assert_every_language_is_learned(bench: Bench, name: str) -> None:
    learned = [row[-1] for row in triangle(fill(bench, name))]
    floor = triangle(fill(bench, "zero-shot"))[-1]
    better = [now - before for now, before in zip(learned[1:], floor[1:], strict=True)]
    assert min(better) > 0.2, f"a language is hardly learned: {better}"


def assert_idle_rows_keep_their_bits(bench: Bench) -> None:
    """After the last language: begin and end of text, and whatever no corpus holds, are the base's rows."""
    encoder = Encoder(bench.base)
    *_, last = taught = [*bench.teach(encoder, "shared")]
    reached = set[int]().union(*(held(bench, each) for each in taught))
    idle = torch.tensor(sorted({*range(CLIP_TOKENS)} - reached))
    assert len(idle) > CLIP_TOKENS // 2 and {BEGIN, END} <= {*idle.tolist()}
    assert torch.equal(rows_of(encoder, last.view, idle.numpy()), bench.base.table[idle]), "idle rows have other bits"


def assert_new_rows_start_like_the_whole_table(bench: Bench, folder: Path) -> None:
    """TEIR's initialisation: what the last language's own tokens have before the first step.

    The table has then been taught three languages, so that its elements deviate more than CLIP's own.
    """
    encoder = Encoder(bench.base)
    *_, before, last = bench.teach(encoder, "shared")
    table = rows_of(encoder, before.view, np.flatnonzero(before.view.physical != NO_ROW))
    assert table.std() > 1.03 * bench.base.table.std(), "the table has not changed enough to tell it from CLIP's"
    ids, rows = taught_again(bench, encoder, before.view, last.language, folder, "shared", learning_rate=0.0)
    new = rows[torch.from_numpy(ids >= before.view.tokenizer.size)]
    assert new.numel() > 50_000, "too few new rows to tell"
    mean, std = table.mean().item(), table.std().item()
    assert new.mean().item() == pytest.approx(mean, abs=0.02 * std), "new rows have another mean"
    assert new.std().item() == pytest.approx(std, rel=0.015), "new rows have another deviation"


def assert_rows_move_less_the_more_languages_share_them(bench: Bench, folder: Path, name: str, clip: float) -> None:
    """TEIR's regularisation: for the last language a row moves 1 / f of what it would move unscaled; f counted here.

    At the size that gradients have, Adam divides a scale on them out again (docs/decisions/0005). So that it shows,
    they are clipped until Adam's eps outweighs them. Begin and end of text stay where they are.
    """
    encoder = Encoder(bench.base)
    *earlier, last = bench.teach(encoder, "shared")
    start, moved = earlier[-1].view, dict[str, Tensor]()
    free = replace(TRAININGS[name].method, scale="none")
    for scale, method in {"own": TRAININGS[name].method, "none": free}.items():
        place = folder / f"{name}-{scale}"
        ids, rows = taught_again(bench, encoder, start, last.language, place, name, method, clip=clip)
        known = torch.from_numpy(ids < CLIP_TOKENS)
        moved[scale] = (rows[known] - rows_of(encoder, start, ids[ids < CLIP_TOKENS])).norm(dim=1)
        newest = max(place.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
        ends = load_file(newest / "state.safetensors")["rows"][-2:]
        assert torch.equal(ends, bench.base.table[[BEGIN, END]]), "begin and end of text have moved"
    corpora = [held(bench, each) for each in earlier]
    f = np.array([2 + sum(number in corpus for corpus in corpora) for number in ids[ids < CLIP_TOKENS].tolist()])
    assert {*f.tolist()} == {2, 3, 4, 5}
    shares = (moved["own"] / moved["none"]).numpy()
    means = [float(shares[f == k].mean()) for k in (2, 3, 4, 5)]
    assert means == [pytest.approx(1 / k, rel=0.05) for k in (2, 3, 4, 5)], "rows move by another share"


def assert_nothing_addressed_is_forgotten(bench: Bench, name: str) -> None:
    ledger = fill(bench, name)
    assert ledger.content["bitwise_equal"] is True, "asked again, other bits"
    assert forgetting(triangle(ledger)) == 0.0, "asked again, other answers"


def assert_languages_are_detected(bench: Bench, name: str, told: str) -> None:
    """Recall without a given language is within two points of that with it, and most texts are detected rightly."""
    ledger = fill(bench, name)
    right = [guesses.get(tag, 0) / sum(guesses.values()) for tag, guesses in ledger.content["confusion"].items()]
    assert min(right) > 0.75, f"too few are read through their own language: {right}"
    lost = average_accuracy(triangle(fill(bench, told))) - average_accuracy(triangle(ledger))
    assert lost <= 0.02, f"they are read worse than told ones by {lost}"


def assert_old_corpora_read_alike(bench: Bench, training: str) -> None:
    """Each language's captions give, through its version, the ids that they were learned with.

    Its version is read back from disk. On a chain its tokenizer then reads through the longer one of those that came
    after; on the base each has its own.
    """
    taught, read = [], []
    for each in bench.teach(Encoder(bench.base), training):
        captions = bench.data.corpus(each.language).captions
        taught.append((each, captions))
        read.append(each.view.tokenizer.encode(captions))
        assert held(bench, each) == {*each.learned.rows.ids.tolist()}, "a version has other rows than its corpus"
    again = [each.view.tokenizer.encode(captions) for each, captions in taught]
    assert again == read, "an old corpus reads otherwise than it was learned"


def held(bench: Bench, taught: Taught) -> set[int]:
    """The tokens of a language's captions, as its version reads them."""
    encoded = taught.view.tokenizer.encode(bench.data.corpus(taught.language).captions)
    return {number for ids in encoded for number in ids}


def rows_of(encoder: Encoder, view: View, ids: NDArray[np.int64]) -> Tensor:
    """What the view reads for tokens that have a row; (n, width)."""
    return encoder.table.rows[torch.from_numpy(view.physical[ids]).long()]


def taught_again(
    bench: Bench,
    encoder: Encoder,
    parent: View,
    language: str,
    folder: Path,
    name: str,
    method: Method | None = None,
    **changed: Any,
) -> tuple[NDArray[np.int64], Tensor]:
    """Ids and rows after one epoch of a language as the training `name` teaches it, but for what is `changed`."""
    settings = replace(TRAININGS[name].settled(bench.settings), epochs=1, **changed)
    corpus = bench.data.corpus(language)
    trainer = (method or TRAININGS[name].method).trainer(encoder, parent, corpus, folder, settings)
    learned = trainer.learn(lambda _: False)
    return learned.rows.ids, learned.rows.rows
