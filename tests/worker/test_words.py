"""A language from answers to the words of a gallery, taught from 64 on, and one from a dictionary."""

import pytest

from model.base import open_base
from model.encoder import Encoder
from store.errors import PivotNotServed
from tests.service.harness import running
from tests.worker.harness import ENGLISH, Site, attempt_at, carry_out, pairs, report_of
from worker.child import run
from worker.gate import GateFailed


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
    assert {*mistyped} <= {word for word, _ in site.registry.unknown_words.list("cy")}, "a stop stores them"


def test_words_of_searches_are_not_counted_unless_it_is_allowed(site: Site) -> None:
    fill_gallery(site)
    run(attempt_at(site, site.submit(make_answers(64), words=True, epochs=20), min_recall=0.2))
    with running(site.home, site.open_encoder(), base=site.base) as service:
        service.admin.post("/v1/search/pictures", json={"text": "y Wyddfa", "language": "cy"}).raise_for_status()
        items = service.admin.get("/v1/languages/cy/words").json()["items"]
        assert items and not any(item["word"] for item in items)
        service.context.unknown_words.store()
    assert site.registry.unknown_words.list("cy") == []


# --- A dictionary teaches a language: its report and gate, captions beside it, and another language's glosses ---


def make_entries(language: str = "cy") -> list[dict[str, object]]:
    """Make entries as a toy language's captions are: compounds, of which each part is known from others."""
    return [
        {"word": row["caption"].replace(" ", ""), "glosses": [f"a {row['english']} (thing)"], "pos": "n"}
        for row in pairs(language)
    ]


def test_a_dictionary_is_taught_served_joined_with_captions_and_measured_by_what_was_taught(site: Site) -> None:
    expansion = site.submit(make_entries(), pivot="en", epochs=20)
    run(attempt_at(site, expansion, min_recall=0.2))
    report = report_of(site, expansion)
    assert site.registry.releases.get_serving().languages["cy"] == 1
    assert (report["dictionary"]["entries"], report["dictionary"]["taken"]) == (100, 100)
    assert {"word": "afalder", "gloss": "red apple"} in report["dictionary"]["examples"]
    assert "dictionary" not in report["dataset"] and report["dataset"]["format"] == "dictionary"
    assert (report["against"], report["pairs"]) == ("words", report["dataset"]["val"])
    known = report["in_sample"]
    assert known["pairs"] == report["dataset"]["train"] and known["t2i"]["R@10"] > report["t2i"]["R@10"]
    assert known["sentence"].startswith(f"Recall of what was taught: of {known['pairs']} words, ")

    both = carry_out(site, pairs("cy", picture=True)).report
    assert both is not None
    assert both["joined"]["datasets"] == 1 and both["joined"]["rows"] == 100
    assert both["against"] == "pictures" and "in_sample" not in both
    assert (report["rows"], both["rows"]) == ({"captions": 0, "words": 100}, {"captions": 100, "words": 100})
    (other,) = both["others"]
    assert other["against"] == "words" and other["in_sample"]["pairs"] > known["pairs"]

    more = [{**row, "caption": f"{row['caption']} eto"} for row in pairs("cy")]
    assert carry_out(site, more, epochs=1).steps > 3 * 300 / 64, "captions are seen more often than words"

    beside = [
        {"word": each["word"], "glosses": [row["caption"]]}
        for each, row in zip(make_entries("br"), pairs("cy"), strict=True)
    ]
    breton = carry_out(site, beside, "br", pivot="cy").report
    assert breton is not None and breton["dataset"]["pivots"] == {"cy": 100} and breton["against"] == "words"
    with pytest.raises(PivotNotServed):
        carry_out(site, make_entries("br"), "gv", pivot="kw")


@pytest.mark.row("E14")
def test_a_dictionary_that_is_not_even_remembered_is_not_served(site: Site) -> None:
    attempt = attempt_at(site, site.submit(make_entries(), pivot="en"), min_recall=1.0)
    with pytest.raises(GateFailed, match=r"^taught t2i R@10 is 0\.\d+, at least 1\.000 is needed among 100 candidates"):
        run(attempt)
    assert "cy" not in site.registry.releases.get_serving().languages
