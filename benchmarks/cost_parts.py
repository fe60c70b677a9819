"""The parts of `benchmarks.training_cost`, each in a process of its own: `python -m benchmarks.cost_parts PART`.

A part prints one JSON object. Peak memory is that of the process, so no part hides the memory of another.
"""

import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice, pairwise
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import made_up
from benchmarks.made_up import Sizes
from model import training, version
from model.base import Base
from model.encoder import Encoder
from model.objectives import Corpus, make_objectives
from model.student import make_bfloat16_tower
from model.table import Table, View, pad
from model.training import LearnSettings
from model.version import VersionContent

Result = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """Sizes of the world and of the measurement. `small` is a smaller tower, for what does not depend on it."""

    sizes: Sizes = field(default_factory=Sizes)
    small_layers: int = 2
    batch: int = LearnSettings.batch_size
    steps: int = 6
    rounds: int = 5
    texts: int = 288

    @property
    def small(self) -> Sizes:
        return replace(self.sizes, layers=self.small_layers)


def steps(plan: Plan) -> Result:
    """The step of the same corpus as a first language and as the last one, in turn; and the size of the version."""
    alone, crowded = (Encoder(made_up.base(plan.small)) for _ in range(2))
    last = made_up.newest(crowded, plan.small, plan.sizes.languages - 1)
    corpus = made_up.corpus(plan.sizes.languages, plan.small)
    step_seconds(alone, alone.base_view, corpus, plan)  # warm
    pairs = [
        (step_seconds(alone, alone.base_view, corpus, plan), step_seconds(crowded, last, corpus, plan))
        for _ in range(plan.rounds)
    ]
    learned = _learned(crowded, last, corpus, replace(LearnSettings(), epochs=1, batch_size=plan.batch))
    return {
        "one": statistics.median(one for one, _ in pairs),
        "many": statistics.median(many for _, many in pairs),
        "ratio": statistics.median(many / one for one, many in pairs),
        "rows": len(learned.rows.ids),
        "bytes": stored_bytes(learned),
        "row_bytes": learned.rows.rows.nbytes,
    }


def gathered(plan: Plan) -> Result:
    """The product's own training beside a table of all languages."""
    return _training(plan, plan.sizes.languages)


def gathered_first(plan: Plan) -> Result:
    """The product's own training beside a table of one language."""
    return _training(plan, 1)


def _training(plan: Plan, languages: int) -> Result:
    encoder = Encoder(made_up.base(plan.sizes))
    parent = made_up.newest(encoder, plan.sizes, languages)
    seconds = step_seconds(encoder, parent, made_up.corpus(plan.sizes.languages, plan.sizes), plan)
    return {"seconds": seconds, "peak": _peak(), "table": 4 * plan.sizes.width * len(parent.physical)}


def dense(plan: Plan) -> Result:
    """Plain AdamW over the whole table as one parameter: captions, losses, clip and tower are the same."""
    return _dense(plan, fused=False)


def dense_float32(plan: Plan) -> Result:
    """The same without bfloat16 in the tower."""
    return _dense(plan, fused=False, mixed=False)


def dense_fused(plan: Plan) -> Result:
    """`dense` with torch's fastest AdamW."""
    return _dense(plan, fused=True)


def _dense(plan: Plan, *, fused: bool, mixed: bool = True) -> Result:
    encoder = Encoder(made_up.base(plan.sizes))
    view = made_up.newest(encoder, plan.sizes, plan.sizes.languages)
    corpus = made_up.corpus(plan.sizes.languages, plan.sizes)
    sequences = [view.build_sequence(ids)[0] for ids in view.tokenize(corpus.captions)]
    table = nn.Parameter(encoder.table.rows[torch.arange(len(view.physical))])
    encoder.table = Table(table[:0].detach())  # freed: the table is the parameter
    objectives = make_objectives(corpus)
    parameters = [table, *(one for each in objectives for one in each.parameters())]
    adam = torch.optim.AdamW(parameters, lr=1e-3, eps=1e-6, weight_decay=0.05, fused=fused)
    half = mixed and LearnSettings().can_use_bfloat16(table.device)
    student = make_bfloat16_tower(encoder.base) if half else encoder.base.compute_text_features
    stamps = [time.perf_counter()]
    for batch in islice(torch.split(torch.randperm(len(sequences)), plan.batch), plan.steps + 1):
        numbers, last = pad([sequences[place] for place in batch], view.reading)
        features = student(F.embedding(numbers, table), last)
        loss = training.sum_losses(features, corpus, batch, objectives)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        adam.zero_grad()
        stamps.append(time.perf_counter())
    return {"seconds": _median_gap(stamps[1:]), "peak": _peak(), "table": table.nbytes}


