"""A four-language miniature of Emoji-36: it must show what the whole shows, and fail when it is broken on purpose.

Each check of `miniature` has precondition tests: the same check with one thing broken, which it has to catch. All of it
takes two to three minutes of one core, so it is left to `make nightly`; `test_methods_miniature` trains all methods.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.emoji36 import methods, report, table
from benchmarks.emoji36.data import Data, EmojiData
from benchmarks.emoji36.lexicon import demo_names
from benchmarks.emoji36.methods import ROWS, TRAININGS
from benchmarks.emoji36.run import Encode, Scores, score, teach
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.table import Bench, fill
from benchmarks.emoji36.trainer import CLL_CLIP, MethodTrainer
from model.base import Base, open_base
from model.detection import Detector, Guess
from model.encoder import Encoder
from model.evaluation import average_accuracy, forgetting
from model.growth import Merge, PieceMerges
from model.table import Table, View
from model.teir import ScaledAdamW, new_rows
from model.tokenizer import CLIP_TOKENS, Tokenizer
from model.training import LearnSettings
from store import files
from store.errors import VersionCorrupt
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


# Broken on purpose: each must be caught by the check above that it is named after.


def broken(bench: Bench, folder: Path) -> Bench:
    """A run of its own, with nothing trained yet."""
    return replace(bench, folder=folder)


def scored_anew(bench: Bench, folder: Path) -> Bench:
    """The faultless trainings, with nothing scored yet."""
    (folder / "trained").symlink_to(bench.folder / "trained")
    return broken(bench, folder)


def test_a_training_that_teaches_nothing_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScaledAdamW, "step", lambda *_: None)
    with pytest.raises(AssertionError, match="a language is hardly learned"):
        assert_every_language_is_learned(
            replace(broken(bench, tmp_path), settings=replace(SETTINGS, epochs=1)), "shared"
        )


@pytest.mark.parametrize("language", [None, "fr"], ids=["silent", "always-the-same"])
def test_a_detector_that_tells_nothing_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str | None
) -> None:
    monkeypatch.setattr(Detector, "guess", lambda *_: Guess(language, 1.0))
    with pytest.raises(AssertionError, match="too few are read"):
        assert_languages_are_detected(scored_anew(bench, tmp_path), "auto", "addressed")


def test_detected_texts_read_through_another_version_are_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is detected is right, what reads is not: the version that was opened first."""
    opened = list[View]()

    def through_the_first(encode: Encode, data: Data, views: list[View], language: str) -> tuple[Scores, str]:
        opened.extend(views)
        return score(encode, data, opened[:1] * len(views), language)

    told = scored_anew(bench, tmp_path)
    fill(told, "addressed")
    monkeypatch.setattr(table, "score", through_the_first)
    with pytest.raises(AssertionError, match="they are read worse than told ones"):
        assert_languages_are_detected(told, "auto", "addressed")


def test_a_teir_that_decays_idle_rows_is_caught(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAININGS, "shared", replace(TRAININGS["shared"], method=CLL_CLIP))
    dense = replace(broken(bench, tmp_path), settings=replace(SETTINGS, epochs=1))
    with pytest.raises(AssertionError, match="idle rows have other bits"):
        assert_idle_rows_keep_their_bits(dense)


