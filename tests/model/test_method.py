"""Methods as data, each against a slow and obvious computation of what it stands for."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model import teir, training
from model.base import BOT, EOT, Base
from model.corpus import NONE, Corpus
from model.encoder import Encoder
from model.method import CLL_CLIP, TEIR, TEIR_INIT, TEIR_REG, Method
from model.objectives import CrossLingual, CrossModal, Objective, published
from model.table import pad
from model.training import Interrupted, Progress, learn
from tests.model.test_training import CAPTIONS, SETTINGS, WORDS, corpus_for, go_on

EXACT = replace(SETTINGS, mixed_precision=False)


def test_the_published_methods_are_four_corners() -> None:
    assert (CLL_CLIP.start, CLL_CLIP.scale, CLL_CLIP.dense) == ("normal", "none", True)
    assert (TEIR_INIT.start, TEIR_INIT.scale, TEIR_INIT.dense) == ("table", "none", True)
    assert (TEIR_REG.start, TEIR_REG.scale, TEIR_REG.dense) == ("normal", "gradient", False)
    assert (TEIR.start, TEIR.scale, TEIR.dense) == ("table", "gradient", False)


def test_plain_adamw_over_the_whole_table_scales_no_row() -> None:
    with pytest.raises(ValueError, match="scales no row"):
        Method(dense=True)


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR], ids=["normal", "table"])
def test_new_rows_are_drawn_as_named(method: Method) -> None:
    """With the scalar mean and unbiased deviation of all elements, though each dimension has its own, or with 0.02."""
    table = torch.tensor([[3.0, -1.0, 0.25], [3.5, -1.0, 0.0], [2.5, -3.0, 0.25], [3.0, -2.0, 0.5]])
    elements = [float(element) for row in table for element in row]
    mean = sum(elements) / 12
    std = math.sqrt(sum((element - mean) ** 2 for element in elements) / 11)  # by 12 it would be 4 % less
    if method is CLL_CLIP:
        mean, std = 0.0, 0.02
    drawn = method.new_rows(40_000, torch.split(table, 2), torch.Generator().manual_seed(2))
    assert drawn.mean(dim=0).tolist() == [pytest.approx(mean, abs=0.03 * std)] * 3
    assert drawn.std(dim=0).tolist() == [pytest.approx(std, rel=0.015)] * 3
    torch.testing.assert_close(torch.corrcoef(drawn.T), torch.eye(3), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("method", "rows", "specials"),
    [(CLL_CLIP, [1, 1, 1], 1), (TEIR, [1, 1 / 2, 1 / 5], 0), (Method(scale="none"), [1, 1, 1], 0)],
)
def test_how_far_a_row_may_move(method: Method, rows: list[float], specials: float) -> None:
    scale = method.row_scale(np.array([1, 2, 5]))
    assert scale.tolist() == [[pytest.approx(value)] for value in (*rows, specials, specials)]


def test_frequency_counts_over_a_chain_of_four_languages(encoder: Encoder, tmp_path: Path) -> None:
    """CLIP's rows start at 2, others at 1; each language adds 1 to the rows of its corpus, however often they occur."""
    corpora = [[f"{a} {b}" for a in WORDS[k : k + 6] for b in WORDS[k : k + 6]] for k in range(4)]
    view, counted = encoder.base_view, dict[int, int]()
    for number, captions in enumerate(corpora):
        tokens = {i for ids in view.tokenizer.grown(captions, 400).encode(captions) for i in ids}
        ids = np.array(sorted(tokens))
        expected = [counted.get(i, 0) + (2 if i < 49_408 else 1) for i in ids]
        assert view.frequency(ids, f"l{number}").tolist() == expected
        features = torch.randn(len(captions), encoder.dimension, generator=torch.Generator().manual_seed(number))
        owner = torch.full((len(captions),), NONE)
        corpus = Corpus(f"l{number}", captions, features, torch.empty(0, encoder.dimension), owner)
        learned = learn(encoder, view, corpus, tmp_path / str(number), SETTINGS, go_on)
        assert set(learned.rows.ids.tolist()) == tokens
        view = encoder.extend(view, number + 1, f"l{number}", learned)
        for i in tokens:
            counted[i] = counted.get(i, 0) + 1


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR_INIT], ids=["cll-clip", "teir-init"])
def test_a_dense_method_is_adamw_over_the_whole_table(encoder: Encoder, tmp_path: Path, method: Method) -> None:
    """Against AdamW of torch over every row, idle ones with a gradient of zero."""
    corpus, view = corpus_for(encoder), encoder.base_view
    learned = learn(encoder, view, corpus, tmp_path, EXACT, go_on, method)

    grown = view.tokenizer.grown(CAPTIONS, SETTINGS.vocabulary)
    tokens = grown.encode(CAPTIONS)
    used = np.unique(np.concatenate([np.array(ids) for ids in tokens]))
    table = torch.zeros(grown.size, encoder.base.table.shape[1])
    table[: len(encoder.base.table)] = encoder.base.table
    drawn = method.new_rows(len(used) + 2, [encoder.base.table], torch.Generator().manual_seed(SETTINGS.seed))
    new = used >= len(encoder.base.table)
    table[torch.from_numpy(used[new])] = drawn[: len(used)][torch.from_numpy(new)]
    full = _adamw(encoder, nn.Parameter(table), [np.array([BOT, *ids, EOT], dtype=np.int32) for ids in tokens], corpus)

    assert learned.rows.ids.tolist() == [*range(len(encoder.base.table)), *used[new]]
    torch.testing.assert_close(learned.rows.rows, full[torch.from_numpy(learned.rows.ids)], rtol=1e-4, atol=1e-6)
    idle = np.setdiff1d(np.arange(1_000), used)
    assert not torch.equal(learned.rows.rows[idle], encoder.base.table[idle])
    assert not torch.allclose(learned.rows.rows[[BOT, EOT]], encoder.base.table[[BOT, EOT]], atol=1e-4)


