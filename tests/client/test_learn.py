"""`learn`, `words` and `expansions` against a real server: progress, refusals, what waits; a demo still filled."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import update

from client import Client, terminal
from store.tables import ExpansionRow
from tests.client.test_commands import make_rows, run, run_json
from tests.service.harness import Service, learn, picture, running, share_service, wait_until

NOUNS = {"ar c'hi": "the dog", "ar c'hazh": "the cat", "an ti": "the house", "ar wezenn": "the tree",
         "ar vag": "the boat", "ar marc'h": "the horse", "al labous": "the bird", "an heol": "the sun"}  # fmt: skip
ADJECTIVES = {"bras": "big", "bihan": "little", "gwenn": "white", "du": "black", "ruz": "red", "kozh": "old",
              "nevez": "new", "brav": "beautiful"}  # fmt: skip
BRETON = [(f"{noun} {kind}", f"the {quality} {thing.removeprefix('the ')}") for noun, thing in NOUNS.items()
          for kind, quality in ADJECTIVES.items()]  # fmt: skip
service = share_service(lambda service: service.learn("de"))
english = share_service()
fresh = share_service(lambda service: service.learn("de"), scope="function")


def test_a_dry_run_tells_in_sentences_what_is_in_the_file_and_teaches_nothing(service: Service, tmp_path: Path) -> None:
    service.put("orchard").raise_for_status()
    lines = ["caption;english;picture", *(f"afal {n};apple {n};{'orchard.jpg' if n == 7 else ''}" for n in range(80))]
    lines[9] = ";no caption;"
    lines[10:12] = ["too;many;cells;here"] * 2
    lines.append(lines[1])
    (tmp_path / "cy.csv").write_text("\n".join(lines))
    before = run_json(service, "expansions")
    report = run_json(service, "learn", "cy", str(tmp_path / "cy.csv"), "--dry-run")["report"]
    assert run(service, "learn", "cy", str(tmp_path / "cy.csv"), "--dry-run").stdout.splitlines() == [
        "cy.csv can be used to teach Welsh (cy). This was a dry run: nothing was taught.",
        "",
        "CSV, 81 rows, of which 77 can be used:",
        "  77 captions, each with a text in English (en), 1 with a picture of the gallery (1 picture in all)",
        "  1 names its picture by its file: `a.jpg` is taken for the id `a`",
        f"  {report['train']} to learn from, {report['val']} held out to measure what was learned; "
        "then they are taught, too",
        f"  That is few to measure with: one caption counts {100 / report['val']:.0f} points. More rows hold out more.",
        "1 row repeats an earlier one and counts once: line 82.",
        "3 rows cannot be used and are left out:",
        "  1 without a caption: line 10",
        "  2 with too few or too many cells: lines 11, 12",
        "The first rows, Welsh (cy) | English (en):",
        *(f"  afal {n} | apple {n}" for n in range(5)),
    ]
    assert "held out and measured" in run(service, "assess", "cy", str(tmp_path / "cy.csv"), "--dry-run").stdout
    assert run_json(service, "expansions") == before


def test_a_dry_run_tells_what_is_taught_again_unless_that_is_replaced(service: Service, tmp_path: Path) -> None:
    learn(service.context.registry, "br", report={"dataset": {"usable": 1_000}})
    (file := tmp_path / "br.jsonl").write_text(make_rows(80))
    arguments, before = ("learn", "br", str(file)), {"datasets": 1, "rows": 1_000}

    def dry(*command: str) -> tuple[Any, Any]:
        found = run_json(service, *command, "--dry-run")
        return found["joined"], found["replaced"]

    assert dry(*arguments) == (before, None) and dry(*arguments, "--replace") == (None, before)
    assert dry("learn", "kw", str(file)) == dry("assess", "br", str(file)) == (None, None)
    said = "Breton (br) is also taught from 1,000 captions of 1 earlier dataset; duplicates count once."
    assert f"{said} `--replace` leaves them out." in run(service, *arguments, "--dry-run").stdout.splitlines()
    said = "It replaces 1,000 captions of 1 earlier dataset: then only the captions of this file are taught and shown."
    assert said in run(service, *arguments, "--replace", "--dry-run").stdout.splitlines()
    same = {"dataset_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    for change in (same, {"dataset_sha256": "d" * 64, "dataset_path": None}):
        with service.context.registry.begin() as session:
            session.execute(update(ExpansionRow).where(ExpansionRow.language == "br").values(**change))
        assert dry(*arguments) == (None, None)
    sent = run_json(service, *arguments, "--replace")
    assert service.context.registry.expansions.get(sent["id"]).settings == {"replace": True}
    run_json(service, "expansions", sent["id"], "--cancel")


def test_learning_is_queued_and_cancelled_and_then_a_watch_has_status_1(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "cy.jsonl"
    file.write_text(make_rows(80))
    sent = run_json(service, "learn", "cy", str(file))
    assert sent["state"] == "queued"
    assert run_json(service, "expansions", sent["id"])["id"] == sent["id"]
    assert run_json(service, "expansions", sent["id"], "--cancel")["state"] == "cancelled"
    result = run(service, "expansions", sent["id"], "--watch")
    assert result.exit_code == 1
    assert "cancelled" in result.stderr


def test_watching_a_finished_expansion_shows_its_version(service: Service) -> None:
    (done,) = (e for e in run_json(service, "expansions")["items"] if e["language"] == "de")
    result = run(service, "expansions", done["id"], "--watch")
    assert result.exit_code == 0
    assert "de is learned: version 1, release 2." in result.stdout


def test_a_rebuild_reports_the_shared_table_and_what_is_left_out(service: Service) -> None:
    registry = service.context.registry
    expansion, _ = registry.expansions.submit(kind="rebuild", language="xh", settings={}, actor="test")
    lease = registry.expansions.take_lease(expansion.id, "test")
    assert lease is not None
    languages = {
        "de": {"shared": {"moved": True}},
        "zu": {"shared": {"moved": False}},
        "tn": {"shared": {"moved": False, "unmeasured": ["de", "en", "ve"]}},
        "st": {"left_out": "dataset_too_small", "detail": "60 usable rows; at least 64 are needed"},
    }
    registry.expansions.succeed(lease, 1, 2, {"moved": True, "languages": languages})
    said = run(service, "expansions", expansion.id, "--watch").stdout.splitlines()
    assert said == [
        "The shared table is version 1 in release 2.",
        "zu is left out: the other languages would have lost too much.",
        "tn is left out: what de, ve would lose cannot be measured.",
        "st is left out: 60 usable rows; at least 64 are needed.",
    ]


def test_who_stops_watching_is_told_that_it_goes_on(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "gd.jsonl"
    file.write_text(make_rows(80))
    with monkeypatch.context() as patch:
        patch.setattr(Client, "stream_expansion", stops)
        ended = run(service, "learn", "gd", str(file), "--watch")
    (item,) = run_json(service, "expansions", "--limit", "1")["items"]
    assert ended.exit_code == 130 and item["state"] == "queued"
    assert f"`pictoglot expansions {item['id']} --watch` shows it again" in " ".join(ended.stderr.split())


def test_a_refused_dataset_names_the_first_lines_of_each_kind_and_a_count(service: Service, tmp_path: Path) -> None:
    service.put("orchard").raise_for_status()
    file = tmp_path / "cy.jsonl"
    rows_of = ({"caption": f"afal {n}", "picture": f"none-{n % 4}.jpg"} for n in range(80))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of))
    result = run(service, "learn", "cy", str(file))
    assert result.exit_code == 2
    assert "80 of 80 rows name pictures that are not in the gallery. Ids there look like `orchard`" in result.stderr
    assert "4 pictures missing, first: none-0.jpg, none-1.jpg, none-2.jpg, none-3.jpg" in result.stderr
    assert "  80 with a picture that is not in the gallery: lines 1, 2, 3, 4, 5, …\n" in result.stderr
    assert "pictoglot import" in result.stderr and "`--without-missing`" in result.stderr
    with_texts = [{"caption": f"afal {n}", "english": f"apple {n}", "picture": f"none-{n % 4}.jpg"} for n in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in with_texts))
    assert run(service, "learn", "cy", str(file), "--dry-run").exit_code == 2
    left = run_json(service, "learn", "cy", str(file), "--without-missing", "--dry-run")["report"]
    assert (left["usable"], left["with_picture"], left["with_english"], left["missing"]) == (80, 0, 80, 80)
    output = run(service, "learn", "cy", str(file), "--without-missing", "--dry-run").stdout
    assert "80 rows name pictures that are not in the gallery, and count only if they have another text." in output
    assert run_json(service, "assess", "cy", str(file), "--without-missing", "--dry-run")["report"]["missing"] == 80
    sent = run_json(service, "learn", "cy", str(file), "--without-missing")
    assert service.context.registry.expansions.get(sent["id"]).settings == {"without_missing": True}
    run_json(service, "expansions", sent["id"], "--cancel")
    file.write_text(make_rows(80) + '{"english": "no caption"}\n' * 40)
    said = run(service, "learn", "cy", str(file)).stderr
    assert "40 without a caption. The text in the new language stands under the key `caption`" in said
    assert "  40 without a caption: lines 81, 82, 83, 84, 85, …\n" in said


def test_swapped_columns_are_asked_about_and_taught_when_confirmed(
    fresh: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "br.csv").write_text("caption,english\n" + "".join(f"{e},{b}\n" for b, e in BRETON))
    refused = run(fresh, "learn", "br", str(file), "--replace")
    assert (
        refused.exit_code == 2 and "add `--yes`" in refused.stderr and "  the big dog | ar c'hi bras" in refused.stderr
    )
    assert "seem to be swapped: what should be Breton is English" in refused.stderr
    doubted = run_json(fresh, "learn", "br", str(file), "--dry-run")
    assert [doubt["code"] for doubt in doubted["doubts"]] == ["columns_swapped"]
    assert doubted["sample"][0] == {"line": 2, "caption": "the big dog", "text": "ar c'hi bras", "language": "en"}
    monkeypatch.setattr(terminal, "has_person", lambda: True)
    before = run_json(fresh, "expansions")
    declined = run(fresh, "learn", "kw", str(file), input="n\n")
    assert "The first rows, Cornish (kw) | English (en):\n  the big dog | ar c'hi bras" in declined.stdout
    assert declined.exit_code == 0 and run_json(fresh, "expansions") == before
    assert run(fresh, "learn", "kw", str(file), input="y\n").exit_code == 0
    (sent, *_) = run_json(fresh, "expansions")["items"]
    assert sent["language"] == "kw" and [doubt["code"] for doubt in sent["doubts"]] == ["columns_swapped"]
    swapped = run(fresh, "learn", "br", str(file), "--replace", input="swap\ny\n")
    assert "[y/N/swap]" in swapped.stdout and "\n  ar c'hi bras | the big dog" in swapped.stdout
    yes = run(fresh, "learn", "gv", str(file), "--yes")
    assert yes.exit_code == 0 and "terms" not in yes.stdout


def test_columns_are_swapped_by_an_option(service: Service, tmp_path: Path) -> None:
    (file := tmp_path / "br.csv").write_text("caption,english\n" + "".join(f"{e},{b}\n" for b, e in BRETON))
    checked = run_json(service, "learn", "br", str(file), "--swap", "--dry-run")
    assert checked["sample"][0]["caption"] == "ar c'hi bras"
    assert not [doubt for doubt in checked["doubts"] if doubt["code"] == "columns_swapped"]


def test_a_person_at_a_terminal_is_asked_for_the_terms_of_a_language_without_any(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "lb.csv").write_text("caption,english\n" + "".join(f"{b},{e}\n" for b, e in BRETON))
    piped = run(service, "learn", "mi", str(file), "--yes")
    assert "terms" not in piped.stdout
    monkeypatch.setattr(terminal, "has_person", lambda: True)
    asked = run(service, "learn", "rm", str(file), "--replace", input="y\nPro Svizra\n\nask@example.org\n")
    assert asked.exit_code == 0 and "Romansh (rm) has no terms yet" in asked.stdout
    terms = run_json(service, "terms", "rm")
    assert (terms["owner"], terms["licence"], terms["contact"]) == ("Pro Svizra", "", "ask@example.org")
    run_json(service, "expansions", run_json(service, "expansions")["items"][0]["id"], "--cancel")
    assert "no terms yet" not in run(service, "learn", "rm", str(file), "--replace", input="y\n").stdout


@pytest.fixture
def queued(english: Service, tmp_path: Path) -> Iterator[str]:
    """The id of an expansion that teaches Welsh; its dataset is `cy.jsonl`."""
    (tmp_path / "cy.jsonl").write_text(make_rows(80))
    id = str(run_json(english, "learn", "cy", str(tmp_path / "cy.jsonl"))["id"])
    yield id
    english.admin.post(f"/v1/expansions/{id}/cancel")


def fail(english: Service, id: str, detail: str, refused_by: str, **more: Any) -> None:
    """End the expansion at the gate, as a worker ends it; in whatever way, it has gained nothing."""
    registry = english.context.registry
    lease = registry.expansions.take_lease(id, "test")
    assert lease is not None
    report = {"gain": {"enough": False}, "refused_by": refused_by, **more}
    registry.expansions.fail(lease, "gate_failed", detail, report)


def test_who_teaches_twice_is_told_how_to_watch_the_first(english: Service, queued: str, tmp_path: Path) -> None:
    again = run(english, "assess", "cy", str(tmp_path / "cy.jsonl"))
    assert again.exit_code == 2
    assert f"`pictoglot expansions {queued} --watch` shows its progress." in again.stderr
    other = run(english, "learn", "br", str(tmp_path / "cy.jsonl")).stdout
    id = other.split()[1]
    assert other == f"Expansion {id} is queued.\nWatch it with `pictoglot expansions {id} --watch`.\n"
    english.admin.post(f"/v1/expansions/{id}/cancel").raise_for_status()


@pytest.mark.parametrize("refused_by", ["gain", "floor"])
def test_why_one_failed_is_told_without_watching_and_with_a_way_out_only_where_there_is_one(
    english: Service, queued: str, refused_by: str
) -> None:
    fail(english, queued, "Welsh is read worse", refused_by)
    result = run(english, "expansions", queued)
    assert "gate failed" in result.stdout and "Welsh is read worse." in result.stderr
    assert ("`pictoglot learn cy FILE --force`" in result.stderr) == (refused_by == "gain")
    watched = run(english, "expansions", queued, "--watch")
    assert (watched.exit_code, watched.stderr) == (1, f"cy failed.\n{result.stderr}")
    assert "`pictoglot expansions ID` says why one of them failed." in run(english, "expansions").stderr
    assert run_json(english, "expansions", queued)["error"]["code"] == "gate_failed"


def test_what_was_to_replace_is_forced_as_that(english: Service, queued: str) -> None:
    fail(english, queued, "Welsh is read worse", "gain", replaced={"datasets": 1}, dataset={"missing": 2})
    output = run(english, "expansions", queued).stderr
    assert "`pictoglot learn cy FILE --replace --without-missing --force`" in output


def test_a_watch_says_that_it_waits_for_a_service_that_is_away(
    english: Service, queued: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("client.commands.languages.errors", Console(file=terminal, force_terminal=True, width=120))

    def pause(seconds: float, stopping: object = None) -> None:
        if not seconds:  # before a request
            return
        assert seconds >= 0.5, "a service that stops is not asked again at once"
        wait_until(lambda: "waiting for the service" in terminal.getvalue())  # the bar draws ten times a second
        english.context.stopping.clear()
        english.admin.post(f"/v1/expansions/{queued}/cancel").raise_for_status()

    english.context.stopping.set()  # its streams end at once
    monkeypatch.setattr("client.api.pause", pause)
    assert run(english, "expansions", queued, "--watch").exit_code == 1
    last = terminal.getvalue().split("waiting for the service")[-1]
    assert "cancelled" in last, "what it is at is shown again"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as asking:
        for number in range(100):
            asking.put(f"p{number}").raise_for_status()
        yield asking


def test_words_are_listed_with_their_pictures(asking: Service) -> None:
    asked = run_json(asking, "words", "cy", "--count", "5")
    head, *lines = run(asking, "words", "cy", "--count", "5").stdout.splitlines()
    assert head.split("\t") == ["word", "pictures"]
    assert lines == [f"{each['english']}\t{', '.join(each['pictures'])}" for each in asked["items"]]
    assert run(asking, "words", "cy").stderr.splitlines() == ["0.0 % of the pictures have a word already."]


def test_a_table_that_is_filled_in_in_part_teaches(asking: Service, tmp_path: Path) -> None:
    sheet = tmp_path / "ask.csv"
    said = run(asking, "words", "cy", "--count", "60", "--out", str(sheet)).stdout
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
    report = run_json(asking, "learn", "cy", str(sheet), "--dry-run")["report"]
    assert report["format"] == "sheet"
    assert (report["rows"], report["usable"], report["unanswered"], report["faults"]) == (70, 70, 20, {})
    assert report["with_picture"] == 0 and report["with_english"] == 70
    shown = run(asking, "learn", "cy", str(sheet), "--dry-run").stdout
    assert "20 words are not answered yet and left out." in shown.splitlines()


def test_no_spreadsheet_runs_the_id_of_a_picture(tmp_path: Path) -> None:
    sheet = tmp_path / "ask.csv"
    with running(tmp_path / "home") as service:
        for seed, id in enumerate(("=1+1", "+1", "-1", "@SUM(1)")):
            service.put(id, picture(seed)).raise_for_status()
        run(service, "words", "cy", "--count", "9", "--out", str(sheet))
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        shown = [row["pictures"] for row in csv.DictReader(stream)]
    assert shown and all(each[:2] in ("'=", "'+", "'-", "'@") for each in shown)


def test_a_table_without_an_answer_is_too_small(asking: Service, tmp_path: Path) -> None:
    sheet = tmp_path / "ask.csv"
    run(asking, "words", "cy", "--count", "60", "--out", str(sheet))
    refused = run(asking, "learn", "cy", str(sheet))
    assert refused.exit_code == 2 and "dataset_too_small" in refused.stderr


def test_what_was_answered_is_taught_by_one_command(asking: Service) -> None:
    words = [{"english": f"thing {n}", "captions": [f"peth {n}"]} for n in range(70)]
    asking.admin.post("/v1/languages/br/words", json={"words": words[:60]}).raise_for_status()
    assert "60 answers are kept; 4 more and it can be taught." in run(asking, "words", "br").stderr
    assert "dataset_too_small" in run(asking, "words", "br", "--teach").stderr
    asking.admin.post("/v1/languages/br/words", json={"words": words}).raise_for_status()
    assert "70 answers are kept; `pictoglot words br --teach` teaches them." in run(asking, "words", "br").stderr
    assert run_json(asking, "words", "br", "--teach")["language"] == "br"
