"""Settings: bounds, unknown names, secrets that are not shown."""

from pathlib import Path

import pytest

from client.settings import list_names
from service.settings import Settings
from store.settings import SettingsError
from worker.settings import WorkerSettings

CLIENT = {"URL", "KEY", "IMMICH_UPSTREAM", "IMMICH_MODEL"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `.env` of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)


def test_every_setting_of_every_process_is_a_known_name() -> None:
    fields = {name.upper() for settings in (Settings, WorkerSettings) for name in settings.model_fields}
    assert fields | CLIENT == list_names()


def test_each_process_accepts_the_settings_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_LEASE_SECONDS", "20")
    monkeypatch.setenv("PICTOGLOT_PORT", "1234")
    monkeypatch.setenv("PICTOGLOT_KEY", "pk_x")
    assert Settings.load().port == 1234
    assert WorkerSettings.load().lease_seconds == 20


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("HOME=/elsewhere\nPICTOGLOT_PORT=1111\nPICTOGLOT_THREADS=2\n")
    monkeypatch.setenv("PICTOGLOT_PORT", "2222")
    settings = Settings.load()
    assert (settings.port, settings.threads, settings.home) == (2222, 2, tmp_path / "var")


def test_an_unknown_name_in_a_file_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PICTOGLOT_COLOUR=red\n")
    with pytest.raises(SettingsError, match="PICTOGLOT_COLOUR"):
        Settings.load()


@pytest.mark.row("F2")
def test_a_file_is_read_as_it_is_written_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_SECRET", "s3cret")
    (tmp_path / ".env").write_text("PICTOGLOT_HOME=/data/${CLOUD_SECRET}\nPICTOGLOT_THREADS=many\n")
    for settings in (Settings, WorkerSettings):
        with pytest.raises(SettingsError, match=rf"^PICTOGLOT_THREADS \(in {tmp_path}/\.env\): "):
            settings.load()
    monkeypatch.setenv("PICTOGLOT_THREADS", "2")
    for settings in (Settings, WorkerSettings):
        assert str(settings.load().home) == "/data/${CLOUD_SECRET}"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PICTOGLOT_HOME=\xff\n")
    with pytest.raises(SettingsError, match="UTF-8"):
        Settings.load()


@pytest.mark.parametrize("url", ["s3cret", "mysql://u:s3cret@h/d", "sqlite://", "postgresql:d"])
def test_a_refusal_names_the_setting_and_not_its_value(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("DATABASE_URL", "THREADS"):
        monkeypatch.setenv(f"PICTOGLOT_{name}", url)
        for settings in (Settings, WorkerSettings):
            with pytest.raises(SettingsError, match=rf"^PICTOGLOT_{name}: ") as refusal:
                settings.load()
            assert "s3cret" not in str(refusal.value)
        monkeypatch.delenv(f"PICTOGLOT_{name}")


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        admin_key="s3cret-admin-key", database_url="postgresql://u:s3cret@h/d", broker_url="redis://:s3cret@h"
    )
    assert "s3cret" not in repr(settings) + str(settings)


@pytest.mark.parametrize("url", ["", "redis://:p@h:6379/0", "rediss://h/0"])
def test_brokers_that_are_tested_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PICTOGLOT_BROKER_URL", url)
    assert Settings.load().broker_url == url


def test_an_ipv6_address_is_put_in_brackets() -> None:
    assert Settings(host="::1", port=0).make_address(81) == "http://[::1]:81"
    assert Settings(host="localhost", port=80).make_address() == "http://localhost:80"


def test_every_field_has_a_description() -> None:
    for settings in (Settings, WorkerSettings):
        assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_an_empty_data_root_is_not_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_HOME", "")
    for settings in (Settings, WorkerSettings):
        with pytest.raises(SettingsError, match=r"^PICTOGLOT_HOME: must name a folder"):
            settings.load()
    monkeypatch.setenv("PICTOGLOT_HOME", ".")
    assert Settings.load().home == Path.cwd()


@pytest.mark.parametrize(("name", "value"), [("INDEX", "milvus+http://milvus:19530"), ("STORE", "s3://bucket/here")])
def test_what_needs_an_extra_that_is_not_installed_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PICTOGLOT_{name}", value)
    Settings.load()  # here it is
    monkeypatch.setattr("store.settings.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=f"PICTOGLOT_{name}.*extra"):
        Settings.load()


def test_pgvector_is_refused_without_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_INDEX", "pgvector")
    with pytest.raises(SettingsError, match=r"^PICTOGLOT_INDEX: pgvector needs PICTOGLOT_DATABASE_URL to be .*\.$"):
        Settings.load()
    monkeypatch.setenv("PICTOGLOT_DATABASE_URL", "postgresql+psycopg://db/pictoglot")
    assert Settings.load().index == "pgvector"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("BROKER_URL", value) for value in ("amqp://h", "foo")),
        *(("INDEX", value) for value in ("milvus", "milvus+", "qdrant", "pgvector+x", "")),
    ],
)
def test_a_broker_or_an_index_of_another_kind_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PICTOGLOT_{name}", value)
    with pytest.raises(SettingsError, match=f"PICTOGLOT_{name}"):
        Settings.load()