def _adamw(encoder: Encoder, table: nn.Parameter, sequences: list[np.ndarray], corpus: Corpus) -> Tensor:
    lingual, modal = CrossLingual(), CrossModal()
    groups = [{"params": [table], "weight_decay": 0.05}, {"params": [modal.temperature], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    steps = math.ceil(len(sequences) / SETTINGS.batch_size) * SETTINGS.epochs
    for step, batch in training._batches(sequences, SETTINGS, 0, steps):
        numbers, last = pad([sequences[index] for index in batch])
        features = encoder.base.text_features(table[numbers], last)
        chosen = torch.from_numpy(batch)
        loss = lingual(features, corpus.english[chosen])
        loss = loss + 0.01 * modal(features, corpus.pictures[corpus.owner[chosen]], corpus.owner[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([table, modal.temperature], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = SETTINGS.learning_rate * training._rate(step, steps, SETTINGS)
        optimizer.step()
    return table.detach()


def test_a_scaled_step_is_that_share_of_adams_step_and_a_scaled_gradient_is_not() -> None:
    """Adam divides a constant factor out again, so only on the step does 1/f mean 1/f."""
    gradient = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    moved = {}
    for on_step in (True, False):
        table = nn.Parameter(torch.zeros(3, 8))
        optimizer = teir.ScaledAdamW(table, torch.tensor([[1.0], [1 / 3], [0.0]]), [], decay=0.0, on_step=on_step)
        table.grad = gradient.clone()
        table.grad[1:] = gradient[0]
        optimizer.step(1e-2, clip=1e9)
        moved[on_step] = table.detach().norm(dim=1)
    assert (moved[True] / moved[True][0]).tolist() == [1.0, pytest.approx(1 / 3), 0.0]
    assert (moved[False] / moved[False][0]).tolist() == [1.0, pytest.approx(1.0, abs=0.01), 0.0]


# Methods that are not built in: each is data for `learn`, whose loop knows nothing of them.


def test_replay_is_a_lesson_that_holds_captions_of_older_languages(encoder: Encoder, tmp_path: Path) -> None:
    corpus = corpus_for(encoder)
    old = Corpus("br", ["kazh du", "ki bras"] * 8, corpus.english[:16], corpus.pictures, torch.arange(16))

    def with_old(new: Corpus) -> Corpus:
        return Corpus(
            new.language,
            [*new.captions, *old.captions],
            torch.cat([new.english, old.english]),
            new.pictures,
            torch.cat([new.owner, old.owner]),
        )

    plain = learn(encoder, encoder.base_view, corpus, tmp_path / "plain", SETTINGS, go_on)
    replaying = learn(encoder, encoder.base_view, corpus, tmp_path / "er", SETTINGS, go_on, Method(lesson=with_old))
    remembered = {n for ids in replaying.tokenizer(encoder.base_view.tokenizer).encode(old.captions) for n in ids}
    assert remembered <= set(replaying.rows.ids.tolist())
    assert not remembered <= set(plain.rows.ids.tolist())
    assert replaying.ngrams == plain.ngrams  # what the language is known by is its own captions alone


class Bottleneck(nn.Module):
    """An adapter behind the frozen tower."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Linear(base.dimension, 4), nn.Linear(4, base.dimension)
        nn.init.zeros_(self.up.weight)
        self.tower = base.text_features

    def forward(self, rows: Tensor, last: Tensor) -> Tensor:
        features = self.tower(rows, last)
        return features + self.up(torch.relu(self.down(features)))  # type: ignore[no-any-return]


def test_an_adapter_is_a_student_that_is_trained_beside_the_rows_and_resumes(encoder: Encoder, tmp_path: Path) -> None:
    made: list[Bottleneck] = []

    def adapter(base: Base) -> Bottleneck:
        made.append(Bottleneck(base))
        return made[-1]

    def end(folder: str, on_step: Callable[[Progress], bool]) -> Bottleneck:
        method = Method(student=adapter)
        learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path / folder, SETTINGS, on_step, method)
        return made[-1]

    whole = end("whole", go_on)
    with pytest.raises(Interrupted):
        end("cut", lambda progress: progress.step == 3)
    resumed = end("cut", go_on)
    assert not torch.equal(whole.up.weight, torch.zeros_like(whole.up.weight))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


class Small(Objective):
    """Asks for small features."""

    def of(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor:
        return features.square().mean()


def test_a_further_objective_is_one_more_term(encoder: Encoder, tmp_path: Path) -> None:
    corpus, losses = corpus_for(encoder), dict[str, list[float]]()
    for name, method in {"both": TEIR, "more": Method(objectives=lambda c: [*published(c), Small()])}.items():
        noted = losses.setdefault(name, [])

        def note(progress: Progress, noted: list[float] = noted) -> bool:
            noted.append(progress.loss)
            return False

        learn(encoder, encoder.base_view, corpus, tmp_path / name, SETTINGS, note, method)
    assert losses["more"][0] > losses["both"][0]


def test_begin_and_end_of_text_keep_their_bits_under_teir(encoder: Encoder, tmp_path: Path) -> None:
    """They are not stored with a language, so a training that moved them would learn for a table that nobody has."""
    learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, go_on)
    newest = max(tmp_path.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
    rows = load_file(newest / "state.safetensors")["rows"]
    assert torch.equal(rows[-2:], encoder.base.table[[BOT, EOT]])
    assert not torch.equal(rows[0], encoder.base.table[BOT])


def test_ends_of_its_own_are_kept_with_the_language_and_leave_the_bases(encoder: Encoder, tmp_path: Path) -> None:
    before = encoder.texts([(encoder.base_view, "a red apple")]).vectors
    learned = learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, go_on, Method(ends=True))
    assert {BOT, EOT} <= set(learned.rows.ids.tolist()) and (np.diff(learned.rows.ids) > 0).all()
    view = encoder.extend(encoder.base_view, 1, "cy", learned)
    (numbers, _) = view.sequence([])
    moved = encoder.table.rows[torch.from_numpy(numbers).long()]
    assert torch.equal(moved, learned.rows.rows[np.searchsorted(learned.rows.ids, [BOT, EOT])])
    assert not torch.equal(moved, encoder.base.table[[BOT, EOT]])
    assert np.array_equal(encoder.texts([(encoder.base_view, "a red apple")]).vectors, before)
