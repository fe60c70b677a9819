"""Tests for API keys: shown once, compared in constant time, revoked, expired, refused in any malformed form."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import StatementError

from store.errors import KeyNotFound
from store.keys import ApiKey, ApiKeys, parse_key_id
from store.registry import Registry
from store.tables import KeyRow


@pytest.fixture
def keys(empty: Registry) -> ApiKeys:
    return ApiKeys(empty)


def check(keys: ApiKeys, plaintext: str) -> ApiKey | None:
    """Return the key with this text, as the service does."""
    key = {key.id: key for key in keys.list()}.get(parse_key_id(plaintext) or "")
    return key if key and key.is_opened_by(plaintext) else None


MALFORMED = [
    *("", "pk", "pk__", "pk_x_y", "_" * 9, "pk_{id}_", "pk_{id}_wrong", "xx_{id}_{secret}"),
    *("pk_{id}_{secret}x", "pk_{id}_{secret} ", "pk_{id}_ä", "\ud800", "ключ", "pk_' OR 1=1 --_x"),
    "pk_{id}_" + "x" * 10_000,
]


def test_anything_else_is_not_a_key(keys: ApiKeys) -> None:
    key, plaintext = keys.create("admin", "")
    secret = plaintext.removeprefix(f"pk_{key.id}_")
    for malformed in MALFORMED:
        assert check(keys, malformed.replace("{id}", key.id).replace("{secret}", secret)) is None, malformed


def test_a_key_of_256_bytes_is_checked_and_a_longer_one_is_refused(empty: Registry, keys: ApiKeys) -> None:
    with empty.begin() as session:
        for length in (256, 257):
            digest = hashlib.sha256(b"x" * (length - 5)).digest()
            session.add(KeyRow(id=str(length % 10), secret_sha256=digest, scope="search", label=""))
    assert check(keys, "pk_6_" + "x" * 251) is not None
    assert check(keys, "pk_7_" + "x" * 252) is None


def test_a_revoked_key_and_an_expired_one_are_no_keys(keys: ApiKeys) -> None:
    now = datetime.now(UTC)
    _, past = keys.create("write", "", now - timedelta(seconds=1))
    key, future = keys.create("write", "", now + timedelta(hours=1))
    assert check(keys, past) is None
    assert check(keys, future) == key and key.expires_at == now + timedelta(hours=1)
    keys.revoke(key.id)
    (first,) = (each.revoked_at for each in keys.list() if each.id == key.id)
    keys.revoke(key.id)
    assert check(keys, future) is None
    assert first is not None and [each.revoked_at for each in keys.list() if each.id == key.id] == [first]
    with pytest.raises(KeyNotFound):
        keys.revoke("unknown")
    with pytest.raises(StatementError, match="needs a time zone"):
        keys.create("write", "", datetime(2030, 1, 1))  # noqa: DTZ001
