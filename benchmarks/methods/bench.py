"""Teaches all languages by one method, one on top of the other, and scores each of them after every one.

What a language left is on disk when the next begins, so a run that was stopped goes on where it was. Each way to make a
row has a folder of its own, so a method that was changed is trained anew.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from benchmarks.emoji36.data import Data, Test
from benchmarks.emoji36.run import Scores, Spent, claim
from benchmarks.emoji36.table import Ledger
from benchmarks.emoji36.tokenizers import Oracle
from benchmarks.methods import sampled
from benchmarks.methods.rows import ORACLE, ROWS, choose_tokenizer
from benchmarks.methods.trainer import NOTHING, Features, SuiteTrainer
from model import checkpoint
from model.base import Base
from model.checkpoint import CachedResult, VersionContent, hash_key, load_result, save_result
from model.encoder import NO_ROW, Encoder, Table
from model.evaluation import compute_ranks, measure_recalls
from model.objectives import Corpus
from model.tokenizer import Tokenizer
from model.towers import TorchTowers
from model.training import LearnSettings
from store import files
from store.errors import VersionCorrupt

SPOKEN = "bench/spoken"  # beside what a method leaves: the tokens of the language's own captions
_BATCH = 64  # texts in one forward pass; more have lengths that are less alike


@dataclass(frozen=True)
class Bench:
    """One seed's run. Each language's test asks `queries` of its captions, other ones than its neighbours' tests."""

    base: Base
    data: Data
    settings: LearnSettings
    queries: int
    folder: Path
    tell: Callable[[str], None]
    commit: str

    @cached_property
    def corpora(self) -> Callable[[str], Corpus]:
        """The training data of a language, composed once."""
        return cache(self.data.build_corpus)

    @cached_property
    def tests(self) -> Callable[[str], Test]:
        """What a language's test asks."""
        return cache(
            lambda language: choose_questions(self.data.tests(language)["scenes"], self.queries, self._place(language))
        )

    def sum_by_picture(self, triangle: Sequence[Sequence[Scores]]) -> dict[str, sampled.Sums]:
        """Return what each picture of a gallery adds to the metrics of a row."""
        tests = [self.tests(language) for language in self.data.languages]
        owners = [test.owner for test in tests]
        return {gallery: sampled.sums(triangle, gallery, owners) for gallery in tests[0].galleries}

    def _place(self, language: str) -> int:
        return list(self.data.languages).index(language)

    def described(self, name: str) -> dict[str, Any]:
        """Return all that a row's scores depend on except the data."""
        made = {
            "tokenizer": choose_tokenizer(name).__name__,
            "method": ROWS[name].key(),
            "settings": asdict(self.settings),
        }
        return {**made, "queries": self.queries}

    def chain(self, name: str) -> "Chain":
        """Return what the first language of a row is taught on."""
        return Chain(self.base, self._oracle if name == ORACLE else choose_tokenizer(name)())

    @cached_property
    def _oracle(self) -> Tokenizer:
        return Oracle.all_at_once([caption for tag in self.data.languages for caption in self.corpora(tag).captions])


class Chain:
    """The newest table, and what the method has left so far. Holds no row that nothing reads any more."""

    def __init__(self, base: Base, tokenizer: Tokenizer) -> None:
        self.encoder, self.left = Encoder(base), NOTHING
        self.view = replace(self.encoder.base_view, tokenizer=tokenizer)

    def add(self, language: str, number: int, learned: VersionContent, left: CachedResult) -> None:
        """Go on to the version that a language left; rows that are not stored with it keep `idle` of themselves."""
        view = self.encoder.extend(self.view, number, language, learned).shared  # texts are read as they are
        held = np.flatnonzero(view.physical != NO_ROW)
        rows = self.encoder.table.rows[torch.from_numpy(view.physical[held]).long()]
        rows[torch.from_numpy(~np.isin(held, learned.rows.ids))] *= left.facts["idle"]
        self.encoder.table = Table(self.encoder.base.table)
        physical = view.physical.copy()
        physical[held] = self.encoder.table.append(rows)
        # f counts who spoke a token, not whose memory held it
        trained = {**self.view.trained, language: left.tensors[SPOKEN].numpy()}
        self.view = replace(view, physical=physical, trained=trained)
        self.left = CachedResult({key: value for key, value in left.tensors.items() if key != SPOKEN}, left.facts)


