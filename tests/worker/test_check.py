"""`python -m worker` with options: a check that changes nothing and says in a sentence what is missing."""

import sqlite3
from pathlib import Path

import pytest

from store.registry import open_registry
from worker.__main__ import main

NO_TABLES = "The registry has no tables yet: it is made at the first start.\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of the settings that does not exist, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICTOGLOT_HOME", str(tmp_path / "var"))
    return tmp_path / "var"


@pytest.mark.parametrize(
    "other", [None, "sqlite:///{home}/other.db", "sqlite:///{home}/other.db?timeout=5", "postgresql"]
)
def test_a_check_where_nothing_is_yet_creates_nothing(
    home: Path,
    other: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if other is not None:
        url = request.getfixturevalue("postgresql_url") if other == "postgresql" else other.format(home=home)
        monkeypatch.setenv("PICTOGLOT_DATABASE_URL", url)
    assert main(["--check"]) == 1
    assert capsys.readouterr() == ("", NO_TABLES)
    assert not home.exists()


def test_a_check_of_a_file_without_our_tables_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "registry.db").touch()
    assert main(["--check"]) == 1
    assert [(path.name, path.stat().st_size) for path in home.iterdir()] == [("registry.db", 0)]
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == 2 * NO_TABLES


def test_a_check_of_what_is_no_database_is_a_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "registry.db").write_bytes(b"no database" * 1000)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "The registry's files are damaged: file is not a database\n"


@pytest.mark.parametrize("query", ["", "?timeout=5"])
def test_a_check_of_a_registry_is_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str
) -> None:
    open_registry(f"sqlite:///{home / 'registry.db'}").close()
    if query:
        monkeypatch.setenv("PICTOGLOT_DATABASE_URL", f"sqlite:///{home / 'registry.db'}{query}")
    assert main(["--check"]) == 0
    assert capsys.readouterr() == ("The registry answers.\n", "")


@pytest.mark.parametrize("arguments", [["--chek"], ["--chec"], ["check"], ["--check", "more"]])
def test_a_wrong_option_starts_no_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr("worker.__main__.run", lambda: pytest.fail("a worker was started"))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err
