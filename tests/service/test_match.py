"""`match`, the chance of a hit, and `min_match`: named where it was measured and holds, null everywhere else."""

import gzip
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.commands import app
from index import loader
from model.match import GUESSED, Calibration, Curves, take_first
from tests.doubles import WeightlessEncoder, make_text_vector
from tests.service.harness import ADMIN_KEY, Service, assert_problem, picture, running

PICTURES = 24
CURVES = Curves(sharpness=1.5, trust=1.0, lead=1.5, most=0.98, steepness=2.0, threshold=0.5, usual=0.12)
RESULT = {
    "measured_at": "2026-11-29T08:00:00+00:00",
    "captions": 40,
    "pictures": PICTURES,
    "error": 0.02,
    "by_chance": 0.01,
    "error_all": 0.001,
    "kept": 0.9,
}
BINS = [{"chance": 0.4, "right": 0.5, "count": 20}, {"chance": 0.9, "right": 0.8, "count": 20}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        for number in range(PICTURES):
            put(service, number)
        calibrate(service)
        yield service


@pytest.fixture
def mutable(service: Service) -> Iterator[Service]:
    """The service, in which the pictures 1, 3 and 4 and the curves are as before at the end, however it comes."""
    yield service
    for number in (1, 3, 4):
        put(service, number)
    calibrate(service)


def put(service: Service, number: int) -> None:
    record = {"tags": ["even" if number % 2 else "odd", f"t{number}"]}
    service.put(f"p{number}", picture(number), record).raise_for_status()


def calibrate(service: Service, pictures: int = PICTURES, change: int | None = None, **curves: Any) -> None:
    """Keep what a worker would have fitted for English."""
    context = service.context
    match = {
        "tower": context.live.current.picture_set.identity.fingerprint,
        "change": context.gallery.read_last_change() if change is None else change,
        "pictures": pictures,
        "result": {**RESULT, "bins": BINS},
        "curves": {**asdict(CURVES), **curves},
    }
    context.registry.versions.set_calibration(0, match)
    context.live.refresh()


def search(service: Service, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = service.search(**{"text": "a dog", "language": "en", **more}).json()
    return body


def list_matches(answer: dict[str, Any]) -> list[float | None]:
    return [hit["match"] for hit in answer["items"]]


def test_each_hit_has_the_chance_that_was_measured(service: Service) -> None:
    answer = search(service, limit=PICTURES, mode="meaning")
    scores = [hit["score"] for hit in answer["items"]]
    live = service.context.live
    sample = take_first(service.context.gallery.sample_vectors(1.0, live.current.picture_set.identity.fingerprint))
    calibration = Calibration(CURVES, sample, PICTURES, 0)
    assert list_matches(answer) == calibration.compute_matches(make_text_vector(0, "a dog"), scores[:10], scores)
    assert list_matches(search(service, limit=PICTURES)) == list_matches(answer), "by default, too"
    assert answer["below_min_match"] is None and answer["warnings"] == ["nothing_likely"]
    assert list_matches(answer)[0] > 0.2 > list_matches(answer)[-1]  # type: ignore[operator]


def test_pages_have_the_chances_of_the_whole(service: Service) -> None:
    whole, pages, cursor = list_matches(search(service, limit=PICTURES)), [], None
    for limit in (1, 1, 1, 1, 1, 1):
        page = search(service, limit=limit, **({"cursor": cursor} if cursor else {}))
        pages += list_matches(page)
        cursor = page["next_cursor"]
    assert pages == whole[:6]


def test_min_match_cuts_what_follows_and_says_how_many(service: Service) -> None:
    whole = list_matches(search(service, limit=10))
    least = whole[3]
    answer = search(service, limit=10, min_match=least)
    assert list_matches(answer) == whole[:4] and answer["below_min_match"] == 6 and answer["next_cursor"] is None
    answer = search(service, limit=3, min_match=least)
    assert answer["below_min_match"] == 0 and list_matches(answer) == whole[:3]
    following = search(service, limit=3, min_match=least, cursor=answer["next_cursor"])
    assert list_matches(following) == [least] and (following["below_min_match"], following["next_cursor"]) == (2, None)
    other = service.search("a dog", language="en", limit=3, min_match=0.0, cursor=answer["next_cursor"])
    assert_problem(other, 422, "invalid_cursor")


def test_each_hit_says_whether_it_is_likely_and_the_answer_where_none_is(mutable: Service) -> None:
    answer = search(mutable, limit=4)
    assert [hit["likely"] for hit in answer["items"]] == [False] * 4 and answer["warnings"] == ["nothing_likely"]
    calibrate(mutable, lead=CURVES.lead + 3, threshold=-3.0)
    answer = search(mutable, limit=PICTURES)
    assert answer["warnings"] == []
    marks = [hit["likely"] for hit in answer["items"]]
    assert marks == [hit["match"] >= 0.5 for hit in answer["items"]] == sorted(marks, reverse=True) and any(marks)


def test_a_caption_with_all_words_is_first_and_likely_and_one_with_some_less_so(mutable: Service) -> None:
    for id, caption in (("p3", "a dog"), ("p4", "a small dog in a basket")):
        mutable.admin.patch(f"/v1/pictures/{id}", json={"captions": {"en": [caption]}}).raise_for_status()
    calibrate(mutable)
    hits = search(mutable, text="dogs", limit=PICTURES)["items"]
    assert [(hit["id"], hit["likely"], hit["match"]) for hit in hits[:2]] == [("p3", True, 0.95), ("p4", True, 0.95)]
    assert not all(hit["likely"] for hit in hits)
    some, alone = (
        {hit["id"]: hit["match"] for hit in search(mutable, text="two small kittens", limit=PICTURES, **more)["items"]}
        for more in ({}, {"mode": "meaning"})
    )
    assert some["p4"] < alone["p4"] and some["p5"] == alone["p5"]
    least, found = [*some.values()][[*some].index("p4") + 1], list[str]()
    cursor: dict[str, Any] = {}
    assert some["p4"] < least, "so it stands between others that reach this chance"
    while cursor.get("cursor", "") is not None:
        page = search(mutable, text="two small kittens", min_match=least, limit=1, **cursor)
        found, cursor = [*found, *(hit["id"] for hit in page["items"])], {"cursor": page["next_cursor"]}
    assert found == [id for id, match in some.items() if match >= least]
    by_words = search(mutable, text="dogs", weights={"meaning": 0}, min_match=0.9)
    assert [(hit["id"], hit["match"]) for hit in by_words["items"]] == [("p3", 0.95), ("p4", 0.95)]


def test_where_nothing_matches_well_nothing_is_found(service: Service) -> None:
    answer = search(service, min_match=1)
    assert answer["items"] == [] and answer["below_min_match"] == 10 and answer["next_cursor"] is None


@pytest.mark.parametrize("least", [-0.1, 1.1, "half", [0.5], 1e999])
def test_what_is_no_chance_is_refused(service: Service, least: object) -> None:
    text = '{"text": "a", "min_match": 1e999}' if least == 1e999 else None
    if text:
        headers = {"Content-Type": "application/json"}
        assert service.admin.post("/v1/search/pictures", content=text, headers=headers).status_code == 422
    else:
        assert_problem(service.search("a", min_match=least), 422, "invalid_request")


def is_unknown(answer: dict[str, Any]) -> bool:
    """Whether no hit has a chance, none was cut, and the answer says so."""
    has_warning = answer["warnings"] == ["match_unknown"] and answer["below_min_match"] is None
    return has_warning and bool(answer["items"]) and set(list_matches(answer)) == {None}


def test_the_shared_table_has_no_chances(service: Service) -> None:
    assert is_unknown(search(service, language="shared", min_match=0.9))


def test_a_filter_that_leaves_less_than_half_leaves_no_chances(service: Service) -> None:
    half = {"must": [{"key": "tags", "match": {"value": "even"}}]}
    few = {"must": [{"key": "tags", "match": {"any": [f"t{number}" for number in range(11)]}}]}
    assert None not in list_matches(search(service, filter=half))
    assert is_unknown(search(service, filter=few, min_match=0.9))


@pytest.mark.parametrize("gone", ["deleted", "replaced"])
def test_pictures_that_are_gone_are_not_among_what_a_filter_leaves(mutable: Service, gone: str) -> None:
    half = {"must": [{"key": "tags", "match": {"value": "even"}}]}
    assert None not in list_matches(search(mutable, filter=half))
    if gone == "deleted":
        assert mutable.admin.delete("/v1/pictures/p1").is_success
    else:
        mutable.put("p1", picture(90), {"tags": ["odd"]}).raise_for_status()
    assert is_unknown(search(mutable, filter=half, min_match=0.9))
    put(mutable, 1)
    assert None not in list_matches(search(mutable, filter=half))


def test_pictures_like_another_one_have_no_chances(service: Service) -> None:
    for least in ({}, {"min_match": "0.5"}):
        answer = service.search_by_picture(picture(1), **least).json()
        assert set(list_matches(answer)) == {None}
        assert answer["warnings"] == (["match_unknown"] if least else [])


def test_the_report_of_a_version_says_how_right_chances_are(service: Service) -> None:
    body = service.admin.get("/v1/versions/0/report").json()["match"]
    assert body["error"] == 0.02 and body["bins"] == BINS and body["reason"] is None
    assert body["captions"] == 40 and "measured_at" in body


def test_the_command_line_shows_chances_and_cuts(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_URL", service.url)
    monkeypatch.setenv("PICTOGLOT_KEY", ADMIN_KEY)
    first = search(service)["items"][0]["match"]
    result = CliRunner().invoke(app, ["search", "a dog", "-l", "en"])
    assert result.exit_code == 0 and "match" in result.output and f"{first:.0%}" in result.output
    result = CliRunner().invoke(app, ["search", "a dog", "-l", "shared"])
    assert result.exit_code == 0 and "score" in result.output and "match" not in result.output  # no column of dashes
    result = CliRunner().invoke(app, ["search", "a dog", "-l", "en", "--min-match", "1"])
    assert result.exit_code == 0 and "Nothing matches well." in result.output
    assert CliRunner().invoke(app, ["search", "a dog", "--min-match", "2"]).exit_code == 2
    result = CliRunner().invoke(app, ["search", "--picture", __file__, "--min-match", "0.5"])
    assert result.exit_code == 2


def test_before_it_is_measured_and_when_the_gallery_has_outgrown_it_there_are_no_chances(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        for number in range(4):
            assert service.put(f"p{number}", picture(number)).is_success
        assert is_unknown(search(service, min_match=0.9))
        assert service.admin.get("/v1/versions/0/report").json()["match"] is None
        calibrate(service, pictures=4)
        assert None not in list_matches(search(service))
        for number in range(4, 8):
            assert service.put(f"p{number}", picture(number)).is_success
        assert None not in list_matches(search(service)), "twice as many"
        assert service.put("p8", picture(8)).is_success
        assert is_unknown(search(service, min_match=0.9))
        calibrate(service, pictures=9)
        assert None not in list_matches(search(service)), "measured again"


class KnowingEncoder(WeightlessEncoder):
    """Comes with curves of its own, and with a list of what it does not know."""

    curves = CURVES

    def __init__(self, unseen: Path) -> None:
        unseen.write_bytes(gzip.compress(b"child\nchildren\nparis"))
        self.unseen = unseen


def test_without_captions_the_curves_of_the_base_tell_chances_and_a_guess_or_an_unknown_word_has_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LEAST_PICTURES", 4)
    with running(tmp_path / "home", KnowingEncoder(tmp_path / "unseen.gz")) as service:
        for number in range(3):
            assert service.put(f"p{number}", picture(number)).is_success
        assert is_unknown(search(service, min_match=0.9))
        assert service.put("p3", picture(3)).is_success
        service.context.live.refresh()
        plain = list_matches(search(service))
        assert None not in plain and list_matches(search(service, language="auto")) == plain
        for text, share in (("children in Paris", GUESSED), ("crecsent dog", 0.5), ("crecsent", 0.0)):
            answer = search(service, text=text)
            scores = [hit["meaning"] for hit in answer["items"]]
            snapshot = service.context.live.current
            sample = take_first(service.context.gallery.sample_vectors(1.0, snapshot.picture_set.identity.fingerprint))
            vector = make_text_vector(snapshot.views["en"].version, text)
            whole = Calibration(CURVES, sample, 4, 0).compute_matches(vector, scores, scores)
            assert list_matches(answer) == pytest.approx([share * chance for chance in whole], abs=1e-4), text
            words = (answer["guessed_words"], answer["unknown_words"])
            assert words == ((["children", "Paris"], []) if share == GUESSED else ([], ["crecsent"]))
            assert ("not_known_to_base" in answer["warnings"]) == (share == GUESSED)
        calibrate(service, pictures=4, lead=CURVES.lead + 1)
        assert list_matches(search(service)) != plain, "the gallery's own"
