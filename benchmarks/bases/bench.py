"""Assesses languages on a base, teaches them on it, and measures both on Emoji-36's scenes; resumes."""

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.emoji36.data import EmojiData
from benchmarks.emoji36.methods import TRAININGS
from benchmarks.emoji36.run import teach_one
from model import checkpoint
from model.encoder import Encoder, View
from model.evaluation import Gain, compute_ranks, measure_gain, measure_recalls
from model.reading import FilePieces
from model.training import LearnSettings
from store import files
from worker.gate import choose_recall_ranks

ADDRESSED = "free-base"  # the training of Emoji-36's row `addressed`: each language on the base alone
ALIGNED = "aligned-base"  # the same, but rows start at those of the English tokens that they stand for
Figures = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way to teach on a `tokenizer.json`: what it may grow by, how a new token's row begins, and how long."""

    vocabulary: int = LearnSettings.vocabulary
    begins: Literal["drawn", "pieces"] = "pieces"
    training: str = ADDRESSED
    times: int = 1  # as many epochs as the settings say


GROWN = "grown"
ARMS = {
    "as it is": Arm(0),
    "grown, drawn": Arm(begins="drawn"),
    GROWN: Arm(),
    "grown, aligned": Arm(training=ALIGNED),
    "grown, twice as long": Arm(times=2),
}


class Bench:
    """One base, Emoji-36's data as it sees them, and a folder with all that was taught and measured so far."""

    def __init__(self, encoder: Encoder, data: EmojiData, settings: LearnSettings, folder: Path) -> None:
        self.encoder, self.data, self.settings, self.folder = encoder, data, settings, folder
        gallery = data.galleries["seen"]
        self.candidates = len(gallery)

    def assess(self, language: str) -> Figures:
        """Return how version 0 reads the language."""
        path = self.folder / "assessed" / f"{language}.json"
        return self._load_kept(path) or self._measure(path, self.encoder.base_view, language)

    def teach(self, language: str, arm: str = GROWN) -> Figures:
        """Return how the language is read after it was taught on the base alone."""
        path = self.folder / arm.replace(", ", "-").replace(" ", "-") / f"{language}.json"
        if kept := self._load_kept(path):
            return kept
        way, place = ARMS[arm], path.with_suffix("")
        parent = self._make_parent(way)
        if not (place / "version").exists():
            epochs = way.times * self.settings.epochs
            settings = replace(self.settings, vocabulary=way.vocabulary, epochs=epochs)
            training = TRAININGS[way.training]
            teach_one(
                self.encoder,
                parent,
                self.data.build_corpus(language),
                place,
                training,
                training.settle_settings(settings),
            )
        learned, facts = checkpoint.read_version(place / "version")
        view = self.encoder.extend(parent, 1, language, learned)
        more = {
            "seconds": facts["seconds"],
            "rows": len(learned.rows.ids),
            "new": view.tokenizer.size - parent.tokenizer.size,
            "commit": facts["commit"],
        }
        return self._measure(path, view, language, more)

    def measure_gain(self, language: str) -> Gain:
        """Return what the gate compares: the captions as read by version 0, and after they were taught."""
        test = self.data.tests(language)["scenes"]
        before, after = (np.array(figures["ranks"]) for figures in (self.assess(language), self.teach(language)))
        return measure_gain(before, after, test.owner, choose_recall_ranks(self.candidates))

    def _make_parent(self, way: Arm) -> View:
        view = self.encoder.base_view
        if not isinstance(view.tokenizer.pieces, FilePieces):
            return view
        tokenizer = copy(view.tokenizer)
        tokenizer.new_row_kind = way.begins
        return replace(view, tokenizer=tokenizer)

    def _measure(self, path: Path, view: View, language: str, more: Figures | None = None) -> Figures:
        tests = self.data.tests(language)
        scenes = tests["scenes"]
        read = self._encode(view, scenes.captions)
        figures = {**measure_recalls(read, self.data.galleries["seen"], scenes.owner), **(more or {})}
        ids = view.tokenize(scenes.captions)
        figures["tokens"] = sum(map(len, ids)) / len(ids)
        figures["truncated"] = sum(len(line) > view.reading.most_tokens for line in ids) / len(ids)
        if words := tests.get("keywords"):
            found = measure_recalls(self._encode(view, words.captions), self.data.galleries["singles"], words.owner)
            figures["keywords"] = found["t2i"]
        figures["ranks"] = compute_ranks(read, self.data.galleries["seen"], scenes.owner).tolist()
        files.write_json(path, figures)
        return figures

    def _encode(self, view: View, captions: Sequence[str]) -> Any:
        return self.encoder.encode_texts([(view, caption) for caption in captions]).vectors

    @staticmethod
    def _load_kept(path: Path) -> Figures | None:
        found: Figures | None = json.loads(path.read_text()) if path.is_file() else None
        return found
