"""What learning and serving cost: every part measures something on a tiny tower; the table says what was measured."""

from pathlib import Path

import pytest

from benchmarks import large_table, made_up
from benchmarks.bases.bench import ARMS, GROWN, Bench
from benchmarks.cost_parts import PARTS, Plan
from benchmarks.emoji36.data import EmojiData
from benchmarks.emoji36.lexicon import read_demo_names
from benchmarks.emoji36.scenes import Sizes
from model.base import open_base
from model.encoder import Encoder
from model.tokenizer import CLIP_TOKENS
from model.training import LearnSettings
from tests.groups import GROUPS, write_base

TINY = Plan(
    made_up.Sizes(languages=3, rows=CLIP_TOKENS + 1_200, layers=1, width=32, heads=2),
    1,
    batch=8,
    steps=2,
    rounds=1,
    texts=12,
)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_measures(part: str) -> None:
    figures = PARTS[part](TINY)
    assert figures and all(value > 0 for value in figures.values()), figures


def test_the_large_table_has_the_rows_that_were_asked_for() -> None:
    first, last = PARTS["gathered_first"](TINY), PARTS["gathered"](TINY)
    assert first["table"] == 4 * TINY.sizes.width * (CLIP_TOKENS + TINY.sizes.words)
    assert last["table"] == pytest.approx(4 * TINY.sizes.width * TINY.sizes.rows, rel=0.01)
    assert PARTS["dense"](TINY)["table"] == last["table"]


# --- The benchmark of bases in small: what each way teaches with, and what is kept ---


def test_each_way_differs_in_what_it_says_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    encoder = Encoder(open_base(write_base(tmp_path / "base", GROUPS["siglip2"]), "cpu"))
    data = EmojiData(
        encoder, read_demo_names(["en", "de", "ko"]), Sizes(train=60, test=12, singles=12), tmp_path / "shown"
    )
    bench = Bench(encoder, data, LearnSettings(epochs=1, batch_size=16), tmp_path / "made")
    found = {arm: bench.teach("de", arm) for arm in ARMS}
    assert found["as it is"]["new"] == 0 < found[GROWN]["new"] == found["grown, drawn"]["new"]
    assert found[GROWN]["tokens"] < found["as it is"]["tokens"]
    assert len({str(each["ranks"]) for each in found.values()}) == len(ARMS), "each way reads otherwise"
    rows = [(tmp_path / "made" / arm / "de" / "version" / "rows.safetensors") for arm in ("grown", "grown-drawn")]
    assert rows[0].read_bytes() != rows[1].read_bytes()
    before, changed = bench.assess("de"), {path: path.stat().st_mtime_ns for path in rows}
    gain = bench.measure_gain("de")
    assert Bench(encoder, data, bench.settings, bench.folder).assess("de") == before
    assert {path: path.stat().st_mtime_ns for path in rows} == changed
    score = [sum(rank < k for rank in figures["ranks"] for k in (1,)) / 12 for figures in (before, found[GROWN])]
    assert gain.mean == pytest.approx(score[1] - score[0])


@pytest.mark.nightly
def test_a_large_table_is_measured_beside_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_table, "WIDTH", 48)
    monkeypatch.setattr(large_table, "_PIECES", 900)
    small, large = (large_table.write_base(tmp_path / str(count), count) for count in (1_000, 4_000))
    assert open_base(large, "cpu").table.shape == (4_000, 48)
    steps = large_table._measure_steps(small, large, "1")
    assert steps["ratio"] > 0 and len(steps["seconds"]) == 2
