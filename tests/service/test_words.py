"""Words that a gallery asks for, their answers, and dictionaries, over HTTP."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.errors import RegistryUnavailable
from tests.client.test_admin import answer_questions
from tests.client.test_commands import run
from tests.patience import insist
from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, running
from tests.store import steps

PICTURES = 30


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Pictures of two collections, one with an English caption."""
    with running(tmp_path_factory.mktemp("home")) as service:
        for number in range(PICTURES):
            service.put(f"p{number}", picture(number)).raise_for_status()
        yield service


def ask(client: httpx.Client, tag: str = "cy", **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/languages/{tag}/words", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def tell(
    service: Service, tag: str, answers: dict[str, list[str]], client: httpx.Client | None = None, **more: bool
) -> dict[str, Any]:
    words = [{"english": english, "captions": captions, **more} for english, captions in answers.items()]
    answer = (client or service.admin).post(f"/v1/languages/{tag}/words", json={"words": words})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_words_come_with_pictures_that_exist(gallery: Service) -> None:
    asked = ask(gallery.admin, count=20)
    assert len(asked["items"]) == 20
    for item in asked["items"]:
        assert item["english"].isalpha() and item["asked_for"] == 0
        assert 1 <= len(item["pictures"]) <= 3 and set(item["pictures"]) <= {f"p{n}" for n in range(PICTURES)}
    assert (asked["covered"], asked["answered"], asked["needed"]) == (0.0, 0, 64)
    assert ask(gallery.admin, count=20) == asked


def test_what_was_answered_is_not_asked_again_and_covers(gallery: Service) -> None:
    first, second, *_ = (item["english"] for item in ask(gallery.admin, "br")["items"])
    assert tell(gallery, "br", {first: ["un", "unan"]}) == {"answered": 2, "needed": 64}
    asked = ask(gallery.admin, "br")
    assert asked["covered"] > 0 and asked["answered"] == 2
    assert asked["items"][0]["english"] != first
    covered = asked["covered"]
    assert tell(gallery, "br", {second: []})["answered"] == 2  # the language has no word for it
    asked = ask(gallery.admin, "br")
    assert asked["covered"] == covered
    assert not {first, second} & {item["english"] for item in asked["items"]}
    assert tell(gallery, "br", {first.upper(): ["unan"]})["answered"] == 1  # corrected
    assert ask(gallery.admin, "cy")["answered"] == 0


def test_a_word_is_answered_by_several_keys_and_by_one_in_several_requests(gallery: Service) -> None:
    tell(gallery, "kw", {"cat": ["kath"], "dog": ["ki"]})
    key = {"Authorization": f"Bearer {gallery.key('write')}"}
    with gallery.open_client(key) as other:
        assert tell(gallery, "kw", {"cat": ["pus", "kath"], "dog": []}, other)["answered"] == 3
    assert tell(gallery, "kw", {"Dog": ["hound"]}, more=True)["answered"] == 4
    words = [{"english": "cat", "captions": [each], "more": bool(place % 2)} for place, each in enumerate("abcd")]
    gallery.admin.post("/v1/languages/kw/words", json={"words": words}).raise_for_status()
    answers = {each.english: [*each.captions] for each in gallery.context.registry.answers.list("kw")}
    assert answers == {"cat": ["pus", "kath", "c", "d"], "dog": ["ki", "hound"]}


def test_an_empty_gallery_asks_for_nothing(fresh: Service) -> None:
    asked = ask(fresh.admin)
    assert (asked["items"], asked["covered"]) == ([], None)


@pytest.mark.parametrize(
    ("words", "code", "place"),
    [
        ([{"english": "cat", "captions": [" "]}], "empty_text", "body.words.0.captions.0"),
        ([{"english": "cat", "captions": ["x" * 1_001]}], "text_too_long", "body.words.0.captions.0"),
        ([{"english": "?", "captions": ["cath"]}], "empty_text", "body.words.0.english"),
        ([{"english": "x" * 201, "captions": ["cath"]}], "invalid_request", "body.words.0.english"),
        ([{"english": "cat", "captions": ["a"] * 17}], "invalid_request", "body.words.0.captions"),
        ([{"english": "cat"}], "invalid_request", "body.words.0.captions"),
        ([], "invalid_request", "body.words"),
    ],
)
def test_a_bad_answer_is_refused_with_its_place(gallery: Service, words: Any, code: str, place: str) -> None:
    good = [{"english": "dog", "captions": ["ci"]}] if words else []
    with assert_state_unchanged(gallery):
        refused = assert_problem(
            gallery.admin.post("/v1/languages/cy/words", json={"words": [*words, *good]}), 422, code
        )
    assert refused["errors"][0]["location"] == place


