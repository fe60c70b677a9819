"""The report of a version over HTTP, and what the list of languages takes from it."""

import hashlib
from typing import Any, Literal

import pytest

from store import files
from tests.service.harness import Service, assert_problem, learn
from tests.store.steps import begin, write


def make_recall(first: float) -> dict[str, float]:
    return {"R@1": first, "R@5": 0.9, "R@10": 1.0}


def make_report(first: float, **more: Any) -> dict[str, Any]:
    return {"t2i": make_recall(first), "i2t": make_recall(first), "pairs": 8, "against": "pictures", **more}


def test_a_report_comes_with_the_version_its_outcome_and_the_chain(fresh: Service) -> None:
    shared = {"so_far": {"languages": ["en", "cy"], "AA": 0.5, "F": 0.1}}
    registry = fresh.context.registry
    version = learn(registry, "cy", report=make_report(0.25, fertility={"per_word": 1.5}, shared=shared))
    body = fresh.admin.get(f"/v1/versions/{version.number}/report").json()
    assert (body["version"], body["parent"], body["name"], body["native_name"]) == (1, 0, "Welsh", "Cymraeg")
    assert (body["state"], body["error"], body["moved"]) == ("succeeded", None, None)
    assert body["chain"] == [
        {"version": 0, "language": "en", "AA": None, "F": None},
        {"version": 1, "language": "cy", "AA": 0.5, "F": 0.1},
    ]
    assert body["report"]["t2i"] == make_recall(0.25)
    assert body["report"]["fertility"] == {"per_word": 1.5} and body["index"] is None
    fresh.put("a", en=["an apple"])
    answer = fresh.admin.get(f"/v1/versions/{version.number}/report").json()["index"]
    assert answer == {"share": 1.0, "queries": 1, "of": "captions", "depth": None, "unit": None}


def add(service: Service, kind: Literal["learn", "rebuild"] = "learn") -> tuple[Any, Any]:
    """Register a version, and return it with the lease of its expansion, which has not ended."""
    lease = begin(service.context.registry, "cy", kind=kind)
    version = write(service.context.registry, lease, "cy", 0, report=make_report(0.01))
    return version, lease


def test_a_report_has_what_became_of_its_version(fresh: Service) -> None:
    """Why the gate refused it; whether the shared table moved, of a rebuild for each language."""
    expansions = fresh.context.registry.expansions

    def read(version: Any) -> Any:
        return fresh.admin.get(f"/v1/versions/{version.number}/report").json()

    version, lease = add(fresh)
    expansions.fail(lease, "gate_failed", "held-out t2i R@10 is 0.010")
    assert (read(version)["state"], read(version)["moved"]) == ("failed", None)
    assert read(version)["error"] == {"code": "gate_failed", "detail": "held-out t2i R@10 is 0.010"}
    version, lease = add(fresh)
    expansions.succeed(lease, version.number, 1, {"shared": {"moved": False}})
    assert read(version)["moved"] is False
    version, lease = add(fresh, "rebuild")
    concluded = {"moved": True, "languages": {"cy": {"shared": {"moved": True}}}}
    expansions.succeed(lease, version.number, 1, concluded)
    assert read(version)["moved"] is True


def test_version_0_has_an_empty_report(service: Service) -> None:
    body = service.admin.get("/v1/versions/0/report").json()
    assert (body["language"], body["expansion"], body["state"]) == ("en", None, None)
    assert body["report"]["pairs"] == 0


def test_a_version_names_the_page_of_its_report_which_needs_no_key(fresh: Service) -> None:
    learn(fresh.context.registry, "cy")
    path = fresh.admin.get("/v1/versions/1").json()["report_page"]
    assert path == fresh.admin.get("/v1/versions").json()["items"][0]["report_page"] == "/versions/1/report"
    answer = fresh.http.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_english_shows_the_evaluation_with_the_newest_language_with_pictures(fresh: Service) -> None:
    registry = fresh.context.registry
    learn(registry, "cy", report=make_report(0.2, english=make_report(0.7)))
    learn(registry, "fr", report=make_report(0.3, english=make_report(0.8)))
    learn(registry, "de", report=make_report(0.4, english=make_report(1.0, against="english")))  # not among pictures
    fresh.context.live.refresh()
    listed = {item["language"]: item["report"] for item in fresh.admin.get("/v1/languages").json()["items"]}
    assert listed["en"]["t2i"] == make_recall(0.8)
    assert (listed["en"]["pairs"], listed["de"]["t2i"]) == (8, make_recall(0.4))


@pytest.mark.parametrize(("number", "status"), [("1", 200), ("7", 200), ("9" * 5_000, 404), ("x", 404), ("-1", 404)])
def test_the_page_of_a_report_is_there_for_whatever_may_be_a_number(service: Service, number: str, status: int) -> None:
    assert service.http.get(f"/versions/{number}/report").status_code == status
    for other in (f"/versions/{number}", f"/versions/{number}/report/"):
        assert_problem(service.http.get(other), 404, "not_found")


def test_every_language_has_the_whole_report_measured_or_not(service: Service) -> None:
    unknown = {"R@1": None, "R@5": None, "R@10": None}
    english, german = sorted(service.admin.get("/v1/languages").json()["items"], key=lambda item: item["version"])
    assert english["report"] == {"t2i": unknown, "i2t": unknown, "pairs": 0}
    assert german["report"] == {"t2i": unknown, "i2t": unknown, "pairs": 1}


def test_a_version_has_its_evaluation_and_the_digests_of_its_files(fresh: Service) -> None:
    recall = {"R@1": 0.25, "R@5": 0.5, "R@10": 1.0}
    report = {"t2i": recall, "i2t": recall, "pairs": 8, "shared": {"moved": True}}
    version = learn(fresh.context.registry, "cy", report=report)
    folder = fresh.home / str(version.folder)
    folder.mkdir(parents=True)
    (folder / "rows.safetensors").write_bytes(b"rows")
    files.write_manifest(folder, {})
    detail = fresh.admin.get(f"/v1/versions/{version.number}").json()
    assert detail["report"] == report
    assert detail["digests"] == {"rows.safetensors": hashlib.sha256(b"rows").hexdigest()}
