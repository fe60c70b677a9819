"""What learning and serving cost: every part measures something on a tiny tower; the table says what was measured."""

from pathlib import Path

import pytest

from benchmarks import made_up
from benchmarks.cost_parts import PARTS, Plan
from benchmarks.made_up import Sizes, make_base
from model.encoder import Encoder
from model.teir import ScaledAdamW
from model.tokenizer import CLIP_TOKENS
from model.training import LearnSettings, Trainer

TINY = Plan(
    Sizes(languages=3, rows=CLIP_TOKENS + 1_200, layers=1, width=32, heads=2), 1, batch=8, steps=2, rounds=1, texts=12
)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_measures(part: str) -> None:
    figures = PARTS[part](TINY)
    assert figures and all(value > 0 for value in figures.values()), figures


def test_a_step_beside_many_languages_computes_with_as_many_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Parameters, gradients and Adam's moments; what that saves of time and memory `training_cost` measures."""
    held: list[list[int]] = []

    class Noted(ScaledAdamW):
        def step(self, learning_rate: float, clip: float) -> None:
            (group,) = self.adam.param_groups
            gradients = [each.grad.numel() for each in group["params"] if each.grad is not None]
            super().step(learning_rate, clip)
            moments = [state.numel() for each in self.adam.state.values() for state in each.values()]
            held.append([self.table.numel(), sum(gradients), sum(moments)])

    monkeypatch.setattr("model.teir.ScaledAdamW", Noted)
    corpus = made_up.draw_corpus(TINY.sizes.languages, TINY.sizes)
    for languages in (1, TINY.sizes.languages - 1):
        encoder = Encoder(make_base(TINY.sizes))
        parent = made_up.open_newest(encoder, TINY.sizes, languages)
        Trainer(encoder, parent, corpus, tmp_path / str(languages), LearnSettings(epochs=1)).learn(lambda _: False)
    first, *rest = held
    assert first[0] < 3 * TINY.sizes.words * TINY.sizes.width and all(each == first for each in rest), held


def test_the_large_table_has_the_rows_that_were_asked_for() -> None:
    first, last = PARTS["gathered_first"](TINY), PARTS["gathered"](TINY)
    assert first["table"] == 4 * TINY.sizes.width * (CLIP_TOKENS + TINY.sizes.words)
    assert last["table"] == pytest.approx(4 * TINY.sizes.width * TINY.sizes.rows, rel=0.01)
    assert PARTS["dense"](TINY)["table"] == last["table"]
