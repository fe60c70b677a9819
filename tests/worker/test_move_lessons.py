"""What a move teaches on the other base: from which datasets, in which order, upon which version."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from store.errors import DiskTooSmall, StoreUnavailable
from tests.worker.harness import Site, attempt_at, carry_out, pairs, teach, with_welsh
from tests.worker.moving import move, submit_move
from worker.attempt import Attempt, open_context
from worker.child import run
from worker.learn import make_corpus
from worker.prepare import prepare


@pytest.fixture
def site(new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """Without pictures; computed by torch, which opens sooner."""
    monkeypatch.setenv("PICTOGLOT_BACKEND", "torch")
    return new_site(pictures=0)


def teach_from_welsh(site: Site) -> None:
    """Breton from pairs with Welsh."""
    carry_out(site, with_welsh(), "br")


def test_a_language_waits_for_its_pivot_that_was_taught_again_after_it(site: Site, other_base: str) -> None:
    teach(site, "cy")
    teach_from_welsh(site)
    teach(site, "cy")
    assert site.registry.releases.get_serving().languages == {"en": 0, "cy": 3, "br": 2}
    done = move(site, other_base)
    after = site.registry.releases.get_serving()
    assert (done.state, {*after.languages}) == ("succeeded", {"en", "cy", "br"})
    assert after.shared == after.languages["br"] > after.languages["cy"], "Welsh first, then Breton upon it"
    gains = [site.registry.versions.get(after.languages[tag]).report["gain"] for tag in ("cy", "br")]
    assert [gain["version"] for gain in gains] == [after.base] * 2, "what is learned is compared with the base untaught"
    assert done.report is not None
    assert done.report["without_gain"] == [f"{gain['sentence']}." for gain in gains if gain["mean"] <= gain["error"]]


def test_a_language_whose_pivot_is_withdrawn_is_left_out(site: Site, other_base: str) -> None:
    teach(site, "cy")
    teach_from_welsh(site)
    site.registry.releases.roll_back("cy", actor="test", reason="")
    done = move(site, other_base, force=True)
    assert done.report is not None and done.report["languages"]["br"]["left_out"] == "pivot_not_served"
    assert [*site.registry.releases.get_serving().languages] == ["en"]


def test_what_an_earlier_move_made_upon_a_withdrawn_language_is_taught_again(site: Site, other_base: str) -> None:
    carry_out(site, pairs("cy"), "cy", learning_rate=1e-9, start="drawn")
    teach(site, "br")
    untaught = move(site, other_base).report
    assert untaught is not None
    sentence = untaught["without_gain"][0]
    assert sentence.startswith("Welsh is read ") and "better" not in sentence, "it has learned next to nothing"
    assert site.registry.releases.get_serving().languages == {"en": 3, "cy": 4, "br": 5}
    site.registry.bases.undo(actor="test", reason="")
    site.registry.releases.roll_back("cy", actor="test", reason="")
    done, after = move(site, other_base), site.registry.releases.get_serving()
    assert (after.languages, after.shared) == ({"en": 3, "br": 6}, 6)
    assert site.registry.versions.get(6).parent == 3
    assert done.report is not None and done.report["shared_lacks"] == []


def test_a_language_that_was_taught_twice_moves_with_both_datasets(site: Site, other_base: str) -> None:
    """On the way back and forth as well: the version that was made of both stands on both."""
    rows = pairs("cy")
    both = [site.submit(rows[:70], "cy")]
    run(attempt_at(site, both[0]))
    both.append(site.submit(rows[30:], "cy"))
    run(attempt_at(site, both[1]))
    teach(site, "br")
    done = move(site, other_base)
    made = site.registry.versions.get(site.registry.releases.get_serving().languages["cy"])
    assert made.dataset_expansions == (*both,)
    report, kept = made.report, [_held_out(site, expansion) for expansion in both]
    assert report["dataset"]["usable"] == 100, "rows that both have count once"
    assert report["dataset"]["val"] == report["pairs"] == len(kept[0] | kept[1]) > max(map(len, kept))
    assert done.report is not None and done.report["languages"]["cy"]["pairs"] == report["pairs"]

    back = move(site, site.base, force=True)
    assert back.report is not None and back.report["from"].endswith("other")
    assert site.registry.versions.get(site.registry.releases.get_serving().languages["cy"]).dataset_expansions == (
        *both,
    )


def _held_out(site: Site, expansion: str) -> set[str]:
    return {*json.loads((site.home / "expansions" / expansion / "validation.json").read_text())["captions"]}


def test_what_is_learned_on_another_base_has_the_texts_that_this_base_reads(site: Site, other_base: str) -> None:
    move(site, other_base)
    attempt = attempt_at(site, site.submit(pairs("cy"), "cy"))
    context = open_context(attempt)
    assert context.base_version == 1
    data = prepare(context, attempt.expansion)
    texts = make_corpus(data, data.training_rows, context.base_version).pivot_texts
    assert len(texts) > 50 and None not in texts


def test_the_disk_is_asked_for_once_and_not_again_after_a_pause(
    site: Site, other_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = attempt_at(site, submit_move(site.registry, other_base), kind=Paused)
    with pytest.raises(StoreUnavailable):
        run(attempt)
    monkeypatch.setattr("store.files.require_room", refuse)  # a part of the room is used by what was made before
    run(attempt)
    assert site.registry.releases.get_serving().base == 1


def test_while_another_language_is_taught_nothing_is_made_again(site: Site, other_base: str) -> None:
    moving = attempt_at(site, submit_move(site.registry, other_base), kind=Counted)
    assert isinstance(moving, Counted)
    moving.other = attempt_at(site, site.submit(pairs("cy"), "cy"))
    run(moving)
    assert (moving.pauses, moving.passes) == (3, 2), "one pass before, and one when the other expansion has ended"
    assert site.registry.releases.get_serving().base == 1


class Counted(Attempt):
    """Another expansion is at work until this one has paused three times."""

    other: Attempt
    passes = pauses = 0

    @contextmanager
    def enter_phase(self, name: str) -> Iterator[None]:
        self.passes += name == "compare"
        with super().enter_phase(name):
            yield

    def pause(self, code: str, seconds: float) -> None:
        self.pauses += 1
        if self.pauses == 3:
            self.registry.expansions.give_back_lease(self.other.lease)
        super().pause(code, seconds=0.0)


class Paused(Attempt):
    """The store is away once, after the other base was registered."""

    away = True

    def check_stop(self) -> None:
        super().check_stop()
        if self.away and self.registry.bases.list()[1:]:
            self.away = False
            raise StoreUnavailable


def refuse(*_: Any) -> None:
    raise DiskTooSmall
