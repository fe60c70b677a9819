"""Tests for API keys: shown once, compared in constant time, revoked, expired, refused in any malformed form."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import StatementError

from store.errors import KeyNotFound
from store.keys import Key, Keys, id_of
from store.registry import Registry, open_registry
from store.tables import KeyRow
from tests.registries import empty_registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry(empty_registry(tmp_path / "registry.db"))
    yield registry
    registry.close()


@pytest.fixture
def keys(registry: Registry) -> Keys:
    return Keys(registry)


def check(keys: Keys, plaintext: str) -> Key | None:
    """The key with this text, as the service finds it."""
    key = {key.id: key for key in keys.list()}.get(id_of(plaintext) or "")
    return key if key and key.opens(plaintext) else None


def test_a_key_is_identified_by_its_text(keys: Keys) -> None:
    key, plaintext = keys.create("write", "build server")
    assert plaintext.startswith(f"pk_{key.id}_") and len(plaintext) == 3 + len(key.id) + 1 + 43
    assert check(keys, plaintext) == key
    assert keys.list() == [key]


def test_only_a_digest_is_stored(registry: Registry, keys: Keys) -> None:
    key, plaintext = keys.create("write", "build server")
    secret = plaintext.removeprefix(f"pk_{key.id}_")
    with registry.read() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert bytes(row.secret_sha256) == hashlib.sha256(secret.encode()).digest()
    assert secret not in str(row)


MALFORMED = [
    *("", "pk", "pk__", "pk_x_y", "_" * 9, "pk_{id}_", "pk_{id}_wrong", "xx_{id}_{secret}"),
    *("pk_{id}_{secret}x", "pk_{id}_{secret} ", "pk_{id}_ä", "\ud800", "ключ", "pk_' OR 1=1 --_x"),
    "pk_{id}_" + "x" * 10_000,
]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_anything_else_is_not_a_key(registry: Registry, keys: Keys, malformed: str) -> None:
    key, plaintext = keys.create("admin", "")
    secret = plaintext.removeprefix(f"pk_{key.id}_")
    assert check(keys, malformed.replace("{id}", key.id).replace("{secret}", secret)) is None


def test_a_key_of_256_bytes_is_checked_and_a_longer_one_is_refused(registry: Registry, keys: Keys) -> None:
    with registry.begin() as session:
        for length in (256, 257):
            secret = "x" * (length - 5)
            session.execute(
                insert(KeyRow),
                {
                    "id": str(length % 10),
                    "secret_sha256": hashlib.sha256(secret.encode()).digest(),
                    "scope": "search",
                    "label": "",
                },
            )
    assert check(keys, "pk_6_" + "x" * 251) is not None
    assert check(keys, "pk_7_" + "x" * 252) is None


def test_a_revoked_key_is_no_key(keys: Keys) -> None:
    key, plaintext = keys.create("write", "")
    keys.revoke(key.id)
    first = keys.list()[0].revoked_at
    keys.revoke(key.id)
    assert check(keys, plaintext) is None
    assert first is not None and keys.list()[0].revoked_at == first


def test_an_expired_key_is_no_key(keys: Keys) -> None:
    now = datetime.now(UTC)
    _, past = keys.create("write", "", now - timedelta(seconds=1))
    key, future = keys.create("write", "", now + timedelta(hours=1))
    assert check(keys, past) is None
    assert check(keys, future) == key
    assert key.expires_at == now + timedelta(hours=1)


def test_a_time_without_a_zone_is_refused(keys: Keys) -> None:
    with pytest.raises(StatementError, match="needs a time zone"):
        keys.create("write", "", datetime(2030, 1, 1))  # noqa: DTZ001


def test_revoking_an_unknown_key_is_refused(keys: Keys) -> None:
    with pytest.raises(KeyNotFound):
        keys.revoke("unknown")
