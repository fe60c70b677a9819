"""A four-language miniature of Emoji-36: it must show what the whole shows, and fail when it is broken on purpose.

Each check has a precondition test: the same check over the same run with one thing broken, which has to be caught.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.emoji36 import methods, report, table
from benchmarks.emoji36.data import EmojiData
from benchmarks.emoji36.lexicon import demo_names
from benchmarks.emoji36.methods import ROWS, TRAININGS, Row
from benchmarks.emoji36.run import teach
from benchmarks.emoji36.scenes import Sizes
from benchmarks.emoji36.table import Bench, Ledger, fill
from model import storage
from model.base import BOT, EOT, VOCABULARY, Base, open_base
from model.encoder import Encoder
from model.errors import VersionCorrupt
from model.evaluation import average_accuracy, forgetting
from model.merges import BytePairs
from model.method import CLL_CLIP
from model.table import Table
from model.tokenizer import Tokenizer
from model.training import LearnSettings

pytestmark = pytest.mark.slow
LANGUAGES = ("en", "de", "fr", "tr")
SETTINGS = LearnSettings(epochs=4)
SIZES = Sizes(train=1_600, test=120, singles=40)


@pytest.fixture(scope="module")
def base() -> Base:
    return open_base("bundled")


@pytest.fixture(scope="module")
def data(base: Base, tmp_path_factory: pytest.TempPathFactory) -> EmojiData:
    return EmojiData(Encoder(base), demo_names(LANGUAGES), SIZES, tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def bench(base: Base, data: EmojiData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A run that nothing breaks; what it taught is shared by the tests of this file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)  # as `python -m benchmarks.emoji36 run` sets it
    yield Bench(base, data, SETTINGS, tmp_path_factory.mktemp("run"), lambda _: None)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def triangle(ledger: Ledger) -> list[list[float]]:
    return [[scores["seen"]["t2i"]["R@1"] for scores in row] for row in ledger.triangle]


# What holds of an honest run. Each is used below on a broken one as well, where it must not hold.


def assert_every_language_is_learned(bench: Bench, name: str) -> None:
    learned = [row[-1] for row in triangle(fill(bench, name))]
    floor = triangle(fill(bench, "zero-shot"))[-1]
    assert all(now > before + 0.2 for now, before in zip(learned[1:], floor[1:], strict=True)), (learned, floor)


def assert_teir_leaves_the_rest_of_the_table_alone(bench: Bench) -> None:
    """After the last language: specials and every row that no corpus reached keep the base's bits."""
    encoder = Encoder(bench.base)
    *_, last = bench.teach(encoder, "shared")
    view = last.view
    reached = np.unique(np.concatenate([*view.taught.values()]))
    idle = np.setdiff1d(np.arange(VOCABULARY), reached)
    assert {BOT, EOT} <= set(idle.tolist())
    rows = encoder.table.rows[torch.from_numpy(view.physical[idle]).long()]
    assert torch.equal(rows, bench.base.table[torch.from_numpy(idle)])


def assert_rows_move_less_the_more_languages_share_them(bench: Bench) -> None:
    """Of CLIP's rows, those that all four languages use have moved less for the last one than those it has alone."""
    encoder = Encoder(bench.base)
    *_, previous, last = bench.teach(encoder, "shared-step")
    before = previous.view
    ids = last.learned.rows.ids
    ids = ids[ids < VOCABULARY]
    moved = (
        last.learned.rows.rows[: len(ids)] - encoder.table.rows[torch.from_numpy(before.physical[ids]).long()]
    ).norm(dim=1)
    shared = before.frequency(ids, last.language)
    assert moved[torch.from_numpy(shared == shared.max())].mean() < 0.75 * moved[torch.from_numpy(shared == 2)].mean()


def assert_nothing_addressed_is_forgotten(bench: Bench, name: str) -> None:
    ledger = fill(bench, name)
    a = triangle(ledger)
    assert forgetting(a) == 0.0
    assert ledger.content.get("bitwise_equal") is True


def assert_old_corpora_read_alike(bench: Bench, data: EmojiData) -> None:
    """Each language's captions give, through its version of a chain, the ids that they were learned with.

    Its version is read back from disk; its tokenizer then reads through the longer one of those that came after.
    """
    taught, read = [], []
    for each in bench.teach(Encoder(bench.base), "shared"):
        captions = data.corpus(each.language).captions
        taught.append((each, captions))
        read.append(each.view.tokenizer.encode(captions))
        assert {number for line in read[-1] for number in line} == set(each.learned.rows.ids.tolist())
    assert [each.view.tokenizer.encode(captions) for each, captions in taught] == read


def test_every_language_is_learned(bench: Bench) -> None:
    assert_every_language_is_learned(bench, "shared")
    assert_every_language_is_learned(bench, "addressed")


