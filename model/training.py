"""The training of one language, readable from top to bottom: only rows of the corpus's own tokens are trained.

Only these rows are parameters, so the cost does not grow with the languages learned before. Under TEIR this is exactly
the step of the full table: rows outside the corpus have scale 0.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import checkpoint, detection, teir
from model.encoder import Encoder
from model.objectives import Corpus, Objective, Tokens, balanced, tokenized
from model.student import in_bfloat16
from model.table import NO_ROW, TokenRows, View, pad
from model.teir import aligned
from model.towers import supports_bfloat16
from model.version import Learned
from store.errors import TrainingDiverged

_BLOCK = 8_192  # rows of a large table that are read at a time
_MOMENTS = "adam."  # in a checkpoint, between a parameter's name and those of Adam's own tensors
_SAVE_SECONDS = 60.0  # at most this much training is repeated after a kill; the time of a save changes no bit
_RATE, _MOST_EPOCHS = 4e-3, 40
_MEASURED = 10_000  # captions up to which an aligned start was measured
_EPOCHS, _STEPS, _SEEN = 12, 48, 40_000  # of one: times that each is seen; least steps; captions in all


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
    checkpoint_every: int = 0  # steps

    def settled(self, captions: int, begins: str) -> "LearnSettings":
        """These for a dataset of so many captions, with a tokenizer whose new rows are "drawn" or of "pieces".

        By default up to 10,000 captions start aligned; more, and rows of pieces, start drawn. From an aligned start
        a row has less far to go: in 30 to 60 % of the steps, the smaller the more captions there are, languages read as
        well in the mean (decision 48).
        """
        start = self.start
        if start == "auto":
            start = "aligned" if captions <= _MEASURED and begins == "drawn" else "drawn"
        if start == "drawn":
            return replace(self, start=start)
        least = math.ceil(_STEPS / math.ceil(captions / self.batch_size))
        epochs = min(_MOST_EPOCHS, max(3, least, min(_EPOCHS, _SEEN // captions)))
        rate = max(_RATE / 2, min(_RATE, 2 / captions)) if self.learning_rate is None else self.learning_rate
        return replace(self, start=start, learning_rate=rate, epochs=self.epochs or epochs)

    def epochs_for(self, captions: int) -> int:
        """Small datasets are seen more often: drawn, about 70,000 captions in all, 3 to 40 times each (decision 48)."""
        return self.epochs or min(_MOST_EPOCHS, max(3, math.ceil(70_000 / captions)))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step`, counted from 1: a linear rise, a plateau, a linear fall."""
        risen = step / max(1.0, self.warmup * steps)
        left = (steps + 1 - step) / max(1.0, self.cooldown * steps)
        return (_RATE if self.learning_rate is None else self.learning_rate) * min(1.0, risen, left)

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether the frozen tower is to compute in bfloat16 on `device`."""
        return self.mixed_precision and supports_bfloat16(device)


@dataclass(frozen=True)
class Progress:
    """After `step` of `steps`, with the loss of that step."""

    step: int
    steps: int
    loss: float


class Interrupted(Exception):
    """Training stopped because it was asked to, with a checkpoint of its last step."""


class Trainer:
    """Trains one language as an expansion does: by TEIR, or from an aligned start, with both losses balanced.

    `used` (n,) are the token ids of the corpus, ascending; `ids` (m,) these and the specials of the base's reading.
    `rows` (m, width) are trained, each scaled by `scale` (m, 1); `sequences` are the captions as places among them.
    Benchmarks override single steps to compare other methods; `learn` itself knows none of them.
    """

    def __init__(self, encoder: Encoder, parent: View, corpus: Corpus, folder: Path, settings: LearnSettings) -> None:
        self.encoder, self.parent, self.corpus = encoder, parent, corpus
        self.folder, self.settings, self.device = folder, settings, encoder.base.device
        tokens = self.read()
        self.tokenizer = tokens.tokenizer
        self.settings = settings = settings.settled(len(corpus.captions), self.tokenizer.begins)
        self.reading = reading = parent.reading
        cut = [ids[: reading.most] for ids in tokens.ids]
        self.used = self.reached(cut)
        # frozen or not, their gradient counts in the clip norm; what fills up a text has a place of its own, since a
        # text may have the same token
        self.ids = np.append(self.used, np.array(reading.specials, dtype=np.int64))
        place = np.full(self.tokenizer.size, NO_ROW, dtype=np.int32)
        place[self.used] = np.arange(len(self.used))
        ends = np.arange(len(self.used), len(self.ids), dtype=np.int32)
        before, behind = np.split(ends[: len(reading.prefix) + len(reading.suffix)], [len(reading.prefix)])
        self.sequences = [np.concatenate([before, place[line], behind]) for line in cut]
        captions = len(corpus.captions)
        self.steps = math.ceil(captions / settings.batch_size) * settings.epochs_for(captions)
        self.rows = nn.Parameter(self.start_rows().to(self.device))
        self.scale = self.row_scale(parent.frequency(self.used, corpus.language)).to(self.device)
        half = settings.uses_bfloat16(self.device)
        self.student = in_bfloat16(encoder.base) if half else encoder.base.text_features
        self.objectives = [objective.to(self.device) for objective in self.losses()]

    def learn(self, on_step: Callable[[Progress], bool]) -> Learned:
        """Train; resumes from the newest checkpoint in the folder, bit for bit as if never interrupted.

        On another kind of processor the bits may be others. `on_step` is called after each step; when it returns True a
        checkpoint is written and `Interrupted` raised. Raises `TrainingDiverged` when the loss is not finite,
        `CheckpointMismatch` when the inputs changed since the last attempt.
        """
        steps, settings = self.steps, self.settings
        trained = {"rows": self.rows, **self.beside()}
        adamw = self.optimizer()
        belongs = self.belongs()
        newest = checkpoint.load_newest(self.folder, belongs)
        first = 0 if newest is None else _restore(newest, trained, adamw.adam)
        every = settings.checkpoint_every or max(20, steps // 10)
        saved = time.monotonic()
        for step, batch in self.batches(first):
            loss = self.loss(batch)
            if not bool(torch.isfinite(loss)):
                raise TrainingDiverged(f"the loss is no longer finite at step {step} of {steps}")
            loss.backward()  # type: ignore[no-untyped-call]
            adamw.step(settings.rate(step, steps), settings.clip)
            if step == steps and not bool(torch.isfinite(self.rows).all()):
                raise TrainingDiverged("the learned rows are not finite")
            stop = on_step(Progress(step, steps, loss.item()))
            if stop or step % every == 0 or step == steps or time.monotonic() - saved > _SAVE_SECONDS:
                checkpoint.save_step(self.folder, step, _state(trained, adamw.adam), belongs)
                saved = time.monotonic()
            if stop and step < steps:
                raise Interrupted
        return self.learned()

    # The steps that make the method, in the order in which they are needed.

    def read(self) -> Tokens:
        """The tokenizer grown on the corpus, and the corpus's token ids."""
        return tokenized(self.parent.tokenizer, self.corpus.captions, self.settings.vocabulary, self.folder / "tokens")

    def reached(self, lines: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        """The token ids (n,), ascending, whose rows are trained: all that occur in `lines`, the captions as tokens."""
        return np.unique(np.concatenate(lines)).astype(np.int64)

    def start_rows(self) -> Tensor:
        """The parent's rows where it has them, elsewhere new ones, or means of its own or of English; (m, width)."""
        table, physical = self.encoder.table.rows, self.parent.physical
        if self.tokenizer.begins == "pieces":
            start = torch.zeros((len(self.ids), table.width))
            places, rows = self.joined()
            start[places] = rows
        else:
            blocks = torch.split(torch.from_numpy(physical[physical != NO_ROW]).long(), _BLOCK)
            random = torch.Generator().manual_seed(self.settings.seed)
            start = self.new_rows(len(self.ids), (table[block] for block in blocks), random)
        if self.settings.start == "aligned":
            places, rows = self.meanings(start)
            start[places] = rows
        inherited = self.inherited()
        start[inherited] = table[torch.from_numpy(physical[self.ids[inherited]]).long()].cpu()
        if self.reading.pad is not None:  # always the base's, as in `table.pad`
            start[-1] = table[torch.tensor(self.reading.pad, device=table.device)].cpu()
        return start

    def inherited(self) -> NDArray[np.int64]:
        """The places among `ids` of tokens that have a row in the parent."""
        known = np.flatnonzero(self.ids < len(self.parent.physical))
        held: NDArray[np.int64] = known[self.parent.physical[self.ids[known]] != NO_ROW]
        return held

    def new_rows(self, count: int, table: Iterable[Tensor], generator: torch.Generator) -> Tensor:
        """Rows (count, width) for tokens that have none yet; `table`: all rows so far, in blocks (m, width)."""
        return teir.new_rows(count, table, generator)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Places (k,) among `ids` of tokens without a row in the parent, and the mean row (k, width) of their parts.

        Parts are the tokens by which the parent reads the same string (docs/decisions/0007).
        """
        new = np.setdiff1d(np.arange(len(self.used)), self.inherited())
        table = self.encoder.table.rows
        rows = torch.empty((len(new), table.width))
        for row, number in zip(rows, self.used[new], strict=True):
            parts = self.parent.physical[[*self.parent.known(int(number), self.tokenizer)]]
            row.copy_(table[torch.from_numpy(parts).long()].mean(dim=0))
        return torch.from_numpy(new), rows

    def meanings(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Places (k,) among `ids` of tokens that stand for English ones, and the row (k, width) that says so.

        `drawn` (m, width) are the rows without meanings.
        """
        paired = [
            (line, text) for line, text in zip(self.sequences, self.corpus.texts, strict=False) if text is not None
        ]
        english = self.encoder.base_view.tokens([text for _, text in paired])
        first, behind = len(self.reading.prefix), len(self.reading.suffix)
        said, meant, probability = aligned([line[first : len(line) - behind] for line, _ in paired], english)
        places = torch.from_numpy(np.unique(said))
        return places, teir.meant_rows(said, meant, probability, self.encoder.base.table, drawn[places])

    def row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        """The scale (m, 1) of rows that so many languages trained; begin and end of text, and pads, are frozen."""
        return torch.cat([teir.row_scale(frequency), torch.zeros(len(self.reading.specials), 1)])

    def losses(self) -> Sequence[Objective]:
        """The terms of the loss."""
        return balanced(self.corpus)

    def beside(self) -> dict[str, nn.Parameter]:
        """What is trained beside the rows, by its name in a checkpoint: the temperature of the cross-modal loss."""
        return dict(nn.ModuleList(self.objectives).named_parameters("loss"))

    def optimizer(self) -> teir.ScaledAdamW:
        """What moves the rows and what is trained beside them."""
        return teir.ScaledAdamW(self.rows, self.scale, [*self.beside().values()], self.settings.weight_decay)

    def batches(self, first: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Steps first + 1 to the last with the captions of each: shuffled, then sorted so that lengths are alike."""
        own = self.sequences[: len(self.corpus.captions)]
        size, lengths = self.settings.batch_size, np.array([len(sequence) for sequence in own])
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
            yield step + 1, order[position]

    @property
    def filler(self) -> int | None:
        """The place among `ids` of what fills up a text, where the tower reads it."""
        return None if self.reading.pad is None else len(self.ids) - 1

    def features(self, numbers: Tensor, last: Tensor) -> Tensor:
        """Features (b, dimension) of texts whose rows are `numbers` (b, length), read off at `last` (b,)."""
        return self.student(self.rows[numbers], last)

    def encoded(self, batch: NDArray[np.int64]) -> Tensor:
        """Features (b, dimension) of the captions `batch` (b,)."""
        numbers, last = pad([self.sequences[index] for index in batch], self.reading, filler=self.filler)
        return self.features(numbers.to(self.device), last.to(self.device))

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        """The loss of the captions `batch` (b,)."""
        return loss_of(self.encoded(batch), self.corpus, torch.from_numpy(batch), self.objectives)

    def kept(self) -> TokenRows:
        """The rows that the version stores: those of the corpus's tokens."""
        return TokenRows(self.used, self.rows.detach().cpu()[: len(self.used)].clone())

    def learned(self) -> Learned:
        """All that the version stores."""
        return Learned(
            self.tokenizer.added[len(self.parent.tokenizer.added) :],
            self.tokenizer.words[len(self.parent.tokenizer.words) :],
            self.kept(),
            self.tokenizer.sha256,
            detection.count(self.corpus.captions),
        )

    def key(self) -> dict[str, object]:
        """What a checkpoint must agree on besides settings, tokenizer and data."""
        return {"method": type(self).__qualname__}

    def belongs(self) -> dict[str, str]:
        """What a checkpoint of this training must have been made from; to be asked before the first step."""
        inherited = self.rows.detach()[torch.from_numpy(self.inherited())]
        return {
            "corpus": self.corpus.sha256(),
            "settings": json.dumps(asdict(self.settings), sort_keys=True),
            "method": json.dumps(self.key(), sort_keys=True),
            "tokenizer": self.tokenizer.sha256,
            "base": self.encoder.text_fingerprint,
            "parent": _digest(inherited, self.scale),
        }


def loss_of(features: Tensor, corpus: Corpus, batch: Tensor, objectives: Iterable[Objective]) -> Tensor:
    """The sum of all terms. A last caption alone in its batch, without English, has no term and changes nothing."""
    terms = [term for objective in objectives if (term := objective.of(features, corpus, batch)) is not None]
    return sum(terms[1:], terms[0]) if terms else 0.0 * features.sum()


def _digest(*tensors: Tensor) -> str:
    """Hex sha256 of their bytes. Of new rows it would not be the same on another kind of processor."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _state(trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> dict[str, Tensor]:
    state = {name: parameter.detach() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        state |= {f"{name}.{_MOMENTS}{key}": value for key, value in adam.state.get(parameter, {}).items()}
    return state


def _restore(newest: tuple[int, dict[str, Tensor]], trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> int:
    """Put a checkpoint back; returns its step."""
    step, tensors = newest
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[name])
        start = f"{name}.{_MOMENTS}"
        moments = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if moments:
            adam.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
            adam.state[parameter]["step"] = moments["step"]  # which Adam keeps where it is cheap to read
    return step
