"""Answers to the words of a gallery: taught from 64 on, again in place of the earlier ones, with what they reach."""

from model.base import open_base
from model.encoder import Encoder
from tests.service.harness import running
from tests.worker.harness import ENGLISH, Site, attempt_at, pairs, report_of
from worker.child import run


def make_answers(count: int) -> list[dict[str, str]]:
    return [{"caption": row["caption"].replace(" ", ""), "english": row["english"]} for row in pairs("cy")[:count]]


def fill_gallery(site: Site) -> None:
    """Put pictures that show what the words mean: each has the vector of one."""
    encoder = Encoder(open_base(site.base))
    texts = [(encoder.base_view, english) for english in ENGLISH for _ in range(2)]
    site.fill("shown", encoder.encode_texts(texts).vectors, first=1_000)


def test_answers_are_taught_and_later_ones_take_their_place(site: Site) -> None:
    fill_gallery(site)
    first = site.submit(make_answers(64), words=True, epochs=20)
    run(attempt_at(site, first, min_recall=0.2))
    report = report_of(site, first)
    assert site.registry.releases.get_serving().languages["cy"] == 1
    assert (report["against"], report["in_sample"]["pairs"]) == ("words", report["dataset"]["train"])
    covered = report["covered"]
    assert covered["before"] == 0 < covered["after"] <= 1

    beside = site.submit(pairs("cy", picture=True))
    run(attempt_at(site, beside))
    assert report_of(site, beside)["joined"]["datasets"] == 1 and "covered" not in report_of(site, beside)

    corrected = [{**row, "caption": f"y{row['caption']}"} for row in make_answers(100)]
    second = site.submit(corrected, words=True, epochs=20)
    run(attempt_at(site, second))
    report, version = report_of(site, second), site.registry.versions.list()[0]
    assert [*version.dataset_expansions] == [beside, second]  # the first ones are not taught beside their corrections
    assert report["joined"]["datasets"] == 1
    assert covered["after"] < report["covered"]["before"] <= report["covered"]["after"]  # the captions name more


def test_words_of_searches_that_nobody_taught_are_asked_for_first_where_they_are_counted(site: Site) -> None:
    fill_gallery(site)
    answers = make_answers(64)
    run(attempt_at(site, site.submit(answers, words=True, epochs=20), min_recall=0.2))
    known = answers[0]["caption"]
    with running(site.home, site.open_encoder(), unknown_words=True, base=site.base) as service:

        def search(text: str, **body: object) -> dict[str, object]:
            answer = service.admin.post("/v1/search/pictures", json={"text": text, "language": "cy", **body})
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        found = search(f"{known} Wyddfa")
        assert (found["unknown_words"], found["warnings"]) == (["Wyddfa"], ["unknown_words"])
        assert search(known)["unknown_words"] == []
        assert found["items"] == search(known)["items"], "it is left out"
        search("wyddfa draig")
        search("un dau", language="en")
        items = service.admin.get("/v1/languages/cy/words").json()["items"]
        asked = [(item["word"], item["asked_for"], item["english"], item["pictures"]) for item in items if item["word"]]
        assert asked == [("wyddfa", 2, "", []), ("draig", 1, "", [])] and items[0]["word"] == "wyddfa"
        words = [{"english": "snowdon", "captions": ["Wyddfa"]}]
        service.admin.post("/v1/languages/cy/words", json={"words": words}).raise_for_status()
        items = service.admin.get("/v1/languages/cy/words").json()["items"]
        assert [item["word"] for item in items if item["word"]] == ["draig"]

        mistyped = {f"q{answer['caption'][1:]}": answer["caption"] for answer in answers[:8]}
        assert search(" ".join(mistyped))["did_you_mean"] == dict([*mistyped.items()][:5]), "of the first five"
        bound = {"X-API-Key": service.key("search", collections=["default"])}
        asked_for = {"text": " ".join(mistyped), "language": "cy"}
        result = service.http.post("/v1/search/pictures", json=asked_for, headers=bound).json()
        assert (len(result["unknown_words"]), result["did_you_mean"]) == (8, {}), "others may have taught them"


def test_words_of_searches_are_not_counted_unless_it_is_allowed(site: Site) -> None:
    fill_gallery(site)
    run(attempt_at(site, site.submit(make_answers(64), words=True, epochs=20), min_recall=0.2))
    with running(site.home, site.open_encoder(), base=site.base) as service:
        service.admin.post("/v1/search/pictures", json={"text": "y Wyddfa", "language": "cy"}).raise_for_status()
        items = service.admin.get("/v1/languages/cy/words").json()["items"]
        assert items and not any(item["word"] for item in items)
        service.context.unknown_words.store()
    assert site.registry.unknown_words.list("cy") == []
