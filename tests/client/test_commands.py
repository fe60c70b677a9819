"""The client commands, `search` and `duplicates` too, against a real server: messages, JSON, exit statuses."""

import json
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console
from typer.testing import CliRunner, Result

from client import terminal
from client.commands import app
from service.commands.doctor import Checkup
from service.commands.run import choose_defaults
from tests.http_server import serve
from tests.service.harness import ADMIN_KEY, Service, learn, picture, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two pictures, English and German."""
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("de")
        for id, english, german in (("p0", "a red apple", "ein roter Apfel"), ("p1", "a dog", "ein Hund")):
            assert service.put(id, en=[english], de=[german]).status_code == 201
        service.context.live.refresh()
        yield service


def run(service: Service | None, *arguments: str, key: str = ADMIN_KEY, **more: Any) -> Result:
    """Return result of a command; without a service, at an address where no server is."""
    url = service.url if service else "http://127.0.0.1:9"
    return CliRunner().invoke(
        app, arguments, env={"PICTOGLOT_URL": url, "PICTOGLOT_KEY": key, "COLUMNS": "200"}, **more
    )


def run_json(service: Service, *arguments: str) -> Any:
    result = run(service, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def make_rows(count: int) -> str:
    return "".join(json.dumps({"caption": f"afal {n}", "english": f"apple {n}"}) + "\n" for n in range(count))


def test_a_search_shows_captions_in_the_language_that_was_used(service: Service) -> None:
    result = run(service, "search", "ein roter Apfel", "--language", "de")
    assert result.exit_code == 0
    assert "ein roter Apfel" in result.stdout
    assert "a red apple" not in result.stdout
    assert "Read as de (requested)" in result.stderr


def test_json_is_the_answer_of_the_service(service: Service) -> None:
    answer = service.search("a dog", language="en", limit=1).json()
    assert run_json(service, "search", "a dog", "--language", "en", "--limit", "1")["items"] == answer["items"]


def test_with_json_nothing_is_said_to_people_but_errors(service: Service) -> None:
    for arguments in (("search", "ein Hund"), ("languages",), ("duplicates",), ("base", "status")):
        run_json(service, *arguments)
        assert run(service, *arguments, "--json").stderr == ""
    wrong = run(service, "pictures", "show", "nobody", "--json")
    assert wrong.exit_code == 2 and wrong.stdout == "" and "picture_not_found" in wrong.stderr
    assert "serves; the shared table" in run(service, "languages").stderr, "the next command speaks to people"


def test_a_picture_finds_itself_and_its_captions(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "p0.png"
    file.write_bytes(picture(sum(b"p0")))
    similar = run_json(service, "search", "--picture", str(file), "--language", "de")["items"][0]
    assert (similar["id"], similar["captions"]) == ("p0", {"de": ["ein roter Apfel"], "en": ["a red apple"]})
    assert "ein roter Apfel" in run(service, "search", "--picture", str(file), "--language", "de").stdout
    assert "a red apple" in run(service, "search", "--picture", str(file)).stdout
    captions = run_json(service, "search", "--picture", str(file), "--captions", "--language", "de")
    assert {item["language"] for item in captions["items"]} == {"de"}
    for by in (("--picture", str(file)), ("--like", "p0")):
        assert run_json(service, "search", *by, "--captions", "--collection", "default")["items"]
        assert run_json(service, "search", *by, "--captions", "--collection", "other")["items"] == []


@pytest.mark.parametrize(
    "arguments", [("search",), ("search", "x", "--limit", "0"), ("search", "x", "--captions"), ("nonsense",)]
)
def test_wrong_usage_has_status_2(service: Service, arguments: tuple[str, ...]) -> None:
    assert run(service, *arguments).exit_code == 2


def test_a_refusal_is_a_sentence_and_has_status_2(service: Service) -> None:
    result = run(service, "search", "x", "--language", "cy")
    assert result.exit_code == 2
    assert "Language not found: language not available; available: de, en." in result.stderr
    assert "language_not_found · request" in result.stderr


def test_no_service_is_a_sentence_and_has_status_1() -> None:
    result = run(None, "languages")
    assert result.exit_code == 1
    assert "No service answers at http://127.0.0.1:9" in result.stderr


def test_a_certificate_that_is_not_trusted_is_told_from_a_service_that_is_away(tmp_path: Path) -> None:
    own, context = tmp_path / "own.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.write_bytes(make_certificate())
    context.load_cert_chain(own)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serve(server):
        env = {"PICTOGLOT_URL": f"https://127.0.0.1:{server.server_port}", "PICTOGLOT_KEY": "x"}
        result = CliRunner().invoke(app, ["languages"], env=env)
    assert result.exit_code == 1 and "self-signed" in result.stderr and "SSL_CERT_FILE" in result.stderr


def make_certificate() -> bytes:
    """Make a key, and a certificate that it signs itself, as PEM."""
    key, name, day = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    valid = builder.not_valid_before(datetime.now(UTC) - day).not_valid_after(datetime.now(UTC) + day)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    certificate = valid.sign(key, hashes.SHA256()).public_bytes(pem)
    return certificate + key.private_bytes(pem, form, serialization.NoEncryption())


def test_an_invalid_address_is_reported() -> None:
    result = CliRunner().invoke(app, ["languages"], env={"PICTOGLOT_URL": "nowhere", "PICTOGLOT_KEY": ""})
    assert result.exit_code == 2
    assert "PICTOGLOT_URL" in result.stderr


def test_without_an_address_the_service_of_the_same_settings_is_asked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PICTOGLOT_URL", raising=False)
    own = {"PICTOGLOT_PORT": str(service.port), "PICTOGLOT_KEY": ADMIN_KEY}
    for host in ("127.0.0.1", "0.0.0.0"):
        result = CliRunner().invoke(app, ["languages"], env={**own, "PICTOGLOT_HOST": host})
        assert result.exit_code == 0, result.output
    nobody = CliRunner().invoke(app, ["languages"], env={**own, "PICTOGLOT_HOST": "::1"})
    assert f"http://[::1]:{service.port}" in nobody.stderr
    wrong = CliRunner().invoke(app, ["languages"], env={**own, "PICTOGLOT_PORT": "many"})
    assert wrong.exit_code == 78 and "PICTOGLOT_PORT" in wrong.stderr


@pytest.mark.parametrize("arguments", [("languages",), ("demo", "dataset", "de")], ids="-".join)
def test_an_unknown_variable_stops_a_client_command_with_one_sentence(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments, env={"PICTOGLOT_NONSENSE": "1"})
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == "PICTOGLOT_NONSENSE is not a setting of pictoglot.\n"


@pytest.mark.parametrize(
    ("given", "file", "missing"),
    [
        ("", "", {"PICTOGLOT_OPEN", "PICTOGLOT_LOG_LEVEL"}),
        ("", "PICTOGLOT_OPEN=0\n", {"PICTOGLOT_LOG_LEVEL"}),
        ("PICTOGLOT_LOG_LEVEL", "PICTOGLOT_OPEN=0\n", set()),
        ("", "PICTOGLOT_HOST=0.0.0.0\n", {"PICTOGLOT_LOG_LEVEL"}),  # only on loopback may everybody write
        ("", "PICTOGLOT_HOST=::1\n", {"PICTOGLOT_OPEN", "PICTOGLOT_LOG_LEVEL"}),
    ],
)
def test_the_demo_sets_only_what_is_not_set_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, file: str, missing: set[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PICTOGLOT_OPEN", "PICTOGLOT_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "info")
    (tmp_path / ".env").write_text(file)
    assert set(choose_defaults()) == missing


def test_a_missing_key_says_which_variable_to_set(service: Service) -> None:
    result = run(service, "releases", key="")
    assert result.exit_code == 2
    assert "PICTOGLOT_KEY" in result.stderr


def test_languages_are_listed_with_their_native_names(service: Service) -> None:
    result = run(service, "languages")
    assert "Deutsch" in result.stdout
    assert [item["language"] for item in run_json(service, "languages")["items"]] == ["de", "en"]


def test_no_share_of_a_few_held_out_captions_is_shown(tmp_path: Path) -> None:
    recall = {"R@1": 0.556, "R@5": 0.8, "R@10": 0.9}
    with running(tmp_path) as service:
        for tag, pairs in (("fr", 19), ("nl", 20)):
            learn(service.context.registry, tag, report={"pairs": pairs, "t2i": recall, "i2t": recall})
        service.context.live.refresh()
        result = run(service, "languages")
    french, dutch = (next(line for line in result.stdout.splitlines() if line.startswith(tag)) for tag in ("fr", "nl"))
    assert french.split()[-2:] == ["–", "–"] and dutch.split()[-2:] == ["55.6", "55.6"]
    assert "untaught" not in result.stdout  # nothing was assessed
    assert "No share is shown for fewer than 20 held-out captions: fr." in result.stderr


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_no_kind_of_proxy_is_used_for_this_machine(
    service: Service, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody answers there
    assert run_json(service, "languages")["release"] >= 2
    assert "serves release" in str(Checkup(service.context.settings, service.url).check("service"))


@pytest.mark.parametrize("id", ["tree#2", "tree?x=1", "../languages", "..", ""])
def test_an_id_is_never_a_part_of_an_address(service: Service, id: str) -> None:
    assert service.put("tree").status_code in {200, 201}
    assert run(service, "pictures", "delete", id).exit_code == 2
    assert service.admin.get("/v1/pictures/tree").status_code == 200


@pytest.mark.parametrize("arguments", [("x", "--min-score", "nan"), ("x", "--min-score", "inf"), ("\udcff",)])
def test_what_cannot_be_sent_is_one_sentence(service: Service, arguments: tuple[str, ...]) -> None:
    result = run(service, "search", *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "PICTOGLOT" not in result.stderr


def test_a_table_fits_a_terminal_and_has_tabs_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, id = ("id", "state", "result"), "exp_01m8farknbthstpd9t2a"
    cells = (id, "failed", "score 1:100 of [b]it[/b] :apple: " + "dataset language mismatch " * 3)
    terminal.print_table(columns, [cells])
    assert capsys.readouterr().out == "".join("\t".join(line) + "\n" for line in (columns, cells))
    monkeypatch.setattr(terminal, "console", Console(width=60, force_terminal=True, highlight=False, color_system=None))
    terminal.print_table(columns, [cells])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 60 and {*shown.split()} >= {id, ":apple:", "[b]it[/b]", "mismatch"}


@pytest.mark.parametrize(
    ("typed", "on_path", "named"),
    [
        ("bin/pictoglot", False, "bin/pictoglot"),
        ("my bin/pictoglot", False, "'my bin/pictoglot'"),
        ("bin/pictoglot", True, "pictoglot"),
        ("pytest", False, "pictoglot"),
    ],
)
def test_commands_are_named_as_they_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, on_path: bool, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(typed).parent.mkdir(exist_ok=True)
    Path(typed).touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [typed, "languages"])
    monkeypatch.setenv("PATH", str(Path(typed).parent.resolve()) if on_path else str(tmp_path / "empty"))
    assert f"Start one with `{named} up`" in run(None, "languages").stderr


def test_the_help_of_what_listens_names_the_variable_of_the_port() -> None:
    for command in (["up"], ["demo", "up"]):
        output = CliRunner().invoke(app, [*command, "--help"]).stdout
        assert "PICTOGLOT_PORT=8400 takes another port" in " ".join(output.split())


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three pictures, of which two are the same."""
    with running(tmp_path_factory.mktemp("home")) as gallery:
        for id, seed, caption in (("p0", 1, "a red apple"), ("p1", 1, "an apple"), ("p2", 2, "a dog")):
            assert gallery.put(id, picture(seed), en=[caption]).status_code == 201
        yield gallery


