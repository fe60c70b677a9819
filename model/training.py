"""One expansion's training, readable top to bottom: the rows of the corpus's own tokens are taught, all else is frozen.

Only the gathered rows are in memory as parameters, so the cost does not grow with the languages learned before; under
TEIR that is exactly the step of the full table (rows outside the corpus have scale 0).
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import checkpoint, detection, teir
from model.base import BOT, EOT
from model.corpus import Corpus
from model.encoder import Encoder
from model.errors import TrainingDiverged
from model.method import DEFAULT, Method
from model.objectives import Objective
from model.table import NO_ROW, TokenRows, View, pad
from model.tokenizer import Tokenizer
from model.tokens import Tokens, tokens
from model.tower import supports_bfloat16
from model.version import Learned

_BLOCK = 8_192  # rows of a large table that are looked at at a time
_MOMENTS = "adam."  # in a checkpoint, between a parameter's name and those of Adam's own tensors
_SAVE_SECONDS = 60.0  # at most this much training is repeated after a kill; when it is saved changes no bit


@dataclass(frozen=True)
class LearnSettings:
    """What a user may set; `epochs` and `checkpoint_every` 0 mean: by the size of the dataset."""

    epochs: int = 0
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps in which the rate rises
    cooldown: float = 0.9  # share of the steps, at the end, in which it falls to nothing; 0: constant, as published
    clip: float = 1.0  # global gradient norm
    vocabulary: int = 10_000  # most tokens of the language's own BPE
    seed: int = 0
    mixed_precision: bool = True  # the frozen tower in bfloat16 where the processor has it; rows and Adam in float32
    checkpoint_every: int = 0  # steps

    def epochs_for(self, captions: int) -> int:
        """Small datasets are seen more often: about 70,000 captions in all, 3 to 40 times each."""
        return self.epochs or min(40, max(3, math.ceil(70_000 / captions)))

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


def learn(
    encoder: Encoder,
    parent: View,
    corpus: Corpus,
    folder: Path,
    settings: LearnSettings,
    on_step: Callable[[Progress], bool],
    method: Method = DEFAULT,
) -> Learned:
    """Teach one language; resumes from the newest checkpoint under `folder`, bit for bit as if never interrupted.

    On another kind of processor the bits may be others. `on_step` is called after each step; when it returns True a
    checkpoint is written and `Interrupted` raised. Raises `TrainingDiverged` when the loss is not finite,
    `CheckpointMismatch` when the inputs changed since the last attempt.
    """
    lesson = method.lesson(corpus)
    read = tokens(parent.tokenizer, lesson.captions, settings.vocabulary, folder / "tokens")
    grown = read.tokenizer
    used, sequences = _sequences(read, parent.context_length)

    device = encoder.base.device
    rows = nn.Parameter(_start_rows(encoder, parent, used, settings.seed, method).to(device))  # (used + 2, width)
    scale = method.row_scale(parent.frequency(used, corpus.language)).to(device)
    student, objectives = method.student(encoder.base), method.objectives(lesson)
    beside = _trainable("student", student) | _trainable("loss", nn.ModuleList(objectives).to(device))
    trained = {"rows": rows, **beside}
    adamw = teir.ScaledAdamW(rows, scale, [*beside.values()], settings.weight_decay, on_step=method.scale == "step")

    steps = math.ceil(len(sequences) / settings.batch_size) * settings.epochs_for(len(sequences))
    every = settings.checkpoint_every or max(20, steps // 10)
    inherited = rows.detach()[torch.from_numpy(_held(parent, used))]
    belongs = _belongs(encoder, lesson, settings, grown, method) | {"parent": _digest(inherited, scale)}
    first = _restore(folder, belongs, trained, adamw.adam)

    saved = time.monotonic()
    for step, batch in _batches(sequences, settings, first, steps):
        numbers, last = pad([sequences[index] for index in batch])
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.uses_bfloat16(device)):
            features = student(rows[numbers.to(device)], last.to(device)).float()  # (batch, dimension)
        loss = loss_of(features, lesson, torch.from_numpy(batch), objectives)
        if not bool(torch.isfinite(loss)):
            raise TrainingDiverged(f"the loss is no longer finite at step {step} of {steps}")
        loss.backward()  # type: ignore[no-untyped-call]
        adamw.step(settings.learning_rate * _rate(step, steps, settings), settings.clip)
        if step == steps and not bool(torch.isfinite(rows).all()):
            raise TrainingDiverged("the learned rows are not finite")
        stop = on_step(Progress(step, steps, loss.item()))
        if stop or step % every == 0 or step == steps or time.monotonic() - saved > _SAVE_SECONDS:
            checkpoint.save_step(folder, step, _state(trained, adamw.adam), belongs)
            saved = time.monotonic()
        if stop and step < steps:
            raise Interrupted
    kept = _kept(encoder, parent, used, rows.detach().cpu(), method, _idle(settings, steps))
    return Learned(
        grown.added[len(parent.tokenizer.added) :],
        grown.words[len(parent.tokenizer.words) :],
        kept,
        grown.sha256,
        detection.count(corpus.captions),
    )


def _sequences(read: Tokens, context_length: int) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """The token ids of the corpus, ascending; and each caption as places among these and the two specials behind."""
    cut = [ids[: context_length - 2] for ids in read.ids]
    used = np.unique(np.concatenate(cut)).astype(np.int64)
    ids = np.append(used, [BOT, EOT])  # frozen or not, their gradient counts in the clip norm
    place = np.full(read.tokenizer.size, NO_ROW, dtype=np.int32)
    place[ids] = np.arange(len(ids))
    return used, [place[[BOT, *line, EOT]] for line in cut]


def _idle(settings: LearnSettings, steps: int) -> float:
    """What is left of a row without a gradient after all steps of plain AdamW: the product of its decays."""
    rates = (settings.learning_rate * _rate(step, steps, settings) for step in range(1, steps + 1))
    return math.prod(1 - rate * settings.weight_decay for rate in rates)


def _kept(
    encoder: Encoder, parent: View, used: NDArray[np.int64], rows: Tensor, method: Method, idle: float
) -> TokenRows:
    """What a version stores of `rows` (used + 2, width): the corpus's; for some methods the specials' too, or all."""
    own, specials = TokenRows(used, rows[: len(used)].clone()), rows[len(used) :]
    if method.dense:
        return _whole_table(encoder, parent, own, specials, idle)
    if not method.ends:
        return own
    ids = np.append(used, [BOT, EOT])
    order = np.argsort(ids)
    return TokenRows(ids[order], rows[torch.from_numpy(order)])


def _whole_table(encoder: Encoder, parent: View, taught: TokenRows, specials: Tensor, left: float) -> TokenRows:
    """All rows after plain AdamW over the whole table: the corpus's, the specials', and idle ones decayed to `left`."""
    ids = np.union1d(np.flatnonzero(parent.physical != NO_ROW), taught.ids).astype(np.int64)
    held = ids < len(parent.physical)
    held[held] = parent.physical[ids[held]] != NO_ROW
    rows = torch.empty((len(ids), taught.rows.shape[1]))
    rows[torch.from_numpy(held)] = left * encoder.table.rows[torch.from_numpy(parent.physical[ids[held]]).long()].cpu()
    rows[torch.from_numpy(np.searchsorted(ids, taught.ids))] = taught.rows
    rows[torch.from_numpy(np.searchsorted(ids, [BOT, EOT]))] = specials
    return TokenRows(ids, rows)


def _belongs(
    encoder: Encoder, corpus: Corpus, settings: LearnSettings, grown: Tokenizer, method: Method
) -> dict[str, str]:
    """What a checkpoint of this training must have been made from."""
    return {
        "corpus": corpus.sha256(),
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "method": json.dumps(method.key(), sort_keys=True),
        "tokenizer": grown.sha256,
        "base": encoder.text_fingerprint,
    }


def _digest(*tensors: Tensor) -> str:
    """Hex sha256 of their bytes. Of new rows it would not be the same on another kind of processor."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _start_rows(encoder: Encoder, parent: View, used: NDArray[np.int64], seed: int, method: Method) -> Tensor:
    """The parent's rows where it has them, the method's new ones elsewhere, and the two specials; (used + 2, width)."""
    table = encoder.table.rows
    existing = torch.split(torch.from_numpy(parent.physical[parent.physical != NO_ROW]).long(), _BLOCK)
    random = torch.Generator().manual_seed(seed)
    start = method.new_rows(len(used) + 2, (table[some] for some in existing), random)
    old = _held(parent, used)
    start[old] = table[torch.from_numpy(parent.physical[np.append(used, [BOT, EOT])[old]]).long()].cpu()
    return start


