"""Teaching the shared table again after a rollback: from what is left of the datasets, whatever was deleted."""

import json

import pytest

from store import files
from store.expansions import Expansion
from tests.worker.harness import Site, attempt_at, carry_out, pairs, report_of, teach
from worker.attempt import Attempt, Stopped
from worker.child import run


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
