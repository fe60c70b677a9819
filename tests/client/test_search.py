"""`search` by pictures of the gallery, without something, by words, and `duplicates`, against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.test_commands import run, run_json
from tests.service.harness import Service, picture, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three pictures, of which two are the same."""
    with running(tmp_path_factory.mktemp("home")) as service:
        for id, seed, caption in (("p0", 1, "a red apple"), ("p1", 1, "an apple"), ("p2", 2, "a dog")):
            assert service.put(id, picture(seed), en=[caption]).status_code == 201
        yield service


def search_ids(service: Service, *arguments: str) -> list[str]:
    return [hit["id"] for hit in run_json(service, "search", *arguments)["items"]]


def test_like_and_picture_take_an_id_and_the_picture_itself_is_not_found(service: Service, tmp_path: Path) -> None:
    assert search_ids(service, "--like", "p0") == search_ids(service, "--picture", "p0") == ["p1", "p2"]
    asked = {"text": "a cat", "picture": "p0", "minus": {"text": "a dog", "picture": "p2"}, "weights": {"text": 3}}
    answer = service.admin.post("/v1/search/pictures", json=asked).json()["items"]
    options = ("--like", "p0", "--minus", "a dog", "--minus-picture", "p2", "--weights", '{"text": 3}')
    assert search_ids(service, "a cat", *options) == [hit["id"] for hit in answer]
    file = tmp_path / "p2.png"
    file.write_bytes(picture(2))
    assert search_ids(service, "apple", "--picture", str(file), "--mode", "both")[0] in ("p0", "p1")
    assert {hit["picture"] for hit in run_json(service, "search", "--like", "p2", "--captions")["items"]} == {
        "p0",
        "p1",
        "p2",
    }


def test_words_are_a_mode(service: Service) -> None:
    assert search_ids(service, "APPLE", "--mode", "words") == ["p1", "p0"]
    assert search_ids(service, "apple", "--mode", "words", "--minus", "red") == ["p1"]
    assert "No picture was found." in run(service, "search", "zebra", "-m", "words").stdout
    narrow = run(service, "search", "apple", "-m", "words", "--collection", "museum")
    assert narrow.stdout == "The filter or collection leaves no picture.\n"


def test_a_text_of_no_language_that_is_known_is_not_said_to_be_read_as_one(service: Service) -> None:
    unknown = run(service, "search", "яблоко", "-l", "auto").stderr.splitlines()
    assert unknown[0].startswith("Language not certain (name it with --language): read with the shared table, version ")
    assert unknown[1] == "The text does not look like any of the learned languages."
    asked = run(service, "search", "apple", "-l", "shared").stderr.splitlines()
    assert len(asked) == 1 and asked[0].startswith("Read with the shared table, version ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--picture", "no/such.png"), "There is no file no/such.png."),
        (("search", "--picture", "p0", "--like", "p1"), "There is no file p0."),
        (("search", "--minus", "x"), "Give a text, a picture"),
        (("search", "cath", "ddu"), "in quotes: pictoglot search 'cath ddu'"),
        (("search", "--like", "p0", "--captions", "--mode", "both"), "--captions needs a picture"),
        (("search", "x", "--weights", "3"), "--weights must be a JSON object."),
        (("search", "--like", "unknown"), "there is no picture with this id"),
        (("search", "x", "--like", "p0", "--mode", "words"), "use the mode `both`"),
        (("search", "x", "--mode", "all"), "all"),
        (("duplicates", "--min-score", "2"), "2"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence_and_has_status_2(
    service: Service, arguments: tuple[str, ...], said: str
) -> None:
    result = run(service, *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_duplicates_are_shown_as_groups(service: Service) -> None:
    result = run_json(service, "duplicates")
    assert [[each["id"] for each in group["pictures"]] for group in result["items"]] == [["p0", "p1"]]
    assert result["examined"] == 3 and result["complete"] is True
    shown = run(service, "duplicates")
    assert shown.exit_code == 0 and "p1" in shown.stdout and "3 pictures were compared." in shown.stderr
    other = json.dumps({"must_not": [{"key": "id", "match": {"value": "p1"}}]})
    assert "No two pictures are that alike." in run(service, "duplicates", "--filter", other).stdout
