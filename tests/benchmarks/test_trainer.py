"""Methods as data, each against a slow and obvious computation of what it stands for, and methods that are added."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.emoji36.methods import ROWS, TRAININGS
from benchmarks.emoji36.trainer import (
    CLL_CLIP,
    PRODUCT,
    TEIR,
    TEIR_INIT,
    TEIR_REG,
    Method,
    MethodTrainer,
    StepScaledAdamW,
)
from model.base import open_base
from model.encoder import Encoder
from model.objectives import Corpus, CrossLingual, CrossModal, Objective, Tokens
from model.table import pad
from model.teir import ScaledAdamW
from model.tokenizer import BEGIN, END
from model.training import Interrupted, Progress, Trainer
from tests.model.toy import CAPTIONS, SETTINGS, corpus_for, go_on, learn, same

EXACT = replace(SETTINGS, mixed_precision=False)
REPORTS = Path(__file__).parents[2] / "docs" / "reports"


@pytest.fixture
def encoder(spec: str) -> Encoder:
    return Encoder(open_base(spec))


def test_the_published_methods_are_four_corners() -> None:
    assert (CLL_CLIP.start, CLL_CLIP.scale, CLL_CLIP.dense) == ("normal", "none", True)
    assert (TEIR_INIT.start, TEIR_INIT.scale, TEIR_INIT.dense) == ("table", "none", True)
    assert (TEIR_REG.start, TEIR_REG.scale, TEIR_REG.dense) == ("normal", "gradient", False)
    assert (TEIR.start, TEIR.scale, TEIR.dense) == ("table", "gradient", False)


def test_plain_adamw_over_the_whole_table_scales_no_row() -> None:
    with pytest.raises(ValueError, match="scales no row"):
        Method(dense=True)


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR], ids=["normal", "table"])
def test_new_rows_are_drawn_as_named(encoder: Encoder, tmp_path: Path, method: Method) -> None:
    """With the scalar mean and unbiased deviation of all elements, though each dimension has its own, or with 0.02."""
    table = torch.tensor([[3.0, -1.0, 0.25], [3.5, -1.0, 0.0], [2.5, -3.0, 0.25], [3.0, -2.0, 0.5]])
    elements = [float(element) for row in table for element in row]
    mean = sum(elements) / 12
    std = math.sqrt(sum((element - mean) ** 2 for element in elements) / 11)  # by 12 it would be 4 % less
    if method is CLL_CLIP:
        mean, std = 0.0, 0.02
    trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS)
    drawn = trainer.new_rows(40_000, torch.split(table, 2), torch.Generator().manual_seed(2))
    assert drawn.mean(dim=0).tolist() == [pytest.approx(mean, abs=0.03 * std)] * 3
    assert drawn.std(dim=0).tolist() == [pytest.approx(std, rel=0.015)] * 3
    torch.testing.assert_close(torch.corrcoef(drawn.T), torch.eye(3), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("method", "rows", "specials"),
    [
        (CLL_CLIP, [1, 1, 1], 1),
        (TEIR, [1, 1 / 2, 1 / 5], 0),
        (Method(scale="none"), [1, 1, 1], 0),
        (Method(ends=True), [1, 1 / 2, 1 / 5], 1),
        (Method(scale="gradient", scales="gradient", dense=True), [1, 1 / 2, 1 / 5], 0),
        (Method(scales="decay"), [1, 1 / 2, 1 / 5], 0),
    ],
)
def test_how_far_a_row_may_move(
    encoder: Encoder, tmp_path: Path, method: Method, rows: list[float], specials: float
) -> None:
    trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS)
    scale = trainer.row_scale(np.array([1, 2, 5]))
    assert scale.tolist() == [[pytest.approx(value)] for value in (*rows, specials, specials)]


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR_INIT], ids=["cll-clip", "teir-init"])
def test_a_dense_method_is_adamw_over_the_whole_table(encoder: Encoder, tmp_path: Path, method: Method) -> None:
    """Against AdamW of torch over every row, idle ones with a gradient of zero."""
    corpus, view = corpus_for(encoder), encoder.base_view
    trainer = method.trainer(encoder, view, corpus, tmp_path, EXACT)
    drawn = trainer.rows.detach().clone()
    learned = trainer.learn(go_on)

    grown = view.tokenizer.grown(CAPTIONS, SETTINGS.vocabulary)
    tokens = grown.encode(CAPTIONS)
    used = np.unique(np.concatenate([np.array(ids) for ids in tokens]))
    table = torch.zeros(grown.size, encoder.base.table.shape[1])
    table[: len(encoder.base.table)] = encoder.base.table
    new = used >= len(encoder.base.table)
    table[torch.from_numpy(used[new])] = drawn[: len(used)][torch.from_numpy(new)]
    sequences = [np.array([BEGIN, *ids, END], dtype=np.int32) for ids in tokens]
    full = plain_adamw(trainer, nn.Parameter(table), sequences, corpus)

    assert learned.rows.ids.tolist() == [*range(len(encoder.base.table)), *used[new]]
    torch.testing.assert_close(learned.rows.rows, full[torch.from_numpy(learned.rows.ids)], rtol=1e-4, atol=1e-6)
    idle = np.setdiff1d(np.arange(1_000), used)
    assert not torch.equal(learned.rows.rows[idle], encoder.base.table[idle])
    assert not torch.allclose(learned.rows.rows[[BEGIN, END]], encoder.base.table[[BEGIN, END]], atol=1e-4)


def plain_adamw(trainer: Trainer, table: nn.Parameter, sequences: list[np.ndarray], corpus: Corpus) -> Tensor:
    lingual, modal = CrossLingual(), CrossModal()
    groups = [{"params": [table], "weight_decay": 0.05}, {"params": [modal.temperature], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    steps = math.ceil(len(sequences) / SETTINGS.batch_size) * SETTINGS.epochs
    for step, batch in trainer.batches(0):
        numbers, last = pad([sequences[index] for index in batch], trainer.reading)
        features = trainer.encoder.base.text_features(table[numbers], last)
        chosen = torch.from_numpy(batch)
        loss = lingual(features, corpus.english[chosen])
        loss = loss + 0.01 * modal(features, corpus.pictures[corpus.owner[chosen]], corpus.owner[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([table, modal.temperature], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = SETTINGS.rate(step, steps)
        optimizer.step()
    return table.detach()


def test_a_scaled_step_is_that_share_of_adams_step_and_a_scaled_gradient_is_not() -> None:
    """Adam divides a constant factor out again, so only on the step does 1/f mean 1/f."""
    gradient = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    moved = {}
    for kind in (StepScaledAdamW, ScaledAdamW):
        table = nn.Parameter(torch.zeros(3, 8))
        optimizer = kind(table, torch.tensor([[1.0], [1 / 3], [0.0]]), [], decay=0.0)
        table.grad = gradient.clone()
        table.grad[1:] = gradient[0]
        optimizer.step(1e-2, clip=1e9)
        moved[kind] = table.detach().norm(dim=1)
    assert (moved[StepScaledAdamW] / moved[StepScaledAdamW][0]).tolist() == [1.0, pytest.approx(1 / 3), 0.0]
    assert (moved[ScaledAdamW] / moved[ScaledAdamW][0]).tolist() == [1.0, pytest.approx(1.0, abs=0.01), 0.0]


def test_the_products_method_learns_the_very_bits_that_an_expansion_learns(encoder: Encoder, tmp_path: Path) -> None:
    corpus = corpus_for(encoder)
    expansion = learn(encoder, encoder.base_view, corpus, tmp_path / "a", SETTINGS, go_on)
    row = PRODUCT.trainer(encoder, encoder.base_view, corpus, tmp_path / "b", SETTINGS)
    assert same(expansion, row.learn(go_on))


@pytest.mark.parametrize(("english", "weight"), [(True, 0.01), (False, 1.0)])
def test_published_losses_are_weighed_as_published(
    encoder: Encoder, tmp_path: Path, english: bool, weight: float
) -> None:
    corpus = corpus_for(encoder, english=english)
    losses = TEIR.trainer(encoder, encoder.base_view, corpus, tmp_path, SETTINGS).losses()
    assert [each.weight for each in losses if isinstance(each, CrossModal)] == [weight]


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    """The row and the training of each seed in the reports."""
    for path in REPORTS.glob("emoji36*.json"):
        for name, row in json.loads(path.read_text())["methods"].items():
            for seed in row["seeds"].values():
                yield from ((name, made) for made in seed.get("made", {"taught": []})["taught"][:1])


def test_results_of_earlier_releases_can_be_added_to() -> None:
    """A run refuses to put a row beside one of another seed that was made by another method."""
    rows = [*recorded()]
    assert len(rows) > 50
    for name, made in rows:
        assert TRAININGS[str(ROWS[name].training)].method.key() == made["method"], name


# Methods that are not in the table yet: each is a subclass, of which the loop knows nothing.


class Replay(MethodTrainer):
    """Half of each batch is of older languages, whose captions do not grow the tokenizer."""

    memory: Corpus

    def read(self) -> Tokens:
        own = super().read()
        self.own, memory = len(own.ids), self.memory
        self.corpus = Corpus(
            self.corpus.language,
            self.corpus.captions,
            torch.cat([self.corpus.english, memory.english]),
            self.corpus.pictures,
            torch.cat([self.corpus.owner, memory.owner]),
        )
        remembered = [np.array(ids, dtype=np.int32) for ids in own.tokenizer.encode(memory.captions)]
        return Tokens(own.tokenizer, [*own.ids, *remembered])

    def batches(self, first: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for step, batch in super().batches(first):
            new = batch[batch < self.own]
            yield step, np.concatenate([new, self.own + np.arange(len(new)) % len(self.memory.captions)])


def test_replay_is_a_trainer_that_reads_and_batches_captions_of_older_languages(
    encoder: Encoder, tmp_path: Path
) -> None:
    corpus = corpus_for(encoder)
    old = Corpus("br", ["kazh du", "ki bras"] * 8, corpus.english[:16], corpus.pictures, torch.arange(16))

    class Remembers(Replay):
        memory = old

    plain = learn(encoder, encoder.base_view, corpus, tmp_path / "plain", SETTINGS, go_on)
    trainer = Method(kind=Remembers).trainer(encoder, encoder.base_view, corpus, tmp_path / "er", SETTINGS)
    replaying = trainer.learn(go_on)
    tokenizer = replaying.tokenizer(encoder.base_view.tokenizer)
    remembered = {number for ids in tokenizer.encode(old.captions) for number in ids}
    assert remembered <= set(replaying.rows.ids.tolist())
    assert not remembered <= set(plain.rows.ids.tolist())
    assert replaying.tokenizer_sha256 == plain.tokenizer_sha256 and replaying.ngrams == plain.ngrams


class Adapter(MethodTrainer):
    """A bottleneck behind the frozen tower, trained beside the rows."""

    def __init__(self, method: Method, encoder: Encoder, *more: Any) -> None:
        super().__init__(method, encoder, *more)
        torch.manual_seed(0)
        up = nn.Linear(4, encoder.dimension)
        nn.init.zeros_(up.weight)
        self.bottleneck = nn.Sequential(nn.Linear(encoder.dimension, 4), nn.ReLU(), up)

    def beside(self) -> dict[str, nn.Parameter]:
        return super().beside() | dict(self.bottleneck.named_parameters("adapter"))

    def features(self, numbers: Tensor, last: Tensor) -> Tensor:
        features = super().features(numbers, last)
        return features + self.bottleneck(features)  # type: ignore[no-any-return]


def test_an_adapter_is_a_trainer_with_parameters_beside_the_rows_and_resumes(encoder: Encoder, tmp_path: Path) -> None:
    def end(folder: str, on_step: Callable[[Progress], bool]) -> list[Tensor]:
        method = Method(kind=Adapter)
        trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path / folder, SETTINGS)
        trainer.learn(on_step)
        return [*trainer.beside().values()]

    whole = end("whole", go_on)
    with pytest.raises(Interrupted):
        end("cut", lambda progress: progress.step == 3)
    resumed = end("cut", go_on)
    assert any(parameter.shape == (encoder.dimension, 4) and parameter.any() for parameter in whole)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


class Small(Objective):
    """Asks for small features."""

    def of(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor:
        return features.square().mean()


class Smaller(MethodTrainer):
    """One term more."""

    def losses(self) -> Sequence[Objective]:
        return [*super().losses(), Small()]


def test_a_further_objective_is_one_more_term_and_another_key(encoder: Encoder, tmp_path: Path) -> None:
    corpus, losses = corpus_for(encoder), dict[str, list[float]]()
    for name, method in {"both": TEIR, "more": Method(kind=Smaller)}.items():
        noted = losses.setdefault(name, [])

        def note(progress: Progress, noted: list[float] = noted) -> bool:
            noted.append(progress.loss)
            return False

        method.trainer(encoder, encoder.base_view, corpus, tmp_path / name, SETTINGS).learn(note)
    assert losses["more"][0] > losses["both"][0]
    assert Method(kind=Smaller).key() != TEIR.key()


def test_ends_of_its_own_are_kept_with_the_language_and_leave_the_bases(encoder: Encoder, tmp_path: Path) -> None:
    before = encoder.texts([(encoder.base_view, "a red apple")]).vectors
    method = Method(ends=True)
    learned = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS).learn(go_on)
    assert {BEGIN, END} <= set(learned.rows.ids.tolist()) and (np.diff(learned.rows.ids) > 0).all()
    view = encoder.extend(encoder.base_view, 1, "cy", learned)
    (numbers, _) = view.sequence([])
    moved = encoder.table.rows[torch.from_numpy(numbers).long()]
    assert torch.equal(moved, learned.rows.rows[np.searchsorted(learned.rows.ids, [BEGIN, END])])
    assert not torch.equal(moved, encoder.base.table[[BEGIN, END]])
    assert np.array_equal(encoder.texts([(encoder.base_view, "a red apple")]).vectors, before)