def _held(parent: View, used: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places among `used` and the two specials of tokens that have a row in the parent."""
    known = np.append(used, [BOT, EOT])
    rows = np.full(len(known), NO_ROW, dtype=np.int32)
    rows[known < len(parent.physical)] = parent.physical[known[known < len(parent.physical)]]
    return np.flatnonzero(rows != NO_ROW)


def _batches(
    sequences: Sequence[NDArray[np.int32]], settings: LearnSettings, first: int, steps: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Steps first + 1 .. steps with the captions of each: shuffled, then bucketed so that a batch has like lengths."""
    lengths = np.array([len(sequence) for sequence in sequences])
    per_epoch = math.ceil(len(sequences) / settings.batch_size)
    order: list[NDArray[np.int64]] = []
    for step in range(first, steps):
        epoch, position = divmod(step, per_epoch)
        if not order or position == 0:
            random = np.random.default_rng((settings.seed, epoch))
            shuffled = random.permutation(len(sequences))
            bucket = settings.batch_size * 16
            sorted_within = [
                part[np.argsort(lengths[part], kind="stable")]
                for part in np.split(shuffled, range(bucket, len(shuffled), bucket))
            ]
            cut = range(settings.batch_size, len(shuffled), settings.batch_size)
            order = np.split(np.concatenate(sorted_within), cut)
            random.shuffle(order)
        yield step + 1, order[position]


def loss_of(features: Tensor, corpus: Corpus, batch: Tensor, objectives: Iterable[Objective]) -> Tensor:
    """All that is asked of the batch; a last caption alone, without English, is asked nothing and changes nothing."""
    terms = [term for objective in objectives if (term := objective.of(features, corpus, batch)) is not None]
    return sum(terms[1:], terms[0]) if terms else 0.0 * features.sum()


def _rate(step: int, steps: int, settings: LearnSettings) -> float:
    """Factor 0..1 on the learning rate of `step`, counted from 1: a linear rise, a plateau, a linear fall."""
    risen = step / max(1.0, settings.warmup * steps)
    left = (steps + 1 - step) / max(1.0, settings.cooldown * steps)
    return min(1.0, risen, left)


def _trainable(name: str, part: object) -> dict[str, nn.Parameter]:
    """Parameters by name, behind that of the part; of a plain function, such as the frozen tower, none."""
    found = part.named_parameters(name) if isinstance(part, nn.Module) else ()
    return {name: parameter for name, parameter in found if parameter.requires_grad}


def _state(trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> dict[str, Tensor]:
    state = {name: parameter.detach() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        state |= {f"{name}.{_MOMENTS}{key}": value for key, value in adam.state.get(parameter, {}).items()}
    return state


def _restore(folder: Path, belongs: dict[str, str], trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> int:
    """Put the newest checkpoint back; returns its step, 0 when there is none."""
    found = checkpoint.load_newest(folder, belongs)
    if found is None:
        return 0
    step, tensors = found
    for name, parameter in trained.items():
        with torch.no_grad():
            parameter.copy_(tensors[name])
        start = f"{name}.{_MOMENTS}"
        moments = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if moments:
            adam.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
            adam.state[parameter]["step"] = adam.state[parameter]["step"].cpu()
    return step
