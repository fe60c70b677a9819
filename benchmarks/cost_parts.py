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
from model import checkpoint, training
from model.base import Base
from model.checkpoint import VersionContent
from model.encoder import Encoder, Table, View, pad
from model.objectives import Corpus, make_objectives
from model.towers import make_bfloat16_tower
from model.training import LearnSettings

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


def measure_steps(plan: Plan) -> Result:
    """Time the step of the same corpus as a first and as the last language, in turn; and measure the version's size."""
    alone, crowded = (Encoder(made_up.make_base(plan.small)) for _ in range(2))
    last = made_up.open_newest(crowded, plan.small, plan.sizes.languages - 1)
    corpus = made_up.draw_corpus(plan.sizes.languages, plan.small)
    step_seconds(alone, alone.base_view, corpus, plan)  # warm
    pairs = [
        (step_seconds(alone, alone.base_view, corpus, plan), step_seconds(crowded, last, corpus, plan))
        for _ in range(plan.rounds)
    ]
    learned = _draw_learned(crowded, last, corpus, replace(LearnSettings(), epochs=1, batch_size=plan.batch))
    return {
        "one": statistics.median(one for one, _ in pairs),
        "many": statistics.median(many for _, many in pairs),
        "ratio": statistics.median(many / one for one, many in pairs),
        "rows": len(learned.rows.ids),
        "bytes": measure_stored_bytes(learned),
        "row_bytes": learned.rows.rows.nbytes,
    }


def measure_gathered(plan: Plan) -> Result:
    """Return the product's own training beside a table of all languages."""
    return _measure_training(plan, plan.sizes.languages)


def measure_gathered_first(plan: Plan) -> Result:
    """Return the product's own training beside a table of one language."""
    return _measure_training(plan, 1)


def _measure_training(plan: Plan, languages: int) -> Result:
    encoder = Encoder(made_up.make_base(plan.sizes))
    parent = made_up.open_newest(encoder, plan.sizes, languages)
    seconds = step_seconds(encoder, parent, made_up.draw_corpus(plan.sizes.languages, plan.sizes), plan)
    return {"seconds": seconds, "peak": _measure_peak(), "table": 4 * plan.sizes.width * len(parent.physical)}


def measure_dense(plan: Plan) -> Result:
    """Return plain AdamW over the whole table as one parameter: captions, losses, clip and tower are the same."""
    return _measure_dense(plan, fused=False)


def measure_dense_float32(plan: Plan) -> Result:
    """Measure `dense` without bfloat16 in the tower."""
    return _measure_dense(plan, fused=False, mixed=False)


def measure_dense_fused(plan: Plan) -> Result:
    """Return `measure_dense` with torch's fastest AdamW."""
    return _measure_dense(plan, fused=True)


def _measure_dense(plan: Plan, *, fused: bool, mixed: bool = True) -> Result:
    encoder = Encoder(made_up.make_base(plan.sizes))
    view = made_up.open_newest(encoder, plan.sizes, plan.sizes.languages)
    corpus = made_up.draw_corpus(plan.sizes.languages, plan.sizes)
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
    return {"seconds": _compute_median_gap(stamps[1:]), "peak": _measure_peak(), "table": table.nbytes}


def measure_encoding(plan: Plan) -> Result:
    """Return texts a second of batches that mix all views, against as many texts of a single one, in turn.

    First with words that are new to every view, as many in one language as in all; then with words that each has read.
    """
    base = made_up.make_base(plan.small)
    many = _open_world(base, plan.small, plan.sizes.languages)
    unmet = _open_world(base, replace(plan.small, languages=1), 1), many
    _measure_in_turn(unmet, plan)  # builds what is built once
    new = _measure_in_turn(unmet, plan)
    worlds = _open_world(base, plan.small, 1), many
    for _, views, _ in worlds:
        for view in views:
            view.tokenize(made_up.draw_captions(view.version, plan.sizes.words))
    _measure_in_turn(worlds, plan)
    met = _measure_in_turn(worlds, plan)
    return {"one": met[0], "many": met[1], "ratio": met[1] / met[0], "one_new": new[0], "ratio_new": new[1] / new[0]}


