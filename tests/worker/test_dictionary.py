"""A dictionary teaches a language: its report and gate, captions beside it, and another language's glosses."""

import pytest

from store.errors import PivotNotServed
from tests.worker.harness import Site, attempt_at, carry_out, pairs, report_of
from worker.child import run
from worker.gate import GateFailed


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
