"""`words` against a real server, and the table that is filled in on paper and comes back."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.test_commands import run, run_json
from tests.service.harness import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        for number in range(100):
            service.put(f"p{number}").raise_for_status()
        yield service


def test_words_are_listed_with_their_pictures(service: Service) -> None:
    asked = run_json(service, "words", "cy", "--count", "5")
    head, *lines = run(service, "words", "cy", "--count", "5").stdout.splitlines()
    assert head.split("\t") == ["word", "pictures"]
    assert lines == [f"{each['english']}\t{', '.join(each['pictures'])}" for each in asked["items"]]
    assert run(service, "words", "cy").stderr.splitlines() == ["0.0 % of the pictures have a word already."]


def test_a_table_that_is_filled_in_in_part_teaches(service: Service, tmp_path: Path) -> None:
    sheet = tmp_path / "ask.csv"
    said = run(service, "words", "cy", "--count", "60", "--out", str(sheet)).stdout
    assert said.strip() == f"60 words to fill in: {sheet}. Then: `pictoglot learn cy {sheet}`"
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["english", "caption", "pictures"] and all(row[0] and not row[1] and row[2] for row in rows)
    for number, row in enumerate(rows[:40]):
        row[1] = f"gair {number}"
    for number, row in enumerate(rows[:30]):
        row[1] += f", enw {number}; "
    with sheet.open("w", encoding="utf-8", newline="") as stream:  # as a spreadsheet of another country saves it
        csv.writer(stream, delimiter=";").writerows([head, *rows])
    report = run_json(service, "learn", "cy", str(sheet), "--dry-run")["report"]
    assert report["format"] == "sheet"
    assert (report["rows"], report["usable"], report["unanswered"], report["faults"]) == (70, 70, 20, {})
    assert report["with_picture"] == 0 and report["with_english"] == 70
    shown = run(service, "learn", "cy", str(sheet), "--dry-run").stdout
    assert "20 words are not answered yet and left out." in shown.splitlines()


def test_a_table_without_an_answer_is_too_small(service: Service, tmp_path: Path) -> None:
    sheet = tmp_path / "ask.csv"
    run(service, "words", "cy", "--count", "60", "--out", str(sheet))
    refused = run(service, "learn", "cy", str(sheet))
    assert refused.exit_code == 2 and "dataset_too_small" in refused.stderr


def test_what_was_answered_is_taught_by_one_command(service: Service) -> None:
    words = [{"english": f"thing {n}", "captions": [f"peth {n}"]} for n in range(70)]
    service.admin.post("/v1/languages/br/words", json={"words": words[:60]}).raise_for_status()
    assert "60 answers are kept; 4 more and it can be taught." in run(service, "words", "br").stderr
    assert "dataset_too_small" in run(service, "words", "br", "--teach").stderr
    service.admin.post("/v1/languages/br/words", json={"words": words}).raise_for_status()
    assert "70 answers are kept; `pictoglot words br --teach` teaches them." in run(service, "words", "br").stderr
    assert run_json(service, "words", "br", "--teach")["language"] == "br"
