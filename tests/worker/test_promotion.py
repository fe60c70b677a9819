"""The gate's decisions on figures."""

from typing import Any

import pytest

from model.evaluation import Gain
from worker.promotion import forgotten, gained, gate, informative, keeps_shared, objections, refusal, retained


def report(
    r10: float = 0.5, truncated: float = 0.0, pairs: int = 10, candidates: int = 1000, r1: float = 0.1, **losses: float
) -> dict[str, Any]:
    languages = {tag: {"before": {"R@1": 0.5}, "after": {"R@1": 0.5 - loss}} for tag, loss in losses.items()}
    return {
        "t2i": {"R@1": r1, "R@10": r10},
        "pairs": pairs,
        "candidates": candidates,
        "truncated": truncated,
        "shared": {"languages": languages, "unmeasured": []},
    }


def test_a_language_above_the_floor_is_served() -> None:
    assert refusal(report(0.209), 0.2) is None


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (report(0.207), "R@10 is 0.207, at least 0.208"),
        (report(truncated=0.06), "6.0% of"),
        (report(pairs=0), "no held-out"),
    ],
)
def test_a_language_below_the_floor_or_cut_or_unasked_is_refused_with_figures(
    figures: dict[str, Any], said: str
) -> None:
    reason = refusal(figures, 0.2)
    assert reason is not None
    assert said in reason


def test_the_floor_stands_above_chance() -> None:
    guesses = 10 / 60  # what garbage reaches among 60 candidates
    assert refusal(report(guesses + 0.1, candidates=60), 0.2) is not None
    assert refusal(report(0.34, candidates=60), 0.2) is None


def test_among_few_candidates_the_first_hit_is_asked_for() -> None:
    reason = refusal(report(1.0, r1=1 / 6, candidates=6), 0.2)  # what garbage reaches among six
    assert reason is not None
    assert "R@1 is 0.167, at least 0.333" in reason
    assert refusal(report(1.0, r1=0.34, candidates=6), 0.2) is None


def test_without_a_floor_nothing_is_asked() -> None:
    assert refusal(report(0.0, r1=0.0, candidates=6), 0.0) is None


def test_every_earlier_language_is_kept_within_the_budget() -> None:
    assert keeps_shared(report(de=0.04, fr=0.04), 0.05)
    assert 0.5 - (0.5 - 0.03) > 0.03 and keeps_shared(report(de=0.03), 0.03)  # as much as may be, but for rounding
    assert not keeps_shared(report(de=0.1, fr=-0.1, nl=0.0), 0.05)


def test_what_could_not_be_asked_does_not_count_as_kept() -> None:
    unknown = report(de=0.0)
    unknown["shared"]["unmeasured"] = ["en", "fr"]
    assert not keeps_shared(unknown, 1.0)
    unknown["shared"]["unmeasured"] = ["en"]
    assert keeps_shared(unknown, 0.05)


def test_the_mean_loss_is_told_beside_the_largest() -> None:
    assert forgotten(report(de=0.1, fr=0.0)) == {"mean_loss": pytest.approx(0.05), "max_loss": pytest.approx(0.1)}


def test_the_first_language_has_nothing_to_forget() -> None:
    assert keeps_shared(report(), 0.0)


BEFORE = {"t2i": {"R@1": 0.1}, "i2t": {"R@1": 0.2}, "pairs": 200}


def test_a_gain_beyond_its_error_is_enough_and_told_in_a_sentence() -> None:
    said = gained("cy", 0, BEFORE, Gain(0.05, 0.65, 0.02), (1, 10))
    assert gate({**report(), "gain": said}, 0.2, 0.05, forced=False) is None
    assert said["sentence"] == (
        "Welsh is read better than by version 0: on the same 200 held-out captions the mean of R@1 and R@10 went "
        "from 5.0 % to 65.0 % (+60.0 ± 2.0 points)"
    )


@pytest.mark.parametrize("after", [0.45, 0.5, 0.519])
def test_a_gain_within_its_error_is_refused_with_a_way_out(after: float) -> None:
    said = gained("cy", 3, BEFORE, Gain(0.5, after, 0.02), (1,))
    name, reason = gate({**report(), "gain": said}, 0.2, 0.05, forced=False) or ("", "")
    assert name == "gain"
    assert reason.startswith("Welsh is not read better than by version 3: on the same 200 held-out captions R@1 went")
    assert "`--force`" in reason