def test_a_language_that_needs_no_words_or_is_none_is_refused(gallery: Service) -> None:
    path = "/v1/languages/{}/words"
    assert_problem(gallery.admin.get(path.format("en")), 422, "invalid_request")
    assert_problem(gallery.admin.get(path.format("Welsh")), 422, "language_tag_invalid")
    assert_problem(gallery.admin.get(path.format("cy"), params={"count": 1_001}), 422, "invalid_request")


def test_answers_are_taught_in_place_of_a_file_once_there_are_enough(fresh: Service) -> None:
    def teach(**more: str) -> httpx.Response:
        form = {"language": "cy", "words": "true", **more}
        return fresh.admin.post("/v1/languages", files={name: (None, value) for name, value in form.items()})

    tell(fresh, "cy", {f"thing {n}": [f"peth {n}"] for n in range(62)} | {"sea": ["môr"], "moor": []})
    assert_problem(teach(), 422, "dataset_too_small")
    tell(fresh, "cy", {"sea": ["môr", "y môr"]})
    report = teach(dry_run="true").json()["report"]
    assert (report["usable"], report["with_english"]) == (64, 64)
    expansion = teach().json()["expansion"]
    kept = fresh.context.registry.expansions.get(expansion["id"])
    rows = [json.loads(line) for line in (fresh.home / str(kept.dataset_path)).read_text().splitlines()]
    assert {"caption": "y môr", "english": "sea"} in rows and len(rows) == 64
    assert not any((fresh.home / "uploads").iterdir())
    both = {"data": {"language": "br", "words": "true"}, "files": {"dataset": ("x", b"x")}}
    assert_problem(fresh.admin.post("/v1/languages", **both), 422, "invalid_request")  # type: ignore[arg-type]


