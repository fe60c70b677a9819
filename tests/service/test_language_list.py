"""What is known of languages, over HTTP and on the command line: tags by names, terms, special letters."""

import json
from pathlib import Path
from typing import Any

import pytest

from store.errors import InsufficientScope
from tests.client.test_commands import run, run_json
from tests.service.harness import Service, assert_problem, assert_state_unchanged, share_service
from tests.service.test_languages import teach

service = share_service(lambda service: service.learn("br"))


def suggest(service: Service, query: str) -> list[dict[str, Any]]:
    return list(service.admin.get("/v1/languages/names", params={"query": query, "limit": 5}).json()["items"])


@pytest.mark.parametrize(
    ("query", "tag", "codes"),
    [
        *(
            (query, "br", ("bre", "bret1244"))
            for query in ("Breton", "br", "bre", " Bretonisch ", "布列塔尼", "BRET1244 ")
        ),
        ("ghot1243", "aaa", ("aaa", "ghot1243")),
        ("runasi", "qu", ("que", None)),  # several languages
        ("x-Kichwa", "x-kichwa", (None, None)),
    ],
)
def test_a_language_is_suggested_by_its_name_in_any_language(
    service: Service, query: str, tag: str, codes: tuple[str | None, str | None]
) -> None:
    first, *_ = suggest(service, query)
    assert (first["language"], first["iso639_3"], first["glottocode"], first["served"]) == (tag, *codes, tag == "br")


def test_suggestions_are_few_and_nonsense_has_none(service: Service) -> None:
    found = suggest(service, "quechua")
    assert len({each["language"] for each in found}) == len(found) == 5 and found[0]["language"] == "qu"
    assert suggest(service, "qwrtzp") == suggest(service, "  ") == []


def test_a_tag_is_found_by_the_name_of_the_language(service: Service) -> None:
    asked = service.admin.get("/v1/languages/names", params={"query": "brezhoneg", "limit": 3})
    first = {"language": "br", "name": "Breton", "native_name": "brezhoneg", "direction": "ltr"}
    codes = {"iso639_3": "bre", "glottocode": "bret1244"}
    assert asked.json()["items"][0] == {**first, **codes, "matched": "brezhoneg", "served": True}
    for wrong in ("", "?query=", "?query=" + "a" * 101):
        assert_problem(service.admin.get(f"/v1/languages/names{wrong}"), 422, "invalid_request")


OWN = {"owner": "Ti ar Brezhoneg", "contact": "ti@example.org", "licence": "CC-BY-SA-4.0", "statement": "Ask us first."}
# As the hub of Local Contexts writes a project, with made-up labels
PROJECT: dict[str, Any] = {
    "unique_id": "6f2c",
    "title": "Words of our village",
    "project_page": "https://localcontextshub.org/projects/6f2c",
    "notice": [],
    "project_boundary_geojson": {"type": "FeatureCollection", "features": []},
    "tk_labels": [
        {
            "unique_id": "a1",
            "name": "TK Our Own (TK O)",
            "label_type": "own",
            "language_tag": "en",
            "label_text": "Please ask the village.",
            "img_url": "https://example.org/tk.png",
            "label_page": "https://localcontextshub.org/label/a1",
            "audiofile": None,
            "community": {"id": 7, "name": "The village"},
            "translations": [{"translated_name": "Hon hini", "language_tag": "br", "translated_text": "Goulennit."}],
        }
    ],
    "bc_labels": [{"name": "BC Ours", "label_text": "Plants, too.", "community": "The village", "translations": []}],
}
LABELS: list[dict[str, Any]] = [
    {
        "kind": "tk",
        "name": "TK Our Own (TK O)",
        "text": "Please ask the village.",
        "language": "en",
        "community": "The village",
        "url": "https://localcontextshub.org/label/a1",
        "translations": [{"language": "br", "name": "Hon hini", "text": "Goulennit."}],
    },
    {
        "kind": "bc",
        "name": "BC Ours",
        "text": "Plants, too.",
        "language": "",
        "community": "The village",
        "url": None,
        "translations": [],
    },
]


def read_terms(service: Service, tag: str) -> Any:
    terms = service.admin.get(f"/v1/languages/{tag}").json()["terms"]
    assert terms is None or terms.pop("set_at")
    return terms


def test_terms_are_shown_where_the_language_acts(service: Service) -> None:
    assert read_terms(service, "br") is None
    set_terms = service.admin.put("/v1/languages/br/terms", json={**PROJECT, **OWN})
    assert set_terms.status_code == 200, set_terms.text
    assert read_terms(service, "br") == {**OWN, "labels": LABELS}
    names = [{"kind": each["kind"], "name": each["name"]} for each in LABELS]
    service.put("p1", br=["un aval ruz"]).raise_for_status()
    found = service.search("aval", language="br").json()
    assert found["language"]["terms"] == {**OWN, "labels": names}
    assert "terms" not in service.search("apple", language="en").json()["language"]
    captions = service.admin.post("/v1/search/captions", json={"picture": "p1"}).json()
    assert captions["terms"] == {"br": {**OWN, "labels": names}}
    (listed,) = [each for each in service.admin.get("/v1/languages").json()["items"] if each["language"] == "br"]
    assert listed["terms"]["labels"] == LABELS
    report = service.admin.get("/v1/versions/1/report").json()
    assert report["terms"] is None  # it was made before
    service.learn("br")
    assert service.admin.get("/v1/versions/2/report").json()["terms"]["owner"] == OWN["owner"]
    line = "br: Ti ar Brezhoneg · CC-BY-SA-4.0 · TK Our Own (TK O) · BC Ours · Ask us first."
    for command in (["languages"], ["search", "aval", "-l", "br"], ["search", "--picture", "p1", "--captions"]):
        assert line in run(service, *command).stderr.splitlines(), command


