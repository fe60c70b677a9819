"""Fills one row of the table: scores of every language after each one, saved after each so that a run can resume."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.emoji36.data import Data
from benchmarks.emoji36.methods import FALLBACK, ROWS, TRAININGS, Overrides, Row, describe_row
from benchmarks.emoji36.run import Scores, Taught, claim, encode_plainly, remember_encoded, score, teach
from model.base import Base
from model.encoder import NO_ROW, Encoder, View
from model.lexicon import Detector
from model.training import LearnSettings
from store import files

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """One seed's run: `folder` holds what was taught and scored so far."""

    base: Base
    data: Data
    settings: LearnSettings
    folder: Path
    tell: Tell
    overrides: Overrides = field(default_factory=dict)

    def teach(self, encoder: Encoder, training: str) -> Iterator[Taught]:
        """Yield the languages of a training one after another; what is on disk is not trained again."""
        for taught in teach(
            encoder, self.data, training, self.settings, self.folder / "trained" / training, self.overrides
        ):
            self.tell(f"{training}: {taught.language} trained in {taught.facts['seconds']:.0f} s")
            yield taught


class Ledger:
    """Scores of one row on disk: `triangle[i][j]` of the j-th language after the i-th was learned."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content: dict[str, Any] = {"triangle": [], "digests": []}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))

    @property
    def triangle(self) -> list[list[Scores]]:
        """The rows so far."""
        rows: list[list[Scores]] = self.content["triangle"]
        return rows

    def add(self, scores: list[Scores], digests: list[str]) -> None:
        """Add one more language."""
        self.triangle.append(scores)
        self.content["digests"].append(digests)
        self.save()

    def save(self) -> None:
        """Write the ledger in one step."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self._path, self.content)


def fill(bench: Bench, name: str) -> Ledger:
    """Train what the row needs, score it, and return its ledger."""
    row = ROWS[name]
    made = describe_row(name, bench.settings, bench.overrides)
    scores = bench.folder / "scores" / f"{name}.json"
    claim(scores.with_suffix(".row.json"), made, [scores])
    ledger = Ledger(scores)
    ledger.content["made"] = made
    if ledger.content.get("done"):
        return ledger
    encoder = Encoder(bench.base)
    teaching = bench.teach(encoder, row.training) if row.training else iter(())
    taught = _own(bench, encoder, teaching, ledger) if row.read == "own" else [*teaching]
    if row.training is None or TRAININGS[row.training].onto == "joint":
        view = taught[0].view if taught else encoder.base_view
        if not ledger.triangle:
            results = [
                score(encode_plainly(encoder), bench.data, [view], language) for language in bench.data.languages
            ]
            ledger.add([scores for scores, _ in results], [digest for _, digest in results])
    elif row.read != "own":
        {"shared": _shared, "detected": _detected}[row.read](bench, encoder, taught, ledger, row)
    ledger.content |= _measure_costs(encoder, taught) | {"done": True}
    ledger.save()
    return ledger


def _shared(bench: Bench, encoder: Encoder, taught: list[Taught], ledger: Ledger, row: Row) -> None:
    """Read every language so far through the newest version."""
    for i in range(len(ledger.triangle), len(taught)):
        known = bench.data.languages[: i + 1]
        results = [score(encode_plainly(encoder), bench.data, [taught[i].view.shared], language) for language in known]
        ledger.add([scores for scores, _ in results], [digest for _, digest in results])
        bench.tell(f"{row.training}: {i + 1} languages scored through {taught[i].language}")


def _own(bench: Bench, encoder: Encoder, teaching: Iterator[Taught], ledger: Ledger) -> list[Taught]:
    """Read every language through its own version: scored while it is the newest and, to the bit, again at the end."""
    taught = []
    for each in teaching:
        taught.append(each)
        if len(taught) > len(ledger.triangle):
            scores, digest = score(encode_plainly(encoder), bench.data, [each.view], each.language)
            ledger.add([*(ledger.triangle[-1] if ledger.triangle else []), scores], [digest])
    again = [score(encode_plainly(encoder), bench.data, [each.view], each.language) for each in taught]
    ledger.triangle[-1] = [scores for scores, _ in again]  # measured again, for F
    ledger.content["bitwise_equal"] = [[digest] for _, digest in again] == ledger.content["digests"]
    bench.tell(f"All {len(taught)} languages scored again, bitwise equal: {ledger.content['bitwise_equal']}")
    return taught


def _detected(bench: Bench, encoder: Encoder, taught: list[Taught], ledger: Ledger, row: Row) -> None:
    """Read every text through its detected language's version; through `FALLBACK`'s where detection is unsure."""
    shared = [each.view.shared for each in bench.teach(encoder, FALLBACK)]
    detector, encode = Detector(), remember_encoded(encoder)
    for each in taught:
        detector = detector.replace_counts(each.language, each.learned.ngrams)
    views = {each.language: each.view for each in taught}
    for i in range(len(ledger.triangle), len(taught)):
        known = bench.data.languages[: i + 1]
        results, confusion = [], dict[str, dict[str, int]]()
        for language in known:
            guesses = [detector.guess(text, known).language for text in _texts(bench.data, language)]
            chosen: list[View] = [shared[i] if guess is None else views[guess] for guess in guesses]
            results.append(score(encode, bench.data, chosen, language))
            confusion[language] = dict(Counter(guess or "unsure" for guess in guesses).most_common())
        ledger.content["confusion"] = confusion
        ledger.add([scores for scores, _ in results], [digest for _, digest in results])
        bench.tell(f"{row.training}: {i + 1} languages detected and scored")


def _texts(data: Data, language: str) -> list[str]:
    return [caption for test in data.tests(language).values() for caption in test.captions]


def _measure_deviation(encoder: Encoder, view: View) -> float:
    """Return the standard deviation of all elements that the view reads, with which TEIR draws new rows."""
    rows = encoder.table.rows[torch.from_numpy(view.physical[view.physical != NO_ROW]).long()]
    return round(float(rows.std()), 5)


def _measure_costs(encoder: Encoder, taught: list[Taught]) -> dict[str, Any]:
    total, width = len(encoder.base.table), encoder.base.table.shape[1]
    held = [total + sum(len(each.learned.rows.ids) for each in taught[: n + 1]) for n in range(len(taught))]
    live = [int((each.view.physical != NO_ROW).sum()) for each in taught]
    return {
        "table_std": [_measure_deviation(encoder, each.view) for each in taught],
        "commits": sorted({each.facts.get("commit", "unknown") for each in taught}),
        "train_seconds": [each.facts["seconds"] for each in taught],
        "rows_trained": [len(each.learned.rows.ids) for each in taught],
        "rows_total": live,  # that the newest version reads
        "rows_held": held,  # of all versions together, each written once
        "bytes_stored": [each.facts["bytes"] for each in taught],
        "bytes_of_rows": [len(each.learned.rows.ids) * width * 4 for each in taught],
    }