def fill(bench: Bench, name: str, again: bool = False) -> Ledger:
    """Train and score a row as far as it is not done, or all of it `again`, and return its ledger."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(bench.folder / f"{name}.lock"):  # two runs may reach it at once
        made = bench.described(name)
        folder = bench.folder / name / hash_key(made)[:12]
        if again:
            files.remove(folder)
        ledger = Ledger(folder / "scores.json")
        if ledger.content.get("done"):
            bench.tell(f"{name}: done already, at {', '.join(ledger.content['commits'])}")
            return ledger
        if not again and not folder.exists() and folder.parent.exists() and any(folder.parent.iterdir()):
            bench.tell(f"{name}: made in another way before, by other code or settings; trained anew")
        claim(folder / "row.json", made)
        ledger.content["made"] = made
        _fill(bench, name, folder, ledger)
        return ledger


def _fill(bench: Bench, name: str, folder: Path, ledger: Ledger) -> None:
    chain, facts = bench.chain(name), []
    for number, language in enumerate(bench.data.languages, 1):
        place = folder / f"{number:02d}-{language}"
        if not (place / "left").exists():
            teach(bench, chain, name, language, place)
        learned, manifest = checkpoint.read_version(place / "version")
        left = load_result(place / "left", name)
        if left is None:
            raise VersionCorrupt(f"{place / 'left'} is damaged; remove it and {place / 'version'}")
        chain.add(language, number, learned, left)
        facts.append(manifest | {"rows": len(learned.rows.ids), "total": int((chain.view.physical != NO_ROW).sum())})
        if number > len(ledger.triangle):
            known = bench.data.languages[:number]
            ledger.add([score(bench, chain, name, tag) for tag in known], [])
            bench.tell(f"{name}: {language}, {number} of {len(bench.data.languages)}, {manifest['seconds']:.0f} s")
    ledger.content |= {
        "commits": sorted({each["commit"] for each in facts}),
        "train_seconds": [each["seconds"] for each in facts],
        "rows_trained": [each["rows"] for each in facts],
        "rows_total": [each["total"] for each in facts],
        "by_picture": bench.sum_by_picture(ledger.triangle),
        "done": True,
    }
    ledger.save()
    for place in folder.glob("*-*"):
        files.remove(place)  # the scores are what is left


def teach(bench: Bench, chain: Chain, name: str, language: str, place: Path) -> None:
    """Write the version of one language and what its method leaves; the second is written last."""
    corpus = bench.corpora(language)
    # alike in all rows of one tokenizer: it grows on the captions alone
    words = bench.folder / "tokens" / type(chain.view.tokenizer).__name__ / language
    folder, left = place / "checkpoints", chain.left
    trainer = ROWS[name].trainer(chain.encoder, chain.view, corpus, folder, bench.settings, left, words)
    assert isinstance(trainer, SuiteTrainer)
    spent = Spent(place / "seconds.json", time.process_time)
    learned = trainer.learn(spent.on_step)
    tensors = {**trainer.leaves(), SPOKEN: torch.from_numpy(trainer.spoken)}
    facts = {**trainer.facts(), "idle": trainer.idle() if ROWS[name].dense else 1.0}
    checkpoint.write_version(place / "version", learned, {"seconds": spent.seconds(), "commit": bench.commit})
    save_result(place / "left", name, CachedResult(tensors, facts))
    files.remove(place / "checkpoints")


def score(bench: Bench, chain: Chain, name: str, language: str) -> Scores:
    """Return recall of the language's test, among all pictures of each gallery, by the newest table."""
    kind, half = ROWS[name].kind, bench.settings.can_use_bfloat16(bench.base.device)
    assert issubclass(kind, SuiteTrainer)
    test = bench.tests(language)
    vectors = encode_texts(chain, kind.reads(bench.base, chain.left, language, half), test.captions)
    by_gallery = {each: (vectors, bench.data.galleries[each], test.owner) for each in test.galleries}
    return {
        gallery: {**measure_recalls(*queries), sampled.FIRST: sampled.pack(compute_ranks(*queries))}
        for gallery, queries in by_gallery.items()
    }


def choose_questions(test: Test, queries: int, place: int) -> Test:
    """Return some captions of a test, evenly spread; languages beside each other ask others."""
    step = max(1, len(test.captions) // queries) if queries else 1
    chosen = np.arange(place % step, len(test.captions), step)
    return replace(test, captions=[test.captions[each] for each in chosen], owner=test.owner[chosen])


def encode_texts(chain: Chain, features: Features, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit vectors of texts by the newest view, and this tower."""
    sequences = [chain.view.build_sequence(ids)[0] for ids in chain.view.tokenize(texts)]
    found = open_reader(chain.encoder, features).compute_text_features(sequences, _BATCH)
    vectors: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return vectors


def open_reader(encoder: Encoder, features: Features) -> Encoder:
    """Return this encoder, rows and all, with other `features` of texts."""
    found = copy.copy(encoder)
    found.towers = _Reading(encoder.base, features)
    return found


class _Reading(TorchTowers):
    """Torch, but by other `features` of texts."""

    def __init__(self, base: Base, features: Features) -> None:
        super().__init__(base)
        self._features = features

    @torch.inference_mode()
    def encode_texts(self, rows: torch.Tensor, last: torch.Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._features(rows, last).float().cpu().numpy()
        return found