@pytest.mark.parametrize(
    "body",
    [
        *([], {"owner": 1}, {"owner": "a\nb"}, {"owner": "a" * 301}, {"statement": "\x00"}, {"color": "red"}),
        *({"tk_labels": [label]} for label in (3, {"name": ""}, {"name": "x", "label_page": "javascript:alert(1)"})),
        {"labels": [{"kind": "tk", "name": "x"}] * 65},
    ],
)
def test_bad_terms_are_refused(service: Service, body: Any) -> None:
    with assert_state_unchanged(service):
        assert_problem(service.admin.put("/v1/languages/cy/terms", json=body), 422, "invalid_request")
        assert_problem(service.admin.put("/v1/languages/xx/terms", json={}), 422, "language_tag_invalid")
        assert_problem(teach(service, terms=json.dumps(body)), 422, "invalid_request")
        assert_problem(teach(service, terms="{}", assess="true"), 422, "invalid_request")


def test_terms_come_with_a_dataset_and_only_an_administrator_changes_them(service: Service) -> None:
    writer = {"Authorization": f"Bearer {service.key('write')}"}
    sent = teach(service, "cy", terms=json.dumps(OWN))
    assert sent.status_code == 202 and read_terms(service, "cy") == {**OWN, "labels": []}
    service.admin.post(f"/v1/expansions/{sent.json()['expansion']['id']}/cancel").raise_for_status()
    other, path = {"owner": "Somebody else"}, "/v1/languages/cy/terms"
    with assert_state_unchanged(service):
        assert_problem(service.http.put(path, json=other, headers=writer), 403, "insufficient_scope")
        files = {"dataset": ("x", b"{}")}
        form = {"language": "cy", "terms": json.dumps(other)}
        refused = service.http.post("/v1/languages", data=form, files=files, headers=writer)
        assert_problem(refused, 403, "insufficient_scope")
        assert service.http.put(path, json=OWN, headers=writer).status_code == 200
    assert service.admin.put(path, json={}).json() is None and read_terms(service, "cy") is None
    assert service.http.put(path, json=other, headers=writer).json()["owner"] == "Somebody else"  # nobody said anything


def test_terms_that_were_set_meanwhile_stand(service: Service) -> None:
    terms, path = service.context.registry.terms, "/v1/languages/gd/terms"
    terms.require_right("gd", OWN, may_change=False)
    service.admin.put(path, json={"owner": "Somebody else"}).raise_for_status()
    with assert_state_unchanged(service):
        with pytest.raises(InsufficientScope):
            terms.set("gd", OWN, "writer", may_change=False)
        with pytest.raises(InsufficientScope):
            service.context.registry.expansions.submit(
                kind="learn", language="gd", settings={}, actor="writer", terms=OWN
            )


def test_terms_are_set_on_the_command_line(service: Service, tmp_path: Path) -> None:
    (tmp_path / "project.json").write_text(json.dumps(PROJECT), encoding="utf-8")
    run(service, "terms", "qu", "--owner", "Llaqta", "--labels", str(tmp_path / "project.json"))
    shown = run(service, "terms", "qu", "--licence", "CC0-1.0").stdout.splitlines()
    assert shown == [
        "owner: Llaqta",
        "licence: CC0-1.0",
        "TK Our Own (TK O) (The village): Please ask the village.",
        "BC Ours (The village): Plants, too.",
    ]
    assert run_json(service, "terms", "qu")["labels"] == LABELS
    assert run(service, "terms", "qu", "--clear").stdout == "Nothing is said of this language.\n"
    (tmp_path / "no.json").write_text('{"a": 1}', encoding="utf-8")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"caption": "p {n}", "english": "e {n}"}}\n' for n in range(70)), encoding="utf-8")
    refused = run(service, "learn", "qu", str(rows), "--terms", str(tmp_path / "no.json"))
    assert refused.exit_code == 2 and "has no terms" in refused.stderr and read_terms(service, "qu") is None
    run_json(service, "learn", "qu", str(rows), "--terms", str(tmp_path / "project.json"))
    assert read_terms(service, "qu")["labels"] == LABELS


def test_a_language_that_nobody_taught_has_the_letters_of_its_answers(service: Service) -> None:
    words = [{"english": "boat", "captions": ["Ḡõ ñã", "c\u0327a\u0304"]}]
    service.admin.post("/v1/languages/gn/words", json={"words": words}).raise_for_status()
    described = service.admin.get("/v1/languages/gn").json()
    assert described["letters"] == ["ã", "ā", "ç", "ḡ", "ñ", "õ"] and described["version"] is None
    assert service.admin.get("/v1/languages/br").json()["letters"] == []
    assert_problem(service.admin.get("/v1/languages/xx"), 422, "language_tag_invalid")