def test_teir_leaves_the_rest_of_the_table_alone(bench: Bench) -> None:
    assert_teir_leaves_the_rest_of_the_table_alone(bench)


def test_rows_move_less_the_more_languages_share_them(bench: Bench) -> None:
    assert_rows_move_less_the_more_languages_share_them(bench)


def test_the_shared_table_forgets_and_addressing_does_not(bench: Bench) -> None:
    shared, own = (triangle(fill(bench, name)) for name in ("shared", "addressed"))
    assert forgetting(shared) > 0
    assert_nothing_addressed_is_forgotten(bench, "addressed")
    assert average_accuracy(own) > average_accuracy(shared)


def test_detected_languages_are_within_two_points_of_told_ones(bench: Bench) -> None:
    detected, told = (triangle(fill(bench, name)) for name in ("auto", "addressed"))
    assert average_accuracy(detected) >= average_accuracy(told) - 0.02


def test_old_corpora_read_alike(bench: Bench, data: EmojiData) -> None:
    assert_old_corpora_read_alike(bench, data)


# Broken on purpose: each must be caught by the check above that it is named after.


def broken(bench: Bench, folder: Path) -> Bench:
    return replace(bench, folder=folder)


def test_a_dense_teir_is_caught(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAININGS, "shared", replace(TRAININGS["shared"], method=CLL_CLIP))
    with pytest.raises(AssertionError):
        assert_teir_leaves_the_rest_of_the_table_alone(broken(bench, tmp_path))


def test_a_teir_that_ignores_frequencies_is_caught(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.teir.row_scale", lambda frequency: torch.ones(len(frequency), 1))
    with pytest.raises(AssertionError):
        assert_rows_move_less_the_more_languages_share_them(broken(bench, tmp_path))


def test_reading_old_languages_through_the_newest_version_is_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(ROWS, "addressed", Row("shared", "shared"))
    scored = broken(bench, tmp_path)
    (tmp_path / "trained").symlink_to(bench.folder / "trained")
    with pytest.raises(AssertionError):
        assert_nothing_addressed_is_forgotten(scored, "addressed")


def test_rows_written_over_those_of_older_versions_are_caught(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without copy-on-write a new version's rows replace the ones that older views read."""

    own = replace(bench.base, table=bench.base.table.clone())  # the other tests go on with the honest one

    def write_over(self: Table, rows: torch.Tensor) -> np.ndarray:
        self.rows[: len(rows)] = rows
        return np.arange(len(rows), dtype=np.int32)

    monkeypatch.setattr(Table, "append", write_over)
    (tmp_path / "trained").symlink_to(bench.folder / "trained")
    with pytest.raises(AssertionError):
        assert_nothing_addressed_is_forgotten(replace(broken(bench, tmp_path), base=own), "addressed")


def test_a_tokenizer_that_loses_merges_when_read_back_is_caught(
    bench: Bench, data: EmojiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference's own defect: from the second task on its merges are cut back to CLIP's."""
    honest = Tokenizer.extend

    def forgetful(self: Tokenizer, merges: list[tuple[str, str]], words: tuple[str, ...] = ()) -> Tokenizer:
        return honest(self, list(merges)[:-5], words)

    assert [*bench.teach(Encoder(bench.base), "shared")]
    monkeypatch.setattr(Tokenizer, "extend", forgetful)
    with pytest.raises((AssertionError, VersionCorrupt)):
        assert_old_corpora_read_alike(bench, data)


def test_old_text_read_with_younger_merges_is_caught(
    bench: Bench, data: EmojiData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published merge's own drift: a younger language's merges join what an older one left apart."""
    monkeypatch.setattr(BytePairs, "cut", lambda self, number, count: (number,))
    with pytest.raises(AssertionError):
        assert_old_corpora_read_alike(bench, data)


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
    storage.write_json(path, results)
    page = report.write(path)
    assert all(f"`{name}`" in page and f"| {tag} |" in page for name in ("shared", "addressed") for tag in LANGUAGES)
    assert "0.0" in next(line for line in page.splitlines() if line.startswith("| `addressed`"))
    assert {found.name for found in tmp_path.glob("*.png")} == {
        f"emoji36-{plot}.png" for plot in ("aa", "matrix", "languages")
    }
    text = path.with_suffix(".md")
    text.write_text("# Mine\n\nWords.\n\n<!-- tables -->\nold\n<!-- /tables -->\n\nMore.\n", encoding="utf-8")
    report.write(path)
    assert text.read_text(encoding="utf-8").startswith("# Mine\n\nWords.") and "old" not in text.read_text("utf-8")


def test_every_row_names_a_training_that_exists() -> None:
    assert {row.training for row in ROWS.values()} - {None} <= set(TRAININGS)
    assert methods.FALLBACK in TRAININGS
