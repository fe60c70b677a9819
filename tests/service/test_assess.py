"""Built-in and assessed languages, pivots and forced teaching over HTTP and on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_commands import run, run_json
from tests.doubles import WeightlessEncoder, make_text_vector
from tests.registries import publish_release
from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, running
from tests.service.test_languages import make_dataset, teach

SENTENCE = "This base already reads Welsh at R@10 71 % (on 80 held-out captions; chance gives 1 %)."
RECALL = {"R@1": 0.5, "R@5": 0.6, "R@10": 0.71}


class Polyglot(WeightlessEncoder):
    """Of a base that says it reads French."""

    languages = ("en", "fr")


@pytest.fixture(scope="module")
def polyglot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """On such a base, with German taught."""
    with running(tmp_path_factory.mktemp("home"), Polyglot()) as service:
        service.learn("de")
        assert service.put("p0", en=["a red apple"], de=["ein roter Apfel"]).status_code == 201
        yield service


def measure(service: Service, expansion: str, **more: Any) -> None:
    """Do what a worker does with an assessment."""
    expansions = service.context.registry.expansions
    lease = expansions.take_lease(expansion, "test")
    assert lease is not None
    figures = {"t2i": RECALL, "i2t": RECALL, "pairs": 80}
    base = service.context.encoder.base_fingerprint
    report = {**figures, "base": base, "reads": True, "sentence": SENTENCE, "shared": None, "taught": None, **more}
    expansions.succeed(lease, None, None, report)


def assess(service: Service, tag: str = "cy", **report: Any) -> dict[str, Any]:
    """Post an assessment, and have it done; the language as it is listed then."""
    answer = teach(service, tag, assess="true")
    assert answer.status_code == 202, answer.text
    measure(service, answer.json()["expansion"]["id"], **report)
    return list_languages(service)[tag]


def list_languages(service: Service) -> dict[str, dict[str, Any]]:
    return {item["language"]: item for item in service.admin.get("/v1/languages").json()["items"]}


def make_pivots(language: str = "de", text: str = "roter Apfel ") -> bytes:
    rows = [{"caption": f"afal coch {n}", "pivot": {"language": language, "text": f"{text}{n}"}} for n in range(80)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_an_assessment_is_an_expansion_of_its_own_kind(fresh: Service) -> None:
    answer = teach(fresh, assess="true")
    assert answer.status_code == 202
    expansion = answer.json()["expansion"]
    assert (expansion["kind"], expansion["language"], expansion["state"]) == ("assess", "cy", "queued")
    assert answer.headers["location"] == f"/v1/expansions/{expansion['id']}"
    assert_problem(teach(fresh), 409, "expansion_in_progress")


def test_an_assessed_language_is_listed_with_its_figures_though_nothing_serves_it(fresh: Service) -> None:
    item = assess(fresh)
    assert (item["version"], item["captions"], item["learned_at"]) == (None, 0, None)
    assert (item["taught"], item["built_in"]) == (False, False)
    assert item["assessed"]["sentence"] == SENTENCE and item["assessed"]["t2i"] == RECALL
    assert_problem(fresh.search("afal", language="cy"), 404, "language_not_found")
    english = list_languages(fresh)["en"]
    assert (english["taught"], english["built_in"], english["assessed"]) == (False, True, None)


def test_a_language_may_be_taught_and_assessed_and_the_newest_assessment_counts(fresh: Service) -> None:
    assess(fresh)
    fresh.learn("cy")
    item = assess(fresh, sentence="the newer one", reads=False)
    assert (item["taught"], item["version"]) == (True, 1)
    assert (item["assessed"]["sentence"], item["assessed"]["reads"]) == ("the newer one", False)


def test_what_another_base_reads_is_not_told_and_hides_nothing(fresh: Service) -> None:
    def assess_elsewhere() -> None:
        answer = teach(fresh, assess="true")
        measure(fresh, answer.json()["expansion"]["id"], base="0" * 64)

    assess_elsewhere()
    assert "cy" not in list_languages(fresh)
    own = assess(fresh)
    assess_elsewhere()
    assert list_languages(fresh)["cy"] == own


def test_english_may_be_assessed_and_not_taught(fresh: Service) -> None:
    assert_problem(teach(fresh, "en"), 422, "invalid_request")
    assert assess(fresh, "en")["assessed"]["pairs"] == 80


def test_without_a_held_out_row_there_is_nothing_to_assess(service: Service) -> None:
    rows = make_dataset().replace(b"}", b', "split": "train"}')
    with assert_state_unchanged(service):
        body = assert_problem(teach(service, data=rows, assess="true"), 422, "nothing_held_out")
    assert "no row is held out" in body["detail"]


def test_a_dry_run_of_an_assessment_accepts_what_an_assessment_does(service: Service) -> None:
    rows = make_dataset().replace(b"}", b', "split": "val"}')
    with assert_state_unchanged(service):
        assert teach(service, data=rows, assess="true", dry_run="true").json()["report"]["val"] == 80
        assert teach(service, data=rows, dry_run="true").status_code == 422


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (make_pivots("fr"), "pivot_not_served", ("line 1", "pivot_not_served")),
        (make_pivots().replace(b"roter Apfel 7", b" "), "pivot_text_empty", ("line 8", "empty_text")),
    ],
    ids=["not served", "empty"],
)
def test_a_pivot_that_cannot_be_read_is_refused(service: Service, data: bytes, code: str, place: object) -> None:
    with assert_state_unchanged(service):
        body = assert_problem(teach(service, data=data), 422, code)
    assert place in [(error["location"], error["code"]) for error in body["errors"]]


@pytest.mark.parametrize("pivot", ["de", "fr", "fr-CA"])
def test_a_pivot_may_be_taught_or_built_in(polyglot: Service, pivot: str) -> None:
    answer = teach(polyglot, data=make_pivots(pivot), dry_run="true")
    assert answer.status_code == 200, answer.text
    assert answer.json()["report"]["pivots"] == {pivot: 80}


def test_forced_teaching_is_recorded_with_the_expansion(fresh: Service) -> None:
    id = teach(fresh, force="true", settings='{"seed": 3}').json()["expansion"]["id"]
    assert fresh.context.registry.expansions.get(id).settings == {"seed": 3, "force": True}


def test_assessing_and_teaching_are_different_requests_under_one_key(fresh: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    first = teach(fresh, assess="true", headers=headers)
    assert teach(fresh, assess="true", headers=headers).json() == first.json()
    assert_problem(teach(fresh, headers=headers), 422, "idempotency_key_reused")


def test_a_base_of_many_languages_lists_those_it_declares(polyglot: Service) -> None:
    french = list_languages(polyglot)["fr"]
    assert (french["version"], french["taught"], french["built_in"], french["assessed"]) == (0, False, True, None)
    assert list_languages(polyglot)["de"]["taught"] and not list_languages(polyglot)["de"]["built_in"]


def test_a_language_that_it_was_measured_to_read_is_built_in(polyglot: Service) -> None:
    assert assess(polyglot)["built_in"] is True
    assert assess(polyglot, "br", reads=False)["built_in"] is False


@pytest.mark.parametrize("tag", ["fr", "FR", "sw"])
def test_an_untaught_language_is_read_by_version_0_with_a_warning(polyglot: Service, tag: str) -> None:
    answer = polyglot.search("une pomme rouge", language=tag)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["version"], body["warnings"]) == (0, ["language_not_taught"])
    language = {"requested": tag, "used": tag.lower(), "source": "requested", "confidence": None}
    assert body["language"] == language
    embedded = polyglot.admin.post("/v1/embeddings", json={"input": "une pomme rouge", "language": tag}).json()
    assert embedded["data"][0]["embedding"] == pytest.approx(make_text_vector(0, "une pomme rouge").tolist())


def test_a_taught_language_is_read_without_a_warning(polyglot: Service) -> None:
    body = polyglot.search("ein roter Apfel", language="de").json()
    assert (body["version"], body["warnings"]) == (1, [])
    form = polyglot.search_by_picture(picture(1), language="fr")
    assert form.status_code == 200 and form.json()["items"][0]["captions"] == {"en": ["a red apple"]}
    assert_problem(polyglot.search("une pomme", language="french"), 422, "language_tag_invalid")


def search_captions(service: Service, **asked: Any) -> dict[str, Any]:
    answer = service.admin.post("/v1/search/captions", json={"picture": "p0", **asked})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_captions_in_an_untaught_language_wait_until_it_is_taught(tmp_path: Path) -> None:
    with running(tmp_path, Polyglot()) as service:
        item = service.put("p0", en=["a red apple"], fr=["une pomme rouge"]).json()
        assert (item["captions"], item["waiting"]) == ({"en": ["a red apple"]}, {"fr": ["une pomme rouge"]})
        none = search_captions(service, languages=["FR"])
        assert (none["items"], none["generations"], none["warnings"]) == ([], {}, ["language_not_taught"])
        service.learn("fr")
        taught = search_captions(service, languages=["fr"])
        assert taught["warnings"] == [] and [hit["caption"] for hit in taught["items"]] == ["une pomme rouge"]
        assert service.admin.post("/v1/admin/languages/fr/rollback", json={}).status_code == 200
        assert search_captions(service, languages=["fr"])["items"] == []


def test_no_metric_has_a_label_that_a_client_made_up(polyglot: Service) -> None:
    for tag in ("sw", "fi"):
        polyglot.search("omena", language=tag)
    text = polyglot.admin.get("/metrics").text
    assert 'language="not_taught"' in text and 'language="fi"' not in text


def test_the_model_is_listed_with_what_it_reads(polyglot: Service) -> None:
    body = polyglot.admin.get("/v1/models").json()
    (model,) = body["data"]
    assert body["object"] == "list" and model["object"] == "model" and model["created"] > 1_600_000_000
    assert (model["id"], model["languages"], model["taught"]) == ("pictoglot/bundled", ["en", "fr"], ["de"])
    assert (model["dimension"], model["inputs"]) == (64, ["text", "picture"])
    embedded = polyglot.admin.post("/v1/embeddings", json={"input": "a", "model": model["id"]}).json()
    assert embedded["model"] == model["id"]


def test_the_command_assesses_and_says_what_came_of_it(fresh: Service, tmp_path: Path) -> None:
    (file := tmp_path / "cy.jsonl").write_bytes(make_dataset())
    assert run_json(fresh, "assess", "cy", str(file), "--dry-run")["report"]["usable"] == 80
    sent = run_json(fresh, "assess", "cy", str(file))
    assert (sent["kind"], sent["state"]) == ("assess", "queued")
    measure(fresh, sent["id"], against="english", taught={"version": 4, "t2i": RECALL, "i2t": RECALL})
    said = run(fresh, "expansions", sent["id"], "--watch").stdout
    assert SENTENCE in said and "71.0" in said
    assert "What was taught, version 4:" in said and "Nothing was taught" in said
    assert (said.count("text to English"), said.count("text to picture")) == (2, 0)
    row = next(line for line in run(fresh, "languages").stdout.splitlines() if line.startswith("cy"))
    assert "assessed" in row and row.split()[-1] == "71.0"


def test_the_command_forces_and_tells_why_a_language_serves(fresh: Service, tmp_path: Path) -> None:
    (file := tmp_path / "cy.jsonl").write_bytes(make_dataset())
    id = run_json(fresh, "learn", "cy", str(file), "--force")["id"]
    expansions = fresh.context.registry.expansions
    assert expansions.get(id).settings == {"force": True}
    lease = expansions.take_lease(id, "test")
    assert lease is not None
    gain = {"sentence": "Welsh is read worse than by version 0: …", "forced": True}
    joined = {"datasets": 2, "rows": 1}
    replaced = {"datasets": 2, "sentences": ["Welsh is read about as well: …"]}
    more = {"against": "english", "gain": gain, "joined": joined, "replaced": replaced}
    expansions.succeed(lease, 1, 2, {"t2i": RECALL, "i2t": RECALL, **more})
    said = run(fresh, "expansions", id, "--watch").stdout
    assert "Welsh is read worse than by version 0: …. It is served because that was forced." in said
    assert "It was also taught from 1 caption of 2 earlier datasets." in said
    assert "It replaces 2 earlier datasets: only the captions of this one are taught and shown now." in said
    assert "Welsh is read about as well: ….\n" in said
    assert "text to English" in said and "English to text" in said  # these pairs have no pictures


def test_the_list_of_releases_marks_what_was_forced(fresh: Service) -> None:
    registry = fresh.context.registry
    change = {"kind": "promote", "language": "cy", "forced": "why"}
    publish_release(registry, expected=1, shared=0, languages={}, change=change)
    assert "promote cy forced" in run(fresh, "releases").stdout
