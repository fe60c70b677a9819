"""What learning and serving cost: every part measures something on a tiny tower; the table says what was measured."""

import pytest

from benchmarks.cost_parts import PARTS, Plan
from benchmarks.made_up import Sizes, base, captions, opened
from benchmarks.training_cost import summary
from model.base import VOCABULARY
from model.encoder import Encoder
from model.tokenizer import Tokenizer

TINY = Plan(
    Sizes(languages=3, rows=VOCABULARY + 1_200, layers=1, width=32, heads=2), 1, batch=8, steps=2, rounds=1, texts=12
)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_measures(part: str) -> None:
    found = PARTS[part](TINY)
    assert found and all(value > 0 for value in found.values()), found


def test_a_step_of_the_large_table_is_that_of_the_small_one() -> None:
    found = PARTS["steps"](TINY)
    assert found["rows"] >= TINY.sizes.words  # a row for each word of the corpus
    assert found["bytes"] > found["row_bytes"] == found["rows"] * TINY.sizes.width * 4


def test_the_large_table_has_the_rows_that_were_asked_for() -> None:
    first, last = PARTS["gathered_first"](TINY), PARTS["gathered"](TINY)
    assert first["table"] == 4 * TINY.sizes.width * (VOCABULARY + TINY.sizes.words)
    assert last["table"] == pytest.approx(4 * TINY.sizes.width * TINY.sizes.rows, rel=0.01)
    assert PARTS["dense"](TINY)["table"] == last["table"]


def test_the_table_reads_what_was_measured() -> None:
    """By hand: 3 languages, so two views more than one."""
    found = {
        "steps": [{"ratio": 1.04, "bytes": 110.0, "row_bytes": 100.0}],
        "encoding": [{"ratio": 0.97, "ratio_new": 0.8}],
        "gathered": [{"seconds": s, "peak": 500e6, "table": 300e6} for s in (0.5, 1.0, 9.0)],
        "dense": [{"seconds": s, "peak": 2_000e6, "table": 300e6} for s in (1.0, 3.0, 4.0)],
        "dense_float32": [{"seconds": 5.0, "peak": 2_000e6, "table": 300e6}],
        "dense_fused": [{"seconds": 2.0, "peak": 2_000e6, "table": 300e6}],
        "gathered_first": [{"seconds": 1.0, "peak": 280e6, "table": 100e6}],
        "one_view": [{"resident": 400e6, "rows": 100e6}],
        "views": [{"resident": 540e6, "rows": 220e6}],
    }
    assert [measured for _, measured, _ in summary(found, TINY)] == [
        "1.04", "1.10", "3.00", "5.00", "2.00", "0.25", "+20 MB", "0.97", "0.80", "10.0 MB"
    ]  # fmt: skip


def test_a_made_up_word_is_one_token_of_its_language_and_two_of_clips() -> None:
    view = opened(Encoder(base(TINY.sizes)), TINY.sizes, 2)[2]
    said = captions(2, TINY.sizes.words)
    for text, own, clip in zip(said, view.tokens(said), Tokenizer().encode(said), strict=True):
        assert (len(own), len(clip)) == (len(text.split()), 2 * len(text.split()))