def search_ids(gallery: Service, *arguments: str) -> list[str]:
    return [hit["id"] for hit in run_json(gallery, "search", *arguments)["items"]]


def test_like_and_picture_take_an_id_and_the_picture_itself_is_not_found(gallery: Service, tmp_path: Path) -> None:
    assert search_ids(gallery, "--like", "p0") == search_ids(gallery, "--picture", "p0") == ["p1", "p2"]
    asked = {"text": "a cat", "picture": "p0", "minus": {"text": "a dog", "picture": "p2"}, "weights": {"text": 3}}
    answer = gallery.admin.post("/v1/search/pictures", json=asked).json()["items"]
    options = ("--like", "p0", "--minus", "a dog", "--minus-picture", "p2", "--weights", '{"text": 3}')
    assert search_ids(gallery, "a cat", *options) == [hit["id"] for hit in answer]
    file = tmp_path / "p2.png"
    file.write_bytes(picture(2))
    assert search_ids(gallery, "apple", "--picture", str(file), "--mode", "both")[0] in ("p0", "p1")
    assert {hit["picture"] for hit in run_json(gallery, "search", "--like", "p2", "--captions")["items"]} == {
        "p0",
        "p1",
        "p2",
    }


def test_words_are_a_mode(gallery: Service) -> None:
    assert search_ids(gallery, "APPLE", "--mode", "words") == ["p1", "p0"]
    assert search_ids(gallery, "apple", "--mode", "words", "--minus", "red") == ["p1"]
    assert "No picture was found." in run(gallery, "search", "zebra", "-m", "words").stdout
    narrow = run(gallery, "search", "apple", "-m", "words", "--collection", "museum")
    assert narrow.stdout == "The filter or collection leaves no picture.\n"


def test_a_text_of_no_language_that_is_known_is_not_said_to_be_read_as_one(gallery: Service) -> None:
    unknown = run(gallery, "search", "яблоко", "-l", "auto").stderr.splitlines()
    assert unknown[0].startswith("Language not certain (name it with --language): read with the shared table, version ")
    assert unknown[1] == "The text does not look like any of the learned languages."
    asked = run(gallery, "search", "apple", "-l", "shared").stderr.splitlines()
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
    gallery: Service, arguments: tuple[str, ...], said: str
) -> None:
    result = run(gallery, *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_duplicates_are_shown_as_groups(gallery: Service) -> None:
    result = run_json(gallery, "duplicates")
    assert [[each["id"] for each in group["pictures"]] for group in result["items"]] == [["p0", "p1"]]
    assert result["examined"] == 3 and result["complete"] is True
    shown = run(gallery, "duplicates")
    assert shown.exit_code == 0 and "p1" in shown.stdout and "3 pictures were compared." in shown.stderr
    other = json.dumps({"must_not": [{"key": "id", "match": {"value": "p1"}}]})
    assert "No two pictures are that alike." in run(gallery, "duplicates", "--filter", other).stdout
