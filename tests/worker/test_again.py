"""A language taught again is taught from all that it was taught from before; so is a table after a rollback."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from store import files
from store.data_root import DataRoot
from store.errors import CheckpointMismatch, DatasetInvalid, DatasetPictureNotFound
from store.expansions import Expansion
from store.tables import ExpansionRow
from store.versions import Version
from tests.registries import publish_release
from tests.worker.harness import Site, attempt_at, carry_out, pairs, prepare_data, report_of, teach, with_welsh
from worker import attempt as attempts
from worker.attempt import Attempt, Stopped, open_context
from worker.child import run
from worker.match import MatchFitter
from worker.prepare import TrainingData

Rows = list[dict[str, Any]]
WELSH = pairs("cy", picture=True)
FIRST, SECOND = WELSH[:70], WELSH[30:]  # 40 rows are in both


def taught(site: Site, rows: Rows, language: str = "cy", **settings: Any) -> str:
    """Teach the language from these rows too; returns the expansion."""
    site.begin_with(json.dumps([rows, language, settings]), lambda: carry_out(site, rows, language, **settings))
    return site.registry.expansions.list()[0].id


def taught_before(data: TrainingData) -> list[str]:
    """The expansions whose datasets are taught again beside the new one."""
    return [expansion.id for expansion in data.expansions[:-1]]


def serving(site: Site, language: str = "cy") -> Version:
    return site.registry.versions.get(site.registry.releases.get_serving().languages[language])


def held_out(site: Site, expansions: Sequence[str]) -> set[tuple[str, str]]:
    """Pictures and captions that these have kept for measuring."""
    paths = [site.home / "expansions" / expansion / "validation.json" for expansion in expansions]
    kept = [json.loads(path.read_text()) for path in paths]
    return {pair for each in kept for pair in zip(each["targets"], each["captions"], strict=True)}


def test_it_is_taught_from_both_and_measured_on_what_both_hold_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [taught(site, FIRST)]
    data = prepare_data(site, SECOND)
    trained = {(str(row.picture), row.caption) for row in data.proof_rows}
    kept = held_out(site, both) | {(str(row.picture), row.caption) for row in data.own_rows if row.split == "val"}
    assert len(data.rows) == 100 and len(data.own_rows) == 70
    assert trained and not trained & kept and len(trained | kept) == 100, (
        "what either holds out is in the proof by none"
    )
    assert {*data.training_rows} == {*data.rows}

    both.append(taught(site, SECOND))
    version = serving(site)
    manifest = json.loads((site.home / str(version.folder) / files.MANIFEST).read_text())
    assert (version.number, version.dataset_expansions) == (2, tuple(both))
    assert manifest["datasets_sha256"] == [site.registry.expansions.get(id).dataset_sha256 for id in both]
    assert len([*(site.home / "teacher").iterdir()]) == 2, "no text of an earlier dataset is encoded again"
    report, kept = version.report, held_out(site, both)
    assert report["joined"] == {"datasets": 1, "rows": 30, "train": 100}
    assert report["dataset"]["usable"] == 70 and report["rows"] == {"captions": 100, "words": 0}
    assert {*report["new"]} < {row["caption"] for row in SECOND}
    assert report["pairs"] == len(kept) and f"on the same {len(kept)} held-out captions" in report["gain"]["sentence"]
    captions = site.gallery.find_captions([row["picture"] for row in WELSH], "cy")
    assert Counter(caption.expansion for caption in captions) == dict.fromkeys(both, 70), "each has brought its own"
    texts = MatchFitter(site.registry, DataRoot(site.home)).choose_queries("cy", 2)
    assert texts is not None and {*texts.pairs} == kept

    assert taught_before(prepare_data(site, FIRST)) == both[1:], "the same file is taught once"
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "MAX_ROWS", 100)
        assert taught_before(prepare_data(site, pairs("cy"))) == both[1:], "of very many rows the newest"
    teach(site, "br", picture=True)
    welsh = serving(site, "br").report["shared"]["languages"]["cy"]
    assert welsh["before"] == report["t2i"], "the shared table was that version"
    for left in (both[:1], []):
        site.registry.releases.roll_back("cy", actor="test", reason="")
        assert taught_before(prepare_data(site, pairs("cy"))) == left, "what was rolled back is not taught again"


@pytest.mark.parametrize("pictured_first", [False, True])
def test_pairs_that_are_held_out_are_trained_on_neither_with_pictures_nor_without(
    site: Site, pictured_first: bool
) -> None:
    first, second = (pairs("cy", picture=pictured) for pictured in (pictured_first, not pictured_first))
    kept = {caption for _, caption in held_out(site, [taught(site, first)])}
    data = prepare_data(site, second)
    trained = {row.caption for row in data.proof_rows}
    new = {row.caption for row in data.own_rows if row.split == "val"}
    assert kept and new and len(kept | new | trained) == 100
    assert not trained & (kept | new)


def test_datasets_that_hold_out_every_row_between_them_are_refused(site: Site) -> None:
    halves = [[{**row, "split": ("train", "val")[place % 2]} for place, row in enumerate(WELSH)]]
    halves.append([{**row, "split": "val" if row["split"] == "train" else "train"} for row in halves[0]])
    taught(site, halves[0])
    with pytest.raises(DatasetInvalid, match=r"held out by this dataset or an earlier one.*`replace`"):
        taught(site, halves[1])


@pytest.mark.parametrize(
    ("harm", "refused"),
    [(lambda file: file.unlink(), DatasetInvalid), (lambda file: file.write_bytes(b"[]"), CheckpointMismatch)],
    ids=["missing", "changed"],
)
def test_an_earlier_dataset_that_cannot_be_read_is_named_with_a_way_out(
    site: Site, harm: Callable[[Path], None], refused: type[Exception]
) -> None:
    first = taught(site, FIRST)
    harm(site.home / "expansions" / first / "dataset")
    with pytest.raises(refused, match=rf"{first}, which is taught again, cannot be read .*`replace`"):
        prepare_data(site, SECOND)


def test_a_language_is_measured_as_most_of_its_captions_are(site: Site) -> None:
    first = taught(site, WELSH)
    taught(site, pairs("cy")[:64])
    report = serving(site).report
    assert (report["against"], report["pairs"]) == ("pictures", len(held_out(site, [first])))
    assert [each["against"] for each in report["others"]] == ["english"], "and so are the others, by themselves"
    texts = MatchFitter(site.registry, DataRoot(site.home)).choose_queries("cy", 2)
    assert texts is not None and {*texts.pairs} <= held_out(site, [first])


def test_what_earlier_datasets_hold_out_is_asked_though_there_are_too_many_rows_to_teach_them_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "MAX_ROWS", 10)
    both = [taught(site, FIRST), taught(site, SECOND)]
    version = serving(site)
    assert version.dataset_expansions == (both[1],) and version.report["pairs"] == len(held_out(site, both))


def test_earlier_captions_whose_pictures_are_gone_are_not_asked(site: Site) -> None:
    taught(site, WELSH)
    for number in range(100):
        site.gallery.delete(f"p{number}")
    last = taught(site, pairs("cy")[:64])
    report = serving(site).report
    assert (report["against"], report["pairs"]) == ("english", len(held_out(site, [last])))


def test_replaced_datasets_are_taught_no_more_neither_now_nor_later(site: Site) -> None:
    first = taught(site, FIRST)
    second = taught(site, SECOND, replace=True)
    version = serving(site)
    assert version.dataset_expansions == (second,) and "joined" not in version.report
    assert version.report["replaced"]["datasets"] == 1 and version.report["pairs"] == len(held_out(site, [second]))
    (sentence,) = version.report["replaced"]["sentences"]
    assert f"{len(held_out(site, [first]))} held-out captions of pictures from the replaced datasets" in sentence
    assert taught_before(prepare_data(site, pairs("cy"))) == [second]
    assert site.registry.releases.find_visible("cy", 2) == {second}
    third = taught(site, FIRST)
    assert site.registry.releases.find_visible("cy", 3) == {second, third}
    site.registry.retention.note_dataset_removed(first)
    site.registry.retention.note_dataset_removed(second)
    context = open_context(attempt_at(site, site.submit(SECOND, replace=True)))
    assert context.replaced_count == 1, "of those that are kept"


def test_the_first_attempt_decides_what_is_taught_again(site: Site) -> None:
    first = taught(site, FIRST)
    attempt = attempt_at(site, site.submit(SECOND))
    open_context(attempt)
    before = site.registry.releases.get_serving().number
    publish_release(site.registry, expected=before, shared=0, languages={})  # everything else is restored meanwhile
    assert [expansion.id for expansion in open_context(attempt).earlier_expansions] == [first]


def test_earlier_rows_go_without_deleted_pictures_and_new_ones_are_refused(site: Site) -> None:
    pictured = [{"caption": row["caption"], "picture": row["picture"]} for row in WELSH]
    taught(site, pictured[:70])
    site.gallery.delete("p0")
    data = prepare_data(site, pictured[30:])
    assert len(data.rows) == 99 and "p0" not in data.picture_places
    site.gallery.delete("p99")
    with pytest.raises(DatasetPictureNotFound, match="p99"):
        prepare_data(site, pictured[30:])
    data = prepare_data(site, pictured[30:], without_missing=True)
    assert len(data.rows) == 98 and len(data.own_rows) == data.report.usable == 69


def test_earlier_rows_go_without_pairs_in_a_language_that_serves_no_more(site: Site) -> None:
    teach(site)
    taught(site, with_welsh(), "br")
    site.registry.releases.roll_back("cy", actor="test", reason="")
    data = prepare_data(site, pairs("br")[:70], "br")
    assert len(data.expansions) == 2 and data.rows == data.own_rows and data.pivot_versions == {"en": 0}


def test_a_few_rows_join_a_language_and_are_all_taught(site: Site) -> None:
    first = taught(site, pairs("cy", count=70))
    few = [{"caption": f"gair{n} newydd", "english": f"word number {n}"} for n in range(3)]
    second = taught(site, few)
    version = serving(site)
    assert version.dataset_expansions == (first, second)
    assert version.report["dataset"] == {**version.report["dataset"], "usable": 3, "train": 3, "val": 0}
    assert version.report["new"] == [row["caption"] for row in few]
    assert version.report["pairs"] == len(held_out(site, [first])), "three rows measure nothing"
    data = prepare_data(site, [{"caption": "un arall", "english": "one more"}])
    assert {row["caption"] for row in few} <= {row.caption for row in data.proof_rows}


def rebuild_of(site: Site, language: str, kind: type[Attempt] = Attempt) -> Attempt:
    """A language is rolled back, and the shared table is to be trained again on the later ones."""
    plan = site.registry.releases.roll_back(language, actor="test", reason="")
    assert plan.shared_version == 0
    expansion, _ = site.registry.expansions.submit(
        kind="rebuild", language=language, settings={"replay": plan.replay}, actor="test"
    )
    return attempt_at(site, expansion.id, kind=kind)


def rebuild_without(site: Site, language: str) -> Expansion:
    """Roll a language back, and train the shared table again on the later ones."""
    run(attempt := rebuild_of(site, language))
    return site.registry.expansions.get(attempt.expansion.id)


def test_a_rebuild_teaches_the_shared_table_again_and_leaves_what_is_served(site: Site) -> None:
    teach(site, "cy", "br")
    done = rebuild_without(site, "cy")
    serving = site.registry.releases.get_serving()
    assert (serving.shared, serving.languages) == (3, {"en": 0, "br": 2})
    rebuilt = site.registry.versions.get(3)
    assert (rebuilt.parent, rebuilt.language) == (0, "br")
    assert done.report is not None
    assert done.report["moved"] is True


def test_a_language_that_was_taught_twice_is_rebuilt_from_both_datasets(site: Site) -> None:
    rows = pairs("br")
    teach(site, "cy")
    for some in (rows[:70], rows[30:]):
        carry_out(site, some, "br")
    done = rebuild_without(site, "cy")
    sources = site.registry.versions.get(site.registry.releases.get_serving().shared).dataset_expansions
    assert sources == site.registry.versions.get(3).dataset_expansions and len(sources) == 2
    assert done.report is not None and done.report["languages"]["br"]["dataset"]["usable"] == 100


class StopsInTraining(Attempt):
    """Asked to stop at the first step."""

    def report_step(self, step: int, steps: int) -> None:
        super().report_step(step, steps)
        self.stop.set()


@pytest.mark.parametrize(("elsewhere", "pictures"), [(False, 99), (True, 98)])
def test_a_picture_deleted_while_a_rebuild_runs_does_not_end_it(site: Site, *, elsewhere: bool, pictures: int) -> None:
    teach(site, "cy", "br", picture=True)
    site.gallery.delete("p7")
    first = rebuild_of(site, "cy", StopsInTraining)
    with pytest.raises(Stopped):
        run(first)
    site.registry.expansions.give_back_lease(first.lease)
    site.gallery.delete("p8")
    if elsewhere:  # on a machine that has nothing of the first attempt
        for folder in ("pictures", "checkpoints", "teacher"):
            files.remove(first.folder / folder)
    run(attempt_at(site, first.expansion.id))
    report = report_of(site, first.expansion.id)
    assert report["moved"] is True
    dataset = report["languages"]["br"]["dataset"]
    assert (dataset["usable"], dataset["with_english"], dataset["pictures"]) == (100, 100, pictures)


def test_a_rebuild_that_has_no_picture_left_ranks_english_texts_and_goes_on_after_a_stop(site: Site) -> None:
    taught = teach(site, "cy", "br", picture=True)
    kept = json.loads((site.home / "expansions" / taught.id / "validation.json").read_text())
    for number in range(100):
        site.gallery.delete(f"p{number}")
    first = rebuild_of(site, "cy", StopsInTraining)
    with pytest.raises(Stopped):
        run(first)
    site.registry.expansions.give_back_lease(first.lease)
    run(attempt_at(site, first.expansion.id))
    report = report_of(site, first.expansion.id)
    assert report["moved"] is True
    breton = report["languages"]["br"]
    assert (breton["dataset"]["pictures"], breton["against"], breton["pairs"]) == (0, "english", len(kept["targets"]))


def test_a_rebuild_leaves_out_a_language_whose_training_diverges_and_goes_on(site: Site) -> None:
    teach(site, "cy", "br")
    carry_out(site, pairs("br"), "kw")
    (source,) = site.registry.versions.get(2).dataset_expansions
    with site.registry.begin() as session:  # as if this training were another one, on another machine
        row = session.get_one(ExpansionRow, source)
        row.settings = {**row.settings, "learning_rate": 1e38}
    report = rebuild_without(site, "cy").report
    assert report is not None and report["languages"]["br"]["left_out"] == "training_diverged"
    shared = site.registry.versions.get(site.registry.releases.get_serving().shared)
    assert (shared.language, shared.parent) == ("kw", 0)


def test_a_rebuild_leaves_out_a_language_of_which_too_little_is_left(site: Site) -> None:
    teach(site, "cy")
    for row in (rows := pairs("br", picture=True)):
        del row["english"]
    carry_out(site, rows, "br")
    for number in range(40):
        site.gallery.delete(f"p{number}")
    done = rebuild_without(site, "cy")
    assert (done.state, site.registry.releases.get_serving().shared) == ("succeeded", 0)
    assert done.report == {
        "moved": False,
        "languages": {
            "br": {"left_out": "dataset_too_small", "detail": "60 usable rows; at least 64 are needed"},
        },
    }