World = tuple[Encoder, list[View], "cycle[tuple[View, str]]"]  # with texts of all its views, without end


def _open_world(base: Base, sizes: Sizes, languages: int) -> World:
    encoder = Encoder(base)
    views = made_up.open_views(encoder, sizes, languages)[1:]
    return encoder, views, _mix_captions(views, sizes)


def _measure_in_turn(worlds: tuple[World, World], plan: Plan) -> tuple[float, float]:
    """Return texts a second of both, median over the rounds."""
    both: list[list[float]] = [[], []]
    for _ in range(plan.rounds):
        for rates, (encoder, _, texts) in zip(both, worlds, strict=True):
            items = list(islice(texts, plan.texts))
            start = time.perf_counter()
            encoder.encode_texts(items)
            rates.append(plan.texts / (time.perf_counter() - start))
    return statistics.median(both[0]), statistics.median(both[1])


def measure_views(plan: Plan) -> Result:
    """Return memory with all views open and used."""
    return _measure_memory(plan, plan.sizes.languages)


def measure_one_view(plan: Plan) -> Result:
    """Return memory with a single view open and used."""
    return _measure_memory(plan, 1)


def _measure_memory(plan: Plan, languages: int) -> Result:
    encoder = Encoder(made_up.make_base(plan.small))
    opened = made_up.open_views(encoder, plan.small, languages)
    encoder.encode_texts(list(islice(_mix_captions(opened[1:], plan.small), plan.texts)))
    gc.collect()
    rows = sum(int(view.physical.max()) + 1 for view in opened[-1:])
    return {"resident": psutil.Process().memory_info().rss, "rows": 4 * plan.sizes.width * rows}


def _mix_captions(opened: list[View], sizes: Sizes) -> "cycle[tuple[View, str]]":
    """Return captions of the views in turn, each read by its own, without end."""
    said = [made_up.draw_captions(view.version, sizes.words) for view in opened]
    return cycle([(view, text) for texts in zip(*said, strict=True) for view, text in zip(opened, texts, strict=True)])


def step_seconds(encoder: Encoder, parent: View, corpus: Corpus, plan: Plan) -> float:
    """Return the median time between two steps, without that before the first and the checkpoint after the last."""
    stamps: list[float] = []

    def on_step(progress: training.Progress) -> bool:
        stamps.append(time.perf_counter())
        return progress.step > plan.steps

    settings = LearnSettings(epochs=1_000, batch_size=plan.batch, checkpoint_every=1_000_000)
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        try:
            training.Trainer(encoder, parent, corpus, Path(folder), settings).learn(on_step)
        except training.TrainingInterrupted:
            return _compute_median_gap(stamps)
    raise RuntimeError("the corpus has too few captions for so many steps")


def _compute_median_gap(stamps: list[float]) -> float:
    return statistics.median(after - before for before, after in pairwise(stamps))


def _draw_learned(encoder: Encoder, parent: View, corpus: Corpus, settings: LearnSettings) -> VersionContent:
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        return training.Trainer(encoder, parent, corpus, Path(folder), settings).learn(lambda _: False)


def measure_stored_bytes(learned: VersionContent) -> int:
    """Return the size of a version on disk, all its files together."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        checkpoint.write_version(Path(folder) / "version", learned, {})
        return sum(file.stat().st_size for file in (Path(folder) / "version").iterdir())


def _measure_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


PARTS: dict[str, Callable[[Plan], Result]] = {
    part.__name__.removeprefix("measure_"): part
    for part in (
        measure_steps, measure_gathered, measure_gathered_first, measure_dense, measure_dense_float32,
        measure_dense_fused, measure_encoding, measure_views, measure_one_view,
    )
}  # fmt: skip


def pack_plan(plan: Plan) -> str:
    """Return a plan as the argument of a process."""
    return json.dumps(asdict(plan))


def main(name: str, plan: str) -> None:
    """Measure one part and print it."""
    fields = json.loads(plan)
    sys.stdout.write(json.dumps(PARTS[name](Plan(**{**fields, "sizes": Sizes(**fields["sizes"])}))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