def test_more_answers_than_are_kept_are_refused_as_a_whole(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.speakers.MOST_ANSWERS", 3)
    tell(fresh, "cy", {"cat": ["cath"], "dog": ["ci"]})
    with assert_state_unchanged(fresh):
        more = [{"english": english, "captions": ["x"]} for english in ("sun", "moon")]
        assert_problem(fresh.admin.post("/v1/languages/cy/words", json={"words": more}), 422, "too_many_answers")
    assert tell(fresh, "cy", {"cat": ["y gath"], "sun": ["haul"]})["answered"] == 3


def test_one_key_fills_no_language_alone(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.speakers.MOST_ANSWERS", 3)
    monkeypatch.setattr("store.speakers.MOST_OF_ONE", 2)
    tell(fresh, "cy", {"cat": ["cath"], "dog": ["ci"]})
    more = [{"english": "sun", "captions": ["haul"]}]
    assert_problem(fresh.admin.post("/v1/languages/cy/words", json={"words": more}), 422, "too_many_answers")
    with httpx.Client(base_url=fresh.url, headers={"X-API-Key": fresh.key("write")}) as other:
        assert tell(fresh, "cy", {"sun": ["haul"]}, other)["answered"] == 3


def test_an_administrator_deletes_what_one_key_gave(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for id in ("a", "b"):
        fresh.put(id).raise_for_status()
    keys = [fresh.key("write") for _ in range(2)]
    for key in keys:
        with httpx.Client(base_url=fresh.url, headers={"X-API-Key": key}) as http:
            tell(fresh, "cy", {"cat": [f"cath {key}"]}, http)
            rows = json.dumps({"caption": f"ci {key}", "english": f"dog {key}"})
            http.post("/v1/languages", data={"language": "cy"}, files={"dataset": ("x", rows)}).raise_for_status()
            for picture, text in (("a", "yr un fath"), ("b", key)):
                proposal = {"picture": picture, "text": text}
                http.post("/v1/languages/cy/captions", json=proposal).raise_for_status()
    actor, registry = keys[0].split("_")[1], fresh.context.registry
    assert_problem(fresh.admin.delete("/v1/admin/languages/cy/contributions"), 422, "invalid_request")
    answer_questions(monkeypatch, lambda question: False)
    assert run(fresh, "erase", "cy", actor).stdout == "" and ask(fresh.admin)["answered"] == 2
    said = run(fresh, "erase", "cy", actor, "--yes").stdout
    assert said == f"What {actor} gave to cy is deleted.\n"
    assert ask(fresh.admin)["answered"] == len(registry.waiting.get("cy")) == 1
    for accepted, pictures in (("true", ["a"]), ("false", ["b"])):
        left = fresh.admin.get("/v1/languages/cy/captions", params={"accepted": accepted}).json()["items"]
        assert [each["picture"] for each in left] == pictures and actor not in str(left)
    for file in fresh.home.glob("registry.db*"):
        assert f"cath {keys[0]}".encode() not in file.read_bytes()
    assert fresh.admin.delete(f"/v1/admin/languages/cy/contributions?actor={actor}").status_code == 204


def test_answers_outlive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        tell(service, "cy", {"cat": ["cath"]})
    with running(tmp_path) as service:
        assert ask(service.admin)["answered"] == 1


def test_words_that_the_registry_refused_are_stored_later_and_none_that_is_too_long(fresh: Service) -> None:
    registry, counter = fresh.context.registry, fresh.context.unknown_words
    for tag, word in (("br", "x" * 65), ("cy", "Wyddfa"), ("gv", "Sniaul")):
        steps.teach(registry, tag)
        counter.count(tag, [word])
    with closing(sqlite3.connect(fresh.home / "registry.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable):
            counter.store()
    for _ in range(2):
        insist(counter.store)
    counted = {tag: registry.unknown_words.list(tag) for tag in ("br", "cy", "gv")}
    assert counted == {"br": [], "cy": [("wyddfa", 1)], "gv": [("sniaul", 1)]}


def make_dictionary(count: int = 80, gloss: str = "red apple {}") -> bytes:
    rows = [{"word": f"afalgoch{n}", "glosses": [f"a {gloss.format(n)}"], "pos": "n"} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def teach_dictionary(service: Service, data: bytes, tag: str = "cy", **more: Any) -> httpx.Response:
    headers, form = more.pop("headers", {}), {"language": tag, "kind": "dictionary", **more}
    return service.admin.post("/v1/languages", data=form, files={"dataset": ("x", data)}, headers=headers)


def test_a_dry_run_says_what_is_taken_and_why_the_rest_is_not(service: Service) -> None:
    extra = b'{"word": "y", "glosses": ["the"], "pos": "art"}\n{"word": "coch"}\n'
    with assert_state_unchanged(service):
        answer = teach_dictionary(service, make_dictionary() + extra, dry_run="true")
    assert answer.status_code == 200, answer.text
    report = answer.json()["report"]
    chosen = report["dictionary"]
    assert (report["format"], report["rows"], report["usable"]) == ("dictionary", 82, 80)
    assert (chosen["entries"], chosen["taken"], chosen["left_out"]) == (81, 80, {"grammar": 1})
    assert chosen["reasons"]["grammar"].startswith("of grammar") and len(chosen["examples"]) == 20
    assert chosen["examples"][0] == {"word": "afalgoch0", "gloss": "red apple 0"}
    assert report["faults"]["glosses_invalid"]["first_lines"] == [82]
    assert teach_dictionary(service, make_dictionary(), dry_run="true", assess="true").status_code == 200


def test_swapped_sides_are_cleaned_each_as_what_it_becomes(service: Service) -> None:
    rows = [{"word": f"the red house {n}; a home {n}", "glosses": [f"to ruz {n}|an ti {n}"]} for n in range(80)]
    answer = teach_dictionary(
        service, "".join(json.dumps(row) + "\n" for row in rows).encode(), "br", swap="true", dry_run="true"
    )
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
            teach_dictionary(service, data, **form),
            {"unsupported_media_type": 415, "dataset_doubted": 409}.get(code, 422),
            code,
        )


def test_a_dictionary_is_queued_once_under_its_key(fresh: Service) -> None:
    key = {"Idempotency-Key": "one"}
    first = teach_dictionary(fresh, make_dictionary(), headers=key)
    assert first.status_code == 202, first.text
    assert teach_dictionary(fresh, make_dictionary(), pivot="en", headers=key).json() == first.json()
    assert_problem(teach_dictionary(fresh, make_dictionary(), pivot="fr", headers=key), 422, "idempotency_key_reused")
    queued = fresh.context.registry.expansions.get(first.json()["expansion"]["id"])
    assert queued.is_of_words and queued.settings == {"pivot": "en"}