def drawn_as_usual(count: int, existing: Iterable[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """CLL-CLIP's start, whatever the table is like."""
    return 0.02 * torch.randn((count, next(iter(existing)).shape[1]), generator=generator)


def drawn_once_and_for_all(count: int, _: Iterable[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """Like CLIP's own rows, not like those of later languages."""
    return new_rows(count, [open_base("bundled").table], generator)


def drawn_elsewhere(count: int, existing: Iterable[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    return new_rows(count, existing, generator) + 0.001


@pytest.mark.parametrize(
    ("drawn", "seen"),
    [(drawn_as_usual, "deviation"), (drawn_once_and_for_all, "deviation"), (drawn_elsewhere, "mean")],
)
def test_another_start_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: Callable[..., torch.Tensor], seen: str
) -> None:
    monkeypatch.setattr("model.teir.new_rows", drawn)
    with pytest.raises(AssertionError, match=f"new rows have another {seen}"):
        assert_new_rows_start_like_the_whole_table(bench, tmp_path)


@SCALES
@pytest.mark.parametrize(
    ("broken_thing", "by"),
    [
        ("model.teir.row_scale", lambda frequency: torch.ones(len(frequency), 1)),
        ("model.table.View.frequency", lambda _, ids, __: np.where(ids < CLIP_TOKENS, 2, 1)),
    ],
    ids=["no-scale", "no-earlier-language"],
)
def test_a_teir_that_ignores_frequencies_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, clip: float, broken_thing: str, by: object
) -> None:
    monkeypatch.setattr(broken_thing, by)
    with pytest.raises(AssertionError, match="rows move by another share"):
        assert_rows_move_less_the_more_languages_share_them(bench, tmp_path, name, clip)


def test_a_teir_that_teaches_begin_and_end_of_text_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MethodTrainer, "row_scale", lambda _, frequency: torch.ones(len(frequency) + 2, 1))
    with pytest.raises(AssertionError, match="begin and end of text have moved"):
        assert_rows_move_less_the_more_languages_share_them(bench, tmp_path, "shared", FAINT)


def test_reading_old_languages_through_the_newest_version_is_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An addressed row that is read as a shared one: through whatever version was opened last."""
    opened = list[View]()

    def through_the_newest(encode: Encode, data: Data, views: list[View], language: str) -> tuple[Scores, str]:
        opened.extend(views)
        newest = max(opened, key=lambda view: view.version)
        return score(encode, data, [newest], language)

    monkeypatch.setattr(table, "score", through_the_newest)
    scored = scored_anew(bench, tmp_path)
    with pytest.raises(AssertionError, match="asked again, other bits"):
        assert_nothing_addressed_is_forgotten(scored, "addressed")
    assert forgetting(triangle(fill(scored, "addressed"))) > 0


def test_rows_written_over_those_of_older_versions_are_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without copy-on-write a new version's rows replace the ones that older views read."""

    own = replace(bench.base, table=bench.base.table.clone())  # the other tests go on with the honest one

    def write_over(self: Table, rows: torch.Tensor) -> np.ndarray:
        own.table[: len(rows)] = rows
        return np.arange(len(rows), dtype=np.int32)

    monkeypatch.setattr(Table, "append", write_over)
    with pytest.raises(AssertionError, match="asked again, other bits"):
        assert_nothing_addressed_is_forgotten(replace(scored_anew(bench, tmp_path), base=own), "addressed")


@TOKENIZERS
def test_a_tokenizer_that_loses_merges_when_read_back_is_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, training: str
) -> None:
    """The reference's own defect: from the second task on its merges are cut back to CLIP's."""
    honest = Tokenizer.extend

    def forgetful(self: Tokenizer, merges: list[tuple[str, str]], words: tuple[str, ...] = ()) -> Tokenizer:
        return honest(self, list(merges)[:-5], words)

    monkeypatch.setattr(Tokenizer, "extend", forgetful)
    with pytest.raises(VersionCorrupt, match="the tokenizer is not the one"):
        assert_old_corpora_read_alike(bench, training)


def test_old_text_read_with_younger_merges_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published merge's own drift: a younger language's merges join what an older one left apart."""
    honest = PieceMerges.joined
    monkeypatch.setattr(PieceMerges, "joined", lambda self, word, _: honest(self, word, len(self.merges)))
    with pytest.raises(AssertionError, match="reads otherwise than it was learned"):
        assert_old_corpora_read_alike(bench, "shared")


def test_a_language_read_with_its_neighbours_merges_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the base each language goes on from CLIP's merges; here the last one's serve all."""

    def one_for_all(self: PieceMerges, count: int, more: Sequence[Merge]) -> PieceMerges:
        kept = self.merges[:count]
        PieceMerges.__init__(self, self._first, self._id_of)
        self._append([*kept, *more])
        return self

    monkeypatch.setattr(PieceMerges, "holding", one_for_all)
    with pytest.raises(AssertionError, match="reads otherwise than it was learned"):
        assert_old_corpora_read_alike(bench, ADDRESSED)


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = teach

    def stopped(*arguments: object) -> Iterator[object]:
        for number, taught in enumerate(honest(*arguments)):  # type: ignore[arg-type]
            if number == 2:
                raise KeyboardInterrupt
            yield taught

    resumed = broken(bench, tmp_path)
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