def encoding(plan: Plan) -> Result:
    """Texts a second of batches that mix all views, against as many texts of a single one, in turn.

    First with words that are new to every view, as many in one language as in all; then with words that each has read.
    """
    base = made_up.base(plan.small)
    many = _world(base, plan.small, plan.sizes.languages)
    unmet = _world(base, replace(plan.small, languages=1), 1), many
    _in_turn(unmet, plan)  # builds what is built once
    new = _in_turn(unmet, plan)
    worlds = _world(base, plan.small, 1), many
    for _, views, _ in worlds:
        for view in views:
            view.tokenize(made_up.captions(view.version, plan.sizes.words))
    _in_turn(worlds, plan)
    met = _in_turn(worlds, plan)
    return {"one": met[0], "many": met[1], "ratio": met[1] / met[0], "one_new": new[0], "ratio_new": new[1] / new[0]}


World = tuple[Encoder, list[View], "cycle[tuple[View, str]]"]  # with texts of all its views, without end


def _world(base: Base, sizes: Sizes, languages: int) -> World:
    encoder = Encoder(base)
    views = made_up.opened(encoder, sizes, languages)[1:]
    return encoder, views, _mixed(views, sizes)


def _in_turn(worlds: tuple[World, World], plan: Plan) -> tuple[float, float]:
    """Texts a second of both, median over the rounds."""
    both: list[list[float]] = [[], []]
    for _ in range(plan.rounds):
        for rates, (encoder, _, texts) in zip(both, worlds, strict=True):
            items = list(islice(texts, plan.texts))
            start = time.perf_counter()
            encoder.encode_texts(items)
            rates.append(plan.texts / (time.perf_counter() - start))
    return statistics.median(both[0]), statistics.median(both[1])


def views(plan: Plan) -> Result:
    """Memory with all views open and used."""
    return _memory(plan, plan.sizes.languages)


def one_view(plan: Plan) -> Result:
    """Memory with a single view open and used."""
    return _memory(plan, 1)


def _memory(plan: Plan, languages: int) -> Result:
    encoder = Encoder(made_up.base(plan.small))
    opened = made_up.opened(encoder, plan.small, languages)
    encoder.encode_texts(list(islice(_mixed(opened[1:], plan.small), plan.texts)))
    gc.collect()
    rows = sum(int(view.physical.max()) + 1 for view in opened[-1:])
    return {"resident": psutil.Process().memory_info().rss, "rows": 4 * plan.sizes.width * rows}


def _mixed(opened: list[View], sizes: Sizes) -> "cycle[tuple[View, str]]":
    """Captions of the views in turn, each read by its own, without end."""
    said = [made_up.captions(view.version, sizes.words) for view in opened]
    return cycle([(view, text) for texts in zip(*said, strict=True) for view, text in zip(opened, texts, strict=True)])


def step_seconds(encoder: Encoder, parent: View, corpus: Corpus, plan: Plan) -> float:
    """Median time from one step to the next, without the time before the first and the checkpoint after the last."""
    stamps: list[float] = []

    def on_step(progress: training.Progress) -> bool:
        stamps.append(time.perf_counter())
        return progress.step > plan.steps

    settings = LearnSettings(epochs=1_000, batch_size=plan.batch, checkpoint_every=1_000_000)
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        try:
            training.Trainer(encoder, parent, corpus, Path(folder), settings).learn(on_step)
        except training.TrainingInterrupted:
            return _median_gap(stamps)
    raise RuntimeError("the corpus has too few captions for so many steps")


def _median_gap(stamps: list[float]) -> float:
    return statistics.median(after - before for before, after in pairwise(stamps))


def _learned(encoder: Encoder, parent: View, corpus: Corpus, settings: LearnSettings) -> VersionContent:
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        return training.Trainer(encoder, parent, corpus, Path(folder), settings).learn(lambda _: False)


def stored_bytes(learned: VersionContent) -> int:
    """The size of a version on disk, all its files together."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        version.write(Path(folder) / "version", learned, {})
        return sum(file.stat().st_size for file in (Path(folder) / "version").iterdir())


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


PARTS: dict[str, Callable[[Plan], Result]] = {
    part.__name__: part
    for part in (steps, gathered, gathered_first, dense, dense_float32, dense_fused, encoding, views, one_view)
}


def packed(plan: Plan) -> str:
    """A plan as the argument of a process."""
    return json.dumps(asdict(plan))


def main(name: str, plan: str) -> None:
    """Measure one part and print it."""
    fields = json.loads(plan)
    sys.stdout.write(json.dumps(PARTS[name](Plan(**{**fields, "sizes": Sizes(**fields["sizes"])}))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
