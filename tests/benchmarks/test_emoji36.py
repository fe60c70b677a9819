"""A four-language miniature of Emoji-36: it must show what the whole shows.

It takes two minutes of one core, so it is left to `make nightly`; `test_methods_miniature` trains all methods.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.emoji36 import methods, report, table
from benchmarks.emoji36.data import EmojiData
from benchmarks.emoji36.lexicon import demo_names
from benchmarks.emoji36.methods import ROWS, TRAININGS
from benchmarks.emoji36.run import teach
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.table import Bench, fill
from model.base import Base, open_base
from model.encoder import Encoder
from model.evaluation import average_accuracy, forgetting
from model.training import LearnSettings
from store import files
from tests.benchmarks.miniature import (
    FAINT,
    assert_every_language_is_learned,
    assert_idle_rows_keep_their_bits,
    assert_languages_are_detected,
    assert_new_rows_start_like_the_whole_table,
    assert_nothing_addressed_is_forgotten,
    assert_old_corpora_read_alike,
    assert_rows_move_less_the_more_languages_share_them,
    triangle,
)

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]  # the first test waits for everything to be taught
LANGUAGES = ("en", "de", "fr", "tr")
SETTINGS = LearnSettings(epochs=4)
SIZES = Sizes(train=1_600, test=120, singles=40)
ADDRESSED = str(ROWS["addressed"].training)
SCALES = pytest.mark.parametrize(("name", "clip"), [("shared", FAINT), ("shared-step", SETTINGS.clip)])
TOKENIZERS = pytest.mark.parametrize("training", ["shared", ADDRESSED])


@pytest.fixture(scope="module")
def base() -> Base:
    return open_base("bundled")


@pytest.fixture(scope="module")
def data(base: Base, tmp_path_factory: pytest.TempPathFactory) -> EmojiData:
    return EmojiData(Encoder(base), demo_names(LANGUAGES), SIZES, tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def bench(base: Base, data: EmojiData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A run without any fault; its trainings are shared by the tests of this file."""
    torch.use_deterministic_algorithms(True)  # as `python -m benchmarks.emoji36 run` sets it
    honest = Bench(base, data, SETTINGS, tmp_path_factory.mktemp("run"), lambda _: None)
    for training in ("shared", ADDRESSED):
        assert [*honest.teach(Encoder(base), training)]
    yield honest
    torch.use_deterministic_algorithms(False)


def test_every_language_is_learned(bench: Bench) -> None:
    assert_every_language_is_learned(bench, "shared")
    assert_every_language_is_learned(bench, "addressed")


def test_idle_rows_keep_their_bits(bench: Bench) -> None:
    assert_idle_rows_keep_their_bits(bench)


def test_new_rows_start_like_the_whole_table(bench: Bench, tmp_path: Path) -> None:
    assert_new_rows_start_like_the_whole_table(bench, tmp_path)


@SCALES
def test_rows_move_less_the_more_languages_share_them(bench: Bench, tmp_path: Path, name: str, clip: float) -> None:
    assert_rows_move_less_the_more_languages_share_them(bench, tmp_path, name, clip)


def test_the_shared_table_forgets_and_addressing_does_not(bench: Bench) -> None:
    shared, own = (triangle(fill(bench, name)) for name in ("shared", "addressed"))
    assert forgetting(shared) > 0
    assert_nothing_addressed_is_forgotten(bench, "addressed")
    assert average_accuracy(own) > average_accuracy(shared)


def test_detected_languages_are_within_two_points_of_told_ones(bench: Bench) -> None:
    assert_languages_are_detected(bench, "auto", "addressed")


@TOKENIZERS
def test_old_corpora_read_alike(bench: Bench, training: str) -> None:
    assert_old_corpora_read_alike(bench, training)


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = teach

    def stopped(*arguments: object) -> Iterator[object]:
        for number, taught in enumerate(honest(*arguments)):  # type: ignore[arg-type]
            if number == 2:
                raise KeyboardInterrupt
            yield taught

    resumed = replace(bench, folder=tmp_path)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(table, "teach", stopped)
        with pytest.raises(KeyboardInterrupt):
            fill(resumed, "shared")
    whole, parts = fill(bench, "shared"), fill(resumed, "shared")
    assert parts.content["digests"] == whole.content["digests"]
    assert parts.triangle == whole.triangle


def test_the_report_has_tables_and_plots(bench: Bench, data: EmojiData, tmp_path: Path) -> None:
    results = {"languages": list(data.languages), "sizes": data.sizes, "methods": {}}
    for name in ("zero-shot", "shared", "addressed"):
        results["methods"][name] = {"seeds": {"0": report.seed_results(fill(bench, name).content)}}  # type: ignore[index]
    path = tmp_path / "emoji36.json"
    files.write_json(path, results)
    page = report.write(path)
    assert all(f"`{name}`" in page and f"| {tag} |" in page for name in ("shared", "addressed") for tag in LANGUAGES)
    assert "0.0" in next(line for line in page.splitlines() if line.startswith("| `addressed`"))
    assert {plot_file.name for plot_file in tmp_path.glob("*.png")} == {
        f"emoji36-{plot}.png" for plot in ("aa", "matrix", "languages")
    }
    text = path.with_suffix(".md")
    text.write_text("# Mine\n\nWords.\n\n<!-- tables -->\nold\n<!-- /tables -->\n\nMore.\n", encoding="utf-8")
    report.write(path)
    assert text.read_text(encoding="utf-8").startswith("# Mine\n\nWords.") and "old" not in text.read_text("utf-8")


def test_every_row_names_a_training_that_exists() -> None:
    assert {row.training for row in ROWS.values()} - {None} <= set(TRAININGS)
    assert methods.FALLBACK in TRAININGS