@pytest.mark.parametrize(
    ("pairs", "after", "read"),
    [
        (49, 0.519, "read about as well as"),
        (49, 0.481, "read about as well as"),
        (49, 0.53, "read better than"),
        (49, 0.47, "not read better than"),
    ],
)
def test_few_new_captions_beside_earlier_ones_must_only_not_be_read_worse(pairs: int, after: float, read: str) -> None:
    change, before = Gain(0.5, after, 0.02), {**BEFORE, "pairs": pairs}
    said = gained("cy", 3, before, change, (1,), slack=change.error)
    assert said["sentence"].startswith(f"Welsh is {read} by version 3: on the same {pairs} held-out captions")
    assert (objections({"gain": said}, 0.05) == {}) is said["enough"] is (read != "not read better than")
    assert gained("cy", 3, before, change, (1,))["enough"] is (after == 0.53)


def test_new_captions_of_which_none_is_read_prove_something_unless_they_are_very_few() -> None:
    none = [gained("cy", 3, {**BEFORE, "pairs": n}, Gain(0.0, 0.0, 0.0), (1,), slack=0.0)["enough"] for n in (19, 20)]
    assert none == [True, False]


@pytest.mark.parametrize("lost", [0.05, 0.051])
def test_what_replaces_may_lose_as_much_as_the_budget(lost: float) -> None:
    assert gained("cy", 3, BEFORE, Gain(0.5, 0.5 - lost, 0.06), (1,), slack=0.05)["enough"] is (lost == 0.05)


def test_what_is_forced_is_served_without_a_gain_and_remembered_only_then() -> None:
    lost = gained("cy", 3, BEFORE, Gain(0.5, 0.4, 0.02), (1, 10), forced=True)
    assert gate({**report(), "gain": lost}, 0.2, 0.05, forced=True) is None and not lost["enough"]
    assert objections({"gain": lost}, 0.05) == {"gain": lost["sentence"]}
    better = gained("cy", 3, BEFORE, Gain(0.4, 0.5, 0.02), (1, 10), forced=True)
    assert objections({"gain": better}, 0.05) == objections({}, 0.05) == {}


def of_before(change: Gain, reads_now: float = 0.7) -> dict[str, Any]:
    return retained(3, 200, {"R@1": change.before}, {"R@1": change.after}, change, reads_now)


@pytest.mark.parametrize(
    ("joined", "way"),
    [({"datasets": 1}, "look whether the new captions contradict those"), (None, "teach those as well")],
)
def test_a_language_that_loses_what_it_was_taught_before_is_refused_with_a_way_out(joined: Any, way: str) -> None:
    better = gained("cy", 3, BEFORE, Gain(0.1, 0.7, 0.02), (1, 10))
    worse = {**report(), "gain": better, "earlier": of_before(Gain(0.8, 0.7, 0.02)), "joined": joined}
    assert gate(worse, 0.2, 0.05, forced=False) == (
        "earlier",
        "Of the 200 captions that earlier datasets held out, version 3 finds 80.0 % at the first place, the new one "
        f"70.0 % (−10.0 ± 2.0 points); at most 5.0 points may be lost; {way}; "
        "use `--force` to serve it anyway",
    )
    assert gate(worse, 0.2, 0.05, forced=True) is None
    assert gate(worse, 0.2, 0.1 + 1e-9, forced=False) is None


def test_what_is_lost_by_chance_or_is_just_what_may_be_is_no_loss() -> None:
    assert objections({"earlier": of_before(Gain(0.225, 0.175, 0.02))}, 0.05) == {}  # two of 40: 0.05000000000000002
    assert objections({"earlier": of_before(Gain(0.8, 0.7, 0.11))}, 0.05) == {}
    assert objections({"earlier": of_before(Gain(0.7, 0.8, 0.02))}, 0.05) == {}


def test_captions_that_the_language_hardly_reads_are_asked_about() -> None:
    assert of_before(Gain(0.8, 0.8, 0.0), reads_now=0.17)["note"] is None
    assert of_before(Gain(0.8, 0.8, 0.0), reads_now=0.15)["note"] == (
        "Version 3 finds 15.0 % of the new captions: are they in the same language?"
    )


def test_among_few_candidates_the_first_place_alone_is_compared() -> None:
    assert (informative(49), informative(50)) == ((1,), (1, 10))
