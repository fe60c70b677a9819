"""The training of one language: only rows of the corpus's own tokens are trained.

Only these rows are parameters, so the cost does not grow with the languages learned before. Under TEIR this is exactly
the step of the full table: rows outside the corpus have scale 0.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import checkpoint, objectives
from model.checkpoint import TokenRows, VersionContent
from model.encoder import NO_ROW, Encoder, View, pad
from model.languages import can_read
from model.lexicon import collect_words, count_ngrams
from model.objectives import NO_PICTURE, Corpus, CorpusTokens, Entry, Objective, make_objectives, tokenize_corpus
from model.text import is_word
from model.towers import can_multiply_bfloat16, make_bfloat16_tower
from store.errors import TrainingDiverged

Row = TypeVar("Row")
_BLOCK = 8_192  # rows of a large table that are read at a time
_SAVE_SECONDS = 5.0  # at most this much training is repeated after a kill; the time of a save changes no bit
_RATE, _MOST_EPOCHS = 4e-3, 40
_MEASURED = 10_000  # captions up to which an aligned start was measured
_EPOCHS, _STEPS, _SEEN = 12, 48, 40_000  # of one: times that each is seen; least steps; captions in all
_BESIDE_LIST = 6  # times at least that captions are seen which stand beside a list of words (docs/decisions/0048)
_LIST_BATCH, _LIST_SEEN = 256, 75_000  # of longer lists of words (docs/decisions/0048)
_LEARNED = 0.02  # of a row's length: a difference that is not worth a step
_REFIT = 1 / 6  # of the epochs, where most captions were learned already (docs/decisions/0050)


@dataclass(frozen=True)
class LearnSettings:
    """What a training may be set to; 0 epochs or steps, "auto" and None mean: by the size of the dataset."""

    epochs: int = 0
    batch_size: int = 64
    learning_rate: float | None = None
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps in which the rate rises
    cooldown: float = 0.9  # share of the steps, at the end, in which it falls to nothing; 0: constant, as published
    clip: float = 1.0  # global gradient norm
    vocabulary: int = 10_000  # most tokens of the language's own BPE
    start: Literal["auto", "drawn", "aligned"] = "auto"  # new rows: as TEIR draws them, or by English rows
    seed: int = 0
    mixed_precision: bool = True  # the frozen tower in bfloat16 where the processor has it; rows and Adam in float32
    checkpoint_every: int = 0  # steps; 0: by time alone

    def resolve(self, entries: Sequence[Entry], begins: str) -> "LearnSettings":
        """Return these for a dataset of these captions, with a tokenizer whose new rows are "drawn" or of "pieces".

        By default up to 10,000 captions start aligned, and lists of words, whose rows have hardly any way to go; more,
        and rows of pieces, start drawn. From an aligned start a row has less far to go: in 30 to 60 % of the steps, the
        smaller the more captions there are, languages read as well in the mean (decision 48).
        """
        start, count = self.start, len(entries)
        are_words = 2 * sum(starmap(is_word, entries)) > count
        if start == "auto":
            start = "aligned" if (count <= _MEASURED or are_words) and begins == "drawn" else "drawn"
        if start == "drawn":
            return replace(self, start=start)
        rate = max(_RATE / 2, min(_RATE, 2 / count)) if self.learning_rate is None else self.learning_rate
        if are_words and count > _MEASURED:
            epochs = self.epochs or max(1, min(3, _LIST_SEEN // count))
            return replace(self, start=start, learning_rate=rate, epochs=epochs, batch_size=_LIST_BATCH)
        least = math.ceil(_STEPS / math.ceil(count / self.batch_size))
        epochs = min(_MOST_EPOCHS, max(3, least, min(_EPOCHS, _SEEN // count)))
        return replace(self, start=start, learning_rate=rate, epochs=self.epochs or epochs)

    def choose_epochs(self, captions: int) -> int:
        """Return how often each caption is seen: drawn, 3 to 40 times, about 70,000 captions in all (decision 48)."""
        return self.epochs or min(_MOST_EPOCHS, max(3, math.ceil(70_000 / captions)))

    def repeat_captions(self, rows: Sequence[Row], listed: Collection[Row]) -> Sequence[Row]:
        """Return rows, for which these were resolved, several times if they are in no list: that may be seen once."""
        captions = [row for row in rows if row not in listed]
        if not self.epochs or not captions or len(captions) == len(rows):
            return rows
        times = math.ceil(min(_BESIDE_LIST, _SEEN / len(captions)) / self.epochs)
        return [*rows, *captions * (times - 1)]

    def shorten(self, captions: int, least: int = _STEPS) -> tuple["LearnSettings", int]:
        """Return these, resolved, for so many captions of which most were learned: in a sixth of the epochs.

        But in no fewer than the `least` steps. Where that is less than one epoch, one in so many captions is seen.
        """
        epochs, steps = self.choose_epochs(captions), math.ceil(captions / self.batch_size)
        fewer = min(epochs, max(1, math.ceil(least / steps), round(_REFIT * epochs)))
        one_in = min(round(1 / (_REFIT * epochs)), steps // max(1, least)) if fewer == 1 else 1
        return replace(self, epochs=fewer), max(1, one_in)

    def count_steps(self, captions: int) -> int:
        return math.ceil(captions / self.batch_size) * self.choose_epochs(captions)

    def compute_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of `step`, counted from 1: a linear rise, a plateau, a linear fall."""
        rise = step / max(1.0, self.warmup * steps)
        fall = (steps + 1 - step) / max(1.0, self.cooldown * steps)
        return (_RATE if self.learning_rate is None else self.learning_rate) * min(1.0, rise, fall)

    def can_use_bfloat16(self, device: torch.device) -> bool:
        """Return whether the frozen tower is to compute in bfloat16 on `device`."""
        return self.mixed_precision and can_multiply_bfloat16(device)


