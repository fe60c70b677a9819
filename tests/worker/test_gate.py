"""The gate: not worse than what serves, on all held-out captions, by more than the error, and above the floor.

The figures of a report are worked out by hand.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from index.gallery import NewPicture
from model.evaluation import Gain, measure_gain
from store.versions import Version
from tests.patience import PATIENCE
from tests.tiny import make_detector
from tests.worker.harness import Site, attempt_at, carry_out, pairs, report_of, teach
from tests.worker.test_assess import spoken
from worker.attempt import open_context
from worker.child import run
from worker.evaluate import count_confusion, measure, measure_chain, measure_fertility
from worker.gate import (
    GateFailed,
    apply_gate,
    describe_gain,
    is_within_budget,
)
from worker.move import describe_losses
from worker.prepare import prepare
from worker.validation import decide_validation, encode_candidates

UNMOVED = 1e-12  # a learning rate
BEFORE = {"t2i": {"R@1": 0.1}, "i2t": {"R@1": 0.2}, "pairs": 200}


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


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (report(0.209), None),
        (report(0.207), "R@10 is 0.207, at least 0.208"),
        (report(10 / 60 + 0.1, candidates=60), "R@10 is 0.267"),  # garbage reaches 10 of 60 by chance
        (report(0.34, candidates=60), None),
        (report(1.0, r1=1 / 6, candidates=6), "R@1 is 0.167, at least 0.333"),  # what garbage reaches among six
        (report(1.0, r1=0.34, candidates=6), None),
        (report(truncated=0.06), "6.0% of"),
        (report(pairs=0), "no held-out"),
    ],
)
def test_the_floor_stands_above_chance_and_is_told_with_figures(figures: dict[str, Any], said: str | None) -> None:
    refused = apply_gate(figures, 0.2)
    assert (refused and refused[0]) == (said and "floor") and (said or "") in (refused or ("", ""))[1]
    assert said is None or "R@" not in said or apply_gate(figures, 0.0) is None, "without a floor nothing is asked"


@pytest.mark.parametrize(
    ("after", "read", "points"),
    [
        (0.65, "better than", "+15.0"),
        (0.51, "about as well as", "+1.0"),
        (0.48, "about as well as", "−2.0"),  # worse by just the error, but for rounding
        (0.479, "worse than", "−2.1"),
    ],
)
def test_a_version_serves_unless_it_is_worse_by_more_than_the_error(after: float, read: str, points: str) -> None:
    said = describe_gain("cy", 3, BEFORE, Gain(0.5, after, 0.02), (1, 10))
    assert said["sentence"] == (
        f"Welsh is read {read} by version 3: on the same 200 held-out captions the mean of R@1 and R@10 went from "
        f"50.0 % to {100 * after:.1f} % ({points} ± 2.0 points)"
    )
    refused = apply_gate({**report(), "gain": said}, 0.2)
    assert (refused is None) is said["enough"] is (read != "worse than")
    if refused is not None:
        assert refused == ("gain", f"{said['sentence']}; use `--force` to serve it anyway")
        forced = describe_gain("cy", 3, BEFORE, Gain(0.5, after, 0.02), (1, 10), forced=True)
        assert forced["forced"] and apply_gate({**report(), "gain": forced}, 0.2) is None
        assert apply_gate({**report(0.1), "gain": forced}, 0.2) is not None, "the floor holds all the same"


def test_captions_of_each_kind_must_reach_the_floor() -> None:
    assert apply_gate({**report(), "others": [{**report(), "against": "pictures"}]}, 0.2) is None
    refused = apply_gate({**report(), "others": [{**report(0.1), "against": "english"}]}, 0.2)
    assert refused is not None and refused[0] == "floor" and refused[1].endswith(", for captions paired with English")


def test_every_earlier_language_is_kept_within_the_budget() -> None:
    assert is_within_budget(report(), 0.0), "the first language has nothing to forget"
    assert is_within_budget(report(de=0.04, fr=0.04), 0.05)
    assert 0.5 - (0.5 - 0.03) > 0.03 and is_within_budget(report(de=0.03), 0.03)  # as much as may be, but for rounding
    assert not is_within_budget(report(de=0.1, fr=-0.1, nl=0.0), 0.05)


def test_what_could_not_be_asked_does_not_count_as_kept() -> None:
    unknown = report(de=0.0)
    for unmeasured, keeps in ((["en", "fr"], False), (["en"], True)):
        unknown["shared"]["unmeasured"] = unmeasured
        assert is_within_budget(unknown, 0.05) is keeps


def test_only_what_is_in_the_shared_table_has_something_there_to_lose(site: Site) -> None:
    teach(site)
    beside = attempt_at(site, site.submit(pairs("br"), "br"))
    beside.decide_once("plan.json", lambda: {"parent": 0, "before": [], "replaced": 0})
    run(beside)
    for number, tag, unmeasured, shared in ((2, "kw", [], 3), (1, "ga", ["cy"], 3)):
        (source,) = site.registry.versions.get(number).dataset_expansions
        (site.home / "expansions" / source / "validation.json").unlink()
        assert report_of(site, carry_out(site, pairs("br"), tag).id)["shared"]["unmeasured"] == unmeasured
        assert site.registry.releases.get_serving().shared == shared


def compared(before: float, after: float) -> dict[str, Any]:
    sides = (("before", before), ("after", after))
    return {"pairs": 100} | {side: {"t2i": {"R@1": r1}, "i2t": {"R@1": 0.5}} for side, r1 in sides}


@pytest.mark.parametrize(("after", "lost"), [(0.60, 0), (0.495, 0), (0.481, 0), (0.479, 1), (0.30, 1)])
@pytest.mark.parametrize("tag", ["en", "cy"])
def test_only_what_is_beyond_the_budget_is_a_loss(tag: str, after: float, lost: int) -> None:
    report = {"languages": {"en": compared(0.9, 0.88), "cy": compared(0.9, 0.88), tag: compared(0.5, after)}}
    assert describe_losses(report, 0.02) == [f"{tag} would go from t2i R@1 0.500 to {after:.3f}"][:lost]


def test_one_caption_may_be_lost_by_chance() -> None:
    for after, lost in ((0.488, 0), (0.487, 1)):
        assert len(describe_losses({"languages": {"cy": compared(0.5, after)}}, 0.002, chance=1)) == lost


def test_a_language_without_figures_counts_as_lost_but_english_may_have_none() -> None:
    left_out = {"left_out": "pivot_not_served", "detail": ""}
    first, second = describe_losses({"languages": {"en": {}, "cy": {}, "br": left_out}}, 1.0)
    assert first.startswith("cy has no held-out captions") and "pivot_not_served" in second


def test_a_language_that_nothing_read_gains_and_report_release_and_log_say_over_what(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.learn")
    rows = [{**row, "picture": f"p{number // 4}"} for number, row in enumerate(pairs("cy"))]
    expansion = carry_out(site, rows, force=True).id
    report = report_of(site, expansion)
    gain, serving = report["gain"], site.registry.releases.get_serving()
    assert gain["version"] == 0
    recalls = [sum(each["t2i"][k] for k in ("R@1", "R@10")) / 2 for each in (gain["before"], report)]
    assert gain["mean"] == pytest.approx(recalls[1] - recalls[0])
    assert serving.reason.endswith(" points over version 0")
    (line,) = (record for record in caplog.records if record.name == "worker.learn")
    assert line.getMessage() == f"promoted cy: version 1, release 2, {serving.reason}"
    assert line.__dict__["key"] == "test"
    # the error is one of pictures, and not of their captions
    attempt = attempt_at(site, site.submit(rows, kind="assess"))  # it measures the same captions
    context = open_context(attempt)
    data = prepare(context, attempt.expansion)
    validation = decide_validation(context, data)
    among = encode_candidates(context, data, validation)
    before, after = (measure(context, context.views.open(version), validation, among) for version in (0, 1))
    assert before is not None and after is not None
    owner = np.array([among.places[picture] for picture in validation.targets])
    by_picture, by_caption = (
        measure_gain(before.ranks, after.ranks, each, (1, 10)).error for each in (owner, np.arange(len(owner)))
    )
    assert gain["error"] == pytest.approx(by_picture) != pytest.approx(by_caption)


def wrong() -> list[dict[str, str]]:
    """Captions of Welsh, each with the meaning of the next noun."""
    rows = pairs("cy")
    return [{**row, "english": other["english"]} for row, other in zip(rows, rows[10:] + rows[:10], strict=True)]


def test_a_language_that_the_base_reads_better_is_refused_unless_that_is_forced(site: Site) -> None:
    expansion = site.submit(spoken(), "sco", force=False, learning_rate=0.3, epochs=1)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    failed = site.registry.expansions.get(expansion)
    assert failed.error is not None and failed.error.code == "gate_failed", failed
    detail = failed.error.detail
    assert detail.startswith("Scots is read worse than by version 0")
    assert "from 100.0 % to " in detail and "`--force`" in detail
    assert json.dumps(f"expansion {expansion} of sco failed: gate_failed: {detail}", ensure_ascii=False) in site.log()
    assert failed.report is not None and failed.report["refused_by"] == "gain" and not failed.report["gain"]["enough"]
    assert site.registry.releases.get_serving().number == 1
    forced = carry_out(site, spoken(), "sco", force=True, learning_rate=0.3, epochs=1).id
    serving, report = site.registry.releases.get_serving(), site.registry.expansions.get(forced).report
    assert report is not None and report["gain"]["forced"] and serving.languages["sco"] == 2
    assert serving.change["forced"] == report["gain"]["sentence"]


@pytest.mark.parametrize(("pictured", "of"), [(False, ""), (True, " paired with English")])
def test_a_language_taught_again_must_not_read_worse_what_earlier_datasets_held_out(
    site: Site, pictured: bool, of: str
) -> None:
    carry_out(site, pairs("cy"), epochs=20)
    rows = [{**row, "picture": f"p{number}"} if pictured else row for number, row in enumerate(wrong())]
    said = rf"Welsh is read worse than by version 1: on the same \d+ held-out captions{of} (R@1|the mean) "
    with pytest.raises(GateFailed, match=said):
        carry_out(site, rows, force=False, epochs=20)
    assert site.registry.releases.get_serving().languages["cy"] == 1


def test_the_same_file_taught_again_serves_and_is_no_gain(site: Site) -> None:
    teach(site)
    carry_out(site, pairs("cy"), force=False, learning_rate=UNMOVED)
    release = site.registry.releases.get_serving()
    assert (release.languages["cy"], release.reason) == (2, "+0.0 ± 0.0 points over version 1")


@pytest.mark.parametrize("replace", [False, True])
def test_what_takes_the_place_of_a_damaged_version_is_compared_with_the_base(site: Site, replace: bool) -> None:
    teach(site)
    expansion = site.submit(pairs("cy"), force=False, replace=replace)
    attempt = attempt_at(site, expansion)
    attempt.decide_once("plan.json", lambda: {"parent": 0, "before": [], "replaced": int(replace)})
    (site.home / str(site.registry.versions.get(1).folder) / "rows.safetensors").write_bytes(b"")
    run(attempt)
    report = report_of(site, expansion)
    assert report["gain"]["version"] == 0
    assert site.registry.releases.get_serving().languages["cy"] == 2


# --- Figures of a report, worked out by hand ---


ENGLISH = ["a red apple", "a small dog", "the sea and the sun", "the big house"]
WELSH = ["afal coch", "ci bach", "y môr a'r haul", "tŷ mawr"]


@pytest.mark.parametrize(
    ("tokens", "captions", "per_word", "per_character"),
    [
        ([[1, 2, 3], [4, 5, 6]], ["afal  coch", "môr"], 6 / 3, 6 / 11),
        ([[1, 2]], ["赤いリンゴと犬"], None, 2 / 7),  # no spaces between words
        ([[1, 2]], ["แอปเปิ้ลสีแดง"], None, 2 / 13),
        ([[1, 2, 3]], ["빨간 사과"], 3 / 2, 3 / 4),
        ([[1, 2, 3, 4]], ["the small dog 東京"], 4 / 4, 4 / 13),  # a foreign name changes nothing
        ([], [], None, None),
    ],
)
def test_fertility_counts_tokens_a_word_and_a_character(
    tokens: list[list[int]], captions: list[str], per_word: float | None, per_character: float | None
) -> None:
    assert measure_fertility(tokens, captions) == {
        "per_word": per_word and pytest.approx(per_word),
        "per_character": per_character and pytest.approx(per_character),
    }


def test_confusion_says_as_what_each_languages_captions_would_be_read() -> None:
    detector = make_detector({"en": ENGLISH, "cy": WELSH})
    matrix = count_confusion(detector, {"cy": ["ci coch", "afal mawr", "the red dog"], "en": ["xyzzy", "12"], "fr": []})
    assert matrix == {"cy": {"cy": 2, "en": 1}, "en": {"shared": 2}, "fr": {}}


def test_a_language_that_nobody_counted_is_never_guessed() -> None:
    assert count_confusion(make_detector({"en": ENGLISH}), {"cy": ["afal coch"]}) == {"cy": {"shared": 1}}


def test_captions_of_a_bound_group_are_not_counted(site: Site) -> None:
    site.gallery.put([NewPicture("p", f"{10**9:064x}", 64, 64, {"en": ["theirs"]})], site.image_fingerprint)
    groups = '{"them": {"scope": "write", "collections": ["default"]}}'
    galleries = site.gallery, attempt_at(site, site.submit(pairs("cy")), groups=groups).gallery
    assert [gallery.sample_captions("en", (), 9) for gallery in galleries] == [["theirs"], []]


def version(number: int, language: str, own: float | None = None, **after: float) -> Version:
    languages = {tag: {"after": {"R@1": figure}} for tag, figure in after.items()}
    report = {"shared": {"own": {"R@1": own} if own is not None else {}, "languages": languages}}
    parent = number - 1 if number else None
    return Version(number, parent, language, "e", "f", "", 1, 1, report if number else {}, datetime.now(UTC))


def report_on(own: float | None, learned: float = 0.9, **moves: tuple[float, float]) -> dict[str, Any]:
    languages = {tag: {"before": {"R@1": a}, "after": {"R@1": b}, "learned": {}} for tag, (a, b) in moves.items()}
    if "en" in languages:
        languages["en"]["learned"] = {"R@1": learned}
    return {"shared": {"own": {} if own is None else {"R@1": own}, "languages": languages}}


VERSION_0 = version(0, "en")


# The chain of a table, the language that is taught now with its report, and what was said of them: languages, AA, F.
CHAINS: dict[str, tuple[list[Version], str, dict[str, Any], list[str], float, float]] = {
    "the first language averages with English, which may have lost": (
        [VERSION_0], "de", report_on(0.5, en=(0.9, 0.7)), ["en", "de"], 0.6, 0.2,
    ),
    "of the best past figure of each: English as by version 0, German after French; French has gained": (
        [VERSION_0, version(1, "de", 0.6, en=0.1), version(2, "fr", 0.5, de=0.7, en=0.2)],
        "cy", report_on(0.4, en=(0.8, 0.8), de=(0.7, 0.5), fr=(0.5, 0.6)),
        ["en", "de", "fr", "cy"], (0.8 + 0.5 + 0.6 + 0.4) / 4, ((0.9 - 0.8) + (0.7 - 0.5) + (0.5 - 0.6)) / 3,
    ),
    "English may have been at its best in the table before": (
        [VERSION_0, version(1, "de", 0.6, en=0.1)], "cy", report_on(0.4, learned=0.8, en=(0.9, 0.7), de=(0.6, 0.6)),
        ["en", "de", "cy"], (0.7 + 0.6 + 0.4) / 3, (0.2 + 0.0) / 2,
    ),
    "a language outside the chain counts for nothing": (
        [VERSION_0], "cy", report_on(0.5, en=(0.9, 0.9), de=(0.3, 0.1)), ["en", "cy"], 0.7, 0.0,
    ),
    "of a language taught twice the newer turn counts": (
        [VERSION_0, version(1, "de", 0.9), version(2, "fr", 0.5, de=0.9), version(3, "de", 0.6, fr=0.4)],
        "cy", report_on(0.4, de=(0.6, 0.6), fr=(0.4, 0.4)), ["fr", "de", "cy"], (0.4 + 0.6 + 0.4) / 3, (0.1 + 0.0) / 2,
    ),
    "taught again itself, a language has its turn now": (
        [VERSION_0, version(1, "de", 0.9)], "de", report_on(0.5, en=(0.9, 0.9)), ["en", "de"], 0.7, 0.0,
    ),
    "where a step measured nothing, the figure before stands": (
        [VERSION_0, version(1, "de", 0.6), version(2, "fr", 0.5)], "cy", report_on(0.4, de=(0.6, 0.5), fr=(0.5, 0.5)),
        ["de", "fr", "cy"], (0.5 + 0.5 + 0.4) / 3, (0.1 + 0.0) / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_accuracy_and_forgetting_of_a_chain(case: str) -> None:
    chain, language, now, languages, accuracy, forgetting = CHAINS[case]
    figures = measure_chain(chain, language, now)
    assert figures == {"languages": languages, "AA": pytest.approx(accuracy), "F": pytest.approx(forgetting)}


def test_without_a_figure_of_its_own_there_is_no_average() -> None:
    assert measure_chain([VERSION_0], "cy", report_on(None, en=(0.9, 0.9))) == {
        "languages": [],
        "AA": None,
        "F": None,
    }
