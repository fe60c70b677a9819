"""Dictionaries over HTTP: what a dry run says, what is refused, what is queued."""

import json
from typing import Any

import httpx
import pytest

from tests.service.harness import Service, assert_problem, assert_state_unchanged


def make_dictionary(count: int = 80, gloss: str = "red apple {}") -> bytes:
    rows = [{"word": f"afalgoch{n}", "glosses": [f"a {gloss.format(n)}"], "pos": "n"} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def teach(service: Service, data: bytes, tag: str = "cy", **more: Any) -> httpx.Response:
    headers, form = more.pop("headers", {}), {"language": tag, "kind": "dictionary", **more}
    return service.admin.post("/v1/languages", data=form, files={"dataset": ("x", data)}, headers=headers)


def test_a_dry_run_says_what_is_taken_and_why_the_rest_is_not(service: Service) -> None:
    extra = b'{"word": "y", "glosses": ["the"], "pos": "art"}\n{"word": "coch"}\n'
    with assert_state_unchanged(service):
        answer = teach(service, make_dictionary() + extra, dry_run="true")
    assert answer.status_code == 200, answer.text
    report = answer.json()["report"]
    chosen = report["dictionary"]
    assert (report["format"], report["rows"], report["usable"]) == ("dictionary", 82, 80)
    assert (chosen["entries"], chosen["taken"], chosen["left_out"]) == (81, 80, {"grammar": 1})
    assert chosen["reasons"]["grammar"].startswith("of grammar") and len(chosen["examples"]) == 20
    assert chosen["examples"][0] == {"word": "afalgoch0", "gloss": "red apple 0"}
    assert report["faults"]["glosses_invalid"]["first_lines"] == [82]
    assert teach(service, make_dictionary(), dry_run="true", assess="true").status_code == 200


def test_swapped_sides_are_cleaned_each_as_what_it_becomes(service: Service) -> None:
    rows = [{"word": f"the red house {n}; a home {n}", "glosses": [f"to ruz {n}|an ti {n}"]} for n in range(80)]
    answer = teach(service, "".join(json.dumps(row) + "\n" for row in rows).encode(), "br", swap="true", dry_run="true")
    assert answer.status_code == 200, answer.text
    assert [(row["caption"], row["text"]) for row in answer.json()["sample"][:4]] == [
        *(("to ruz 0", "red house 0"), ("to ruz 0", "home 0")),
        *(("an ti 0", "red house 0"), ("an ti 0", "home 0")),
    ]


REFUSED: dict[str, tuple[bytes, dict[str, str], str]] = {
    "one gloss for everything": (make_dictionary(500, "apple"), {}, "dataset_doubted"),
    "no lists": (b'{"word": "afal", "glosses": "apple"}\n' * 80, {}, "dataset_invalid"),
    "captions": (b'{"caption": "afal", "english": "apple"}\n' * 80, {}, "dataset_invalid"),
    "a table": (b"word,gloss\nafal,apple\n", {}, "dataset_invalid"),
    "an archive": (b"PK\x03\x04", {}, "unsupported_media_type"),
    "another script": (make_dictionary(), {"tag": "ru"}, "dataset_language_mismatch"),
    "a pivot that is not served": (make_dictionary(), {"pivot": "kw"}, "pivot_not_served"),
    "a pivot that is no tag": (make_dictionary(), {"pivot": "Welsh"}, "language_tag_invalid"),
    "its own language": (make_dictionary(), {"pivot": "cy"}, "invalid_request"),
    "a pivot of captions": (make_dictionary(), {"pivot": "en", "kind": "captions"}, "invalid_request"),
    "no such kind": (make_dictionary(), {"kind": "thesaurus"}, "invalid_request"),
}


@pytest.mark.row("E1")
@pytest.mark.parametrize("case", REFUSED)
def test_a_dictionary_that_teaches_nothing_is_refused(service: Service, case: str) -> None:
    data, form, code = REFUSED[case]
    with assert_state_unchanged(service):
        assert_problem(
            teach(service, data, **form), {"unsupported_media_type": 415, "dataset_doubted": 409}.get(code, 422), code
        )


def test_a_dictionary_is_queued_once_under_its_key(fresh: Service) -> None:
    key = {"Idempotency-Key": "one"}
    first = teach(fresh, make_dictionary(), headers=key)
    assert first.status_code == 202, first.text
    assert teach(fresh, make_dictionary(), pivot="en", headers=key).json() == first.json()
    assert_problem(teach(fresh, make_dictionary(), pivot="fr", headers=key), 422, "idempotency_key_reused")
    queued = fresh.context.registry.expansions.get(first.json()["expansion"]["id"])
    assert queued.is_of_words and queued.settings == {"pivot": "en"}