@dataclass(frozen=True)
class Progress:
    """A training after `step` of `steps`, with the loss of that step."""

    step: int
    steps: int
    loss: float


class TrainingInterrupted(Exception):
    """The training stopped because it was asked to, with a checkpoint of its last step."""


class Trainer:
    """A training of one language as an expansion does it: by TEIR, or from an aligned start, with both losses balanced.

    `used` (n,) are the token ids of the corpus, ascending; `ids` (m,) these and the specials of the base's reading.
    `rows` (m, width) are trained, each scaled by `scale` (m, 1); `sequences` are the captions as places among them.
    Benchmarks override single steps to compare other methods; `learn` itself knows none of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        parent: View,
        corpus: Corpus,
        folder: Path,
        settings: LearnSettings,
        begun: VersionContent | None = None,
    ) -> None:
        """Begin with the rows and the tokenizer of `begun`, where the language has learned some captions already."""
        self.encoder, self.parent, self.corpus, self.begun = encoder, parent, corpus, begun
        self.folder, self.settings, self.device = folder, settings, encoder.base.device
        tokens = self.tokenize()
        self.tokenizer, self.reading = tokens.tokenizer, parent.reading
        self.settings = settings = settings.resolve(corpus.entries, self.tokenizer.new_row_kind)
        lines = [ids[: self.reading.most_tokens] for ids in tokens.ids]
        self.used = self.find_trained_ids(lines)
        # frozen or not, the specials' gradient counts in the clip norm; what fills up a text has a place of its own,
        # since a text may have the same token
        self.ids = np.append(self.used, np.array(self.reading.specials, dtype=np.int64))
        self.sequences = self.number_rows(lines)
        self.rows = nn.Parameter(self.start_rows().to(self.device))
        self.lesson = self.find_lesson()
        self.steps = settings.count_steps(len(self.lesson))
        self.scale = self.compute_row_scale(parent.count_frequency(self.used, corpus.language)).to(self.device)
        half = settings.can_use_bfloat16(self.device)
        self.student = make_bfloat16_tower(encoder.base) if half else encoder.base.compute_text_features
        self.objectives = [objective.to(self.device) for objective in self.make_objectives()]

    def learn(self, on_step: Callable[[Progress], bool]) -> VersionContent:
        """Train; resume from the newest checkpoint in the folder, bit for bit as if never interrupted.

        On another kind of processor the bits may be others. `on_step` is called after each step; when it returns True a
        checkpoint is written and `TrainingInterrupted` raised. Raises `TrainingDiverged` when the loss is not finite,
        `CheckpointMismatch` when the inputs changed since the last attempt.
        """
        steps, settings = self.steps, self.settings
        trained = {"rows": self.rows, **self.get_extra_parameters()}
        adamw = self.make_optimizer()
        inputs = self.describe_inputs()
        newest = checkpoint.load_newest(self.folder, inputs)
        first = 0 if newest is None else checkpoint.restore(newest, trained, adamw.adam)
        every = settings.checkpoint_every or steps
        saved = time.monotonic()
        for step, batch in self.make_batches(first):
            loss = self.compute_loss(batch)
            if not bool(torch.isfinite(loss)):
                raise TrainingDiverged(f"the loss is no longer finite at step {step} of {steps}")
            loss.backward()  # type: ignore[no-untyped-call]
            adamw.step(settings.compute_rate(step, steps), settings.clip)
            if step == steps and not bool(torch.isfinite(self.rows).all()):
                raise TrainingDiverged("the learned rows are not finite")
            stop = on_step(Progress(step, steps, loss.item()))
            if stop or step == steps or step % every == 0 or time.monotonic() - saved > _SAVE_SECONDS:
                checkpoint.save_step(self.folder, step, checkpoint.collect_state(trained, adamw.adam), inputs)
                saved = time.monotonic()
            if stop and step < steps:
                raise TrainingInterrupted
        return self.collect_content()

    # The steps that make the method, in the order in which they are needed.

    def tokenize(self) -> CorpusTokens:
        """Grow the tokenizer on the corpus, and return it with the corpus's token ids."""
        captions, parent = self.corpus.captions, self.parent.tokenizer
        if self.begun is not None:
            tokenizer = self.begun.extend_tokenizer(parent)
            return CorpusTokens(tokenizer, [np.asarray(ids, dtype=np.int32) for ids in tokenizer.encode(captions)])
        every = [*self.corpus.entries, *self.corpus.others]
        tokens = tokenize_corpus(parent, every, self.settings.vocabulary, self.folder / "tokens")
        return CorpusTokens(tokens.tokenizer, tokens.ids[: len(captions)])

    def find_trained_ids(self, lines: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        """Return the token ids (n,), ascending, whose rows are trained: of the captions `lines`, and those begun."""
        begun = () if self.begun is None else (self.begun.rows.ids,)
        return np.unique(np.concatenate([*lines, *begun])).astype(np.int64)

    def number_rows(self, lines: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
        """Return the captions `lines` as places among `ids`, each within the specials of the base's reading."""
        place = np.full(self.tokenizer.size, NO_ROW, dtype=np.int32)
        place[self.used] = np.arange(len(self.used))
        ends = np.arange(len(self.used), len(self.ids), dtype=np.int32)
        first, behind = len(self.reading.prefix), len(self.reading.suffix)
        return [np.concatenate([ends[:first], place[line], ends[first : first + behind]]) for line in lines]

    def start_rows(self) -> Tensor:
        """Return rows (m, width): the parent's where it has them, else new ones, or means of parts or of English."""
        table, physical = self.encoder.table.rows, self.parent.physical
        if self.tokenizer.new_row_kind == "pieces":
            start = torch.zeros((len(self.ids), table.width))
            places, rows = self.average_parts()
            start[places] = rows
        else:
            blocks = torch.split(torch.from_numpy(physical[physical != NO_ROW]).long(), _BLOCK)
            random = torch.Generator().manual_seed(self.settings.seed)
            start = self.draw_rows(len(self.ids), (table[block] for block in blocks), random)
        if self.settings.start == "aligned":
            places, rows = self.average_english(start)
            start[places] = rows
        inherited = self.find_inherited()
        start[inherited] = table[torch.from_numpy(physical[self.ids[inherited]]).long()].cpu()
        if self.begun is not None:
            _, own, theirs = np.intersect1d(self.used, self.begun.rows.ids, return_indices=True)
            start[torch.from_numpy(own)] = self.begun.rows.rows[torch.from_numpy(theirs)]
        if self.reading.pad is not None:  # always the base's, as in `table.pad`
            start[-1] = table[torch.tensor(self.reading.pad, device=table.device)].cpu()
        return start

    def find_inherited(self) -> NDArray[np.int64]:
        """Return the places among `ids` of tokens that have a row in the parent."""
        older = np.flatnonzero(self.ids < len(self.parent.physical))
        inherited: NDArray[np.int64] = older[self.parent.physical[self.ids[older]] != NO_ROW]
        return inherited

    def draw_rows(self, count: int, table: Iterable[Tensor], generator: torch.Generator) -> Tensor:
        """Draw rows (count, width) for tokens that have none yet; `table`: all rows so far, in blocks (m, width)."""
        return objectives.draw_rows(count, table, generator)

    def average_parts(self) -> tuple[Tensor, Tensor]:
        """Return places (k,) among `ids` of tokens without a row in the parent, and means (k, width) of their parts.

        Parts are the tokens by which the parent reads the same string (docs/decisions/0007).
        """
        new = np.setdiff1d(np.arange(len(self.used)), self.find_inherited())
        table = self.encoder.table.rows
        rows = torch.empty((len(new), table.width))
        for row, number in zip(rows, self.used[new], strict=True):
            parts = self.parent.physical[[*self.parent.find_trained_parts(int(number), self.tokenizer)]]
            row.copy_(table[torch.from_numpy(parts).long()].mean(dim=0))
        return torch.from_numpy(new), rows

    def average_english(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return places (k,) among `ids` of tokens aligned with English ones, and the mean row (k, width) of those.

        `drawn` (m, width) are the rows that they would start from otherwise.
        """
        both = zip(self.sequences, self.corpus.pivot_texts, strict=False)
        paired = [(line, text) for line, text in both if text is not None]
        english = self.encoder.base_view.tokenize([text for _, text in paired])
        first, behind = len(self.reading.prefix), len(self.reading.suffix)
        own = [line[first : len(line) - behind] for line, _ in paired]
        tokens, english_tokens, probability = objectives.align_tokens(own, english)
        places, table = torch.from_numpy(np.unique(tokens)), self.encoder.base.table
        return places, objectives.average_english_rows(tokens, english_tokens, probability, table, drawn[places])

    def find_lesson(self) -> NDArray[np.int64]:
        """Return the places (n,) of the captions that are trained: all but words that start as their English does.

        From an aligned start a word with one meaning has its row, and nothing is left to learn (docs/decisions/0048).
        """
        every = np.arange(len(self.corpus.captions))
        if self.settings.start != "aligned":
            return every
        first, behind = len(self.reading.prefix), len(self.reading.suffix)
        texts, own = [text or "" for text in self.corpus.pivot_texts], self.rows.detach().cpu()
        lines = [line[first : len(line) - behind] for line in self.sequences]
        both = zip(lines, self.encoder.base_view.tokenize(texts), self.corpus.picture_rows.tolist(), strict=False)
        words = [
            (place, line[0], english[0])
            for place, (line, english, picture) in enumerate(both)
            if len(line) == len(english) == 1 and picture == NO_PICTURE
        ]
        if not words:
            return every
        places, rows, theirs = np.array(words, dtype=np.int64).T
        goal = self.encoder.base.table[torch.from_numpy(theirs)].float().cpu()
        far = (own[torch.from_numpy(rows)] - goal).norm(dim=1) > _LEARNED * goal.norm(dim=1)
        rest = np.setdiff1d(every, places[~far.numpy()])
        moved = np.concatenate([lines[place] for place in rest]) if len(rest) else rest  # by other captions
        return np.union1d(rest, places[np.isin(rows, moved)])

    def compute_row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        """Return the scale (m, 1) of rows that so many languages trained; those of the specials are frozen."""
        return torch.cat([objectives.compute_row_scale(frequency), torch.zeros(len(self.reading.specials), 1)])

    def make_objectives(self) -> Sequence[Objective]:
        return make_objectives(self.corpus)

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained beside the rows, by its name in a checkpoint: the cross-modal temperature."""
        return dict(nn.ModuleList(self.objectives).named_parameters("loss"))

    def make_optimizer(self) -> objectives.ScaledAdamW:
        """Return what moves the rows and what is trained beside them."""
        return objectives.ScaledAdamW(
            self.rows, self.scale, [*self.get_extra_parameters().values()], self.settings.weight_decay
        )

    def make_batches(self, first: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield steps first + 1 to the last with their captions: shuffled, then sorted so that lengths are alike."""
        size, lengths = self.settings.batch_size, np.array([len(self.sequences[place]) for place in self.lesson])
        order: list[NDArray[np.int64]] = []
        for step in range(first, self.steps):
            epoch, position = divmod(step, math.ceil(len(lengths) / size))
            if not order or position == 0:
                random = np.random.default_rng((self.settings.seed, epoch))
                shuffled = random.permutation(len(lengths))
                buckets = np.split(shuffled, range(16 * size, len(shuffled), 16 * size))
                by_length = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in buckets])
                order = np.split(by_length, range(size, len(by_length), size))
                random.shuffle(order)
            yield step + 1, self.lesson[order[position]]

    @property
    def filler(self) -> int | None:
        """Return the place among `ids` of what fills up a text, where the tower reads it."""
        return None if self.reading.pad is None else len(self.ids) - 1

    def compute_features(self, numbers: Tensor, last: Tensor) -> Tensor:
        """Compute features (b, dimension) of texts whose rows are `numbers` (b, length), read off at `last` (b,)."""
        return self.student(self.rows[numbers], last)

    def encode_batch(self, batch: NDArray[np.int64]) -> Tensor:
        """Compute features (b, dimension) of the captions `batch` (b,)."""
        numbers, last = pad([self.sequences[index] for index in batch], self.reading, filler=self.filler)
        return self.compute_features(numbers.to(self.device), last.to(self.device))

    def compute_loss(self, batch: NDArray[np.int64]) -> Tensor:
        """Compute the loss of the captions `batch` (b,)."""
        return sum_losses(self.encode_batch(batch), self.corpus, torch.from_numpy(batch), self.objectives)

    def collect_rows(self) -> TokenRows:
        """Return the rows that the version stores: those of the corpus's tokens."""
        return TokenRows(self.used, self.rows.detach().cpu()[: len(self.used)].clone())

    def collect_content(self) -> VersionContent:
        return VersionContent(
            self.tokenizer.merges[len(self.parent.tokenizer.merges) :],
            self.tokenizer.words[len(self.parent.tokenizer.words) :],
            self.collect_rows(),
            self.tokenizer.sha256,
            count_ngrams(self.corpus.captions),
            # a base that reads the language already knows more words of it than were taught
            () if can_read(self.encoder.languages, self.corpus.language) else collect_words(self.corpus.captions),
        )

    def describe_method(self) -> dict[str, object]:
        """Return what a checkpoint must agree on besides settings, tokenizer and data."""
        return {"method": type(self).__qualname__}

    def describe_inputs(self) -> dict[str, str]:
        """Return what a checkpoint of this training must have been made from; to be asked before the first step."""
        inherited = self.rows.detach()[torch.from_numpy(self.find_inherited())]
        return {
            "corpus": self.corpus.compute_sha256(),
            "settings": json.dumps(asdict(self.settings), sort_keys=True),
            "method": json.dumps(self.describe_method(), sort_keys=True),
            "tokenizer": self.tokenizer.sha256,
            "base": self.encoder.text_fingerprint,
            "parent": checkpoint.hash_tensors(inherited, self.scale),
            "begun": "" if self.begun is None else self.begun.digest,
        }


def sum_losses(features: Tensor, corpus: Corpus, batch: Tensor, objectives: Iterable[Objective]) -> Tensor:
    """Return the sum of all terms. A last caption alone in its batch, without pivot, has none: 0."""
    terms = [term for objective in objectives if (term := objective.compute_loss(features, corpus, batch)) is not None]
    return sum(terms[1:], terms[0]) if terms else 0.0 * features.sum()
