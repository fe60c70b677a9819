"""Tests for API keys: shown once, compared in constant time, revoked, expired, refused in any odd form."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import StatementError

from model.errors import KeyNotFound
from model.registry import Registry
from model.registry.tables import KeyRow


def test_a_key_is_known_by_its_text(registry: Registry) -> None:
    key, plaintext = registry.keys.create("write", "build server")
    assert plaintext.startswith(f"pk_{key.id}_") and len(plaintext) == 3 + len(key.id) + 1 + 43
    assert registry.keys.check(plaintext) == key
    assert registry.keys.list() == [key]


def test_only_a_digest_is_stored(registry: Registry) -> None:
    key, plaintext = registry.keys.create("write", "build server")
    secret = plaintext.removeprefix(f"pk_{key.id}_")
    with registry.read() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert bytes(row.secret_sha256) == hashlib.sha256(secret.encode()).digest()
    assert secret not in str(row)


ODD = [
    *("", "pk", "pk__", "pk_x_y", "_" * 9, "pk_{id}_", "pk_{id}_wrong", "xx_{id}_{secret}"),
    *("pk_{id}_{secret}x", "pk_{id}_{secret} ", "pk_{id}_ä", "\ud800", "ключ", "pk_' OR 1=1 --_x"),
    "pk_{id}_" + "x" * 10_000,
]


@pytest.mark.parametrize("odd", ODD)
def test_anything_else_is_not_a_key(registry: Registry, odd: str) -> None:
    key, plaintext = registry.keys.create("admin", "")
    secret = plaintext.removeprefix(f"pk_{key.id}_")
    assert registry.keys.check(odd.replace("{id}", key.id).replace("{secret}", secret)) is None


def test_a_key_of_256_bytes_is_looked_at_and_a_longer_one_is_not(registry: Registry) -> None:
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
    assert registry.keys.check("pk_6_" + "x" * 251) is not None
    assert registry.keys.check("pk_7_" + "x" * 252) is None


def test_a_revoked_key_is_no_key(registry: Registry) -> None:
    key, plaintext = registry.keys.create("write", "")
    registry.keys.revoke(key.id)
    first = registry.keys.list()[0].revoked_at
    registry.keys.revoke(key.id)
    assert registry.keys.check(plaintext) is None
    assert first is not None and registry.keys.list()[0].revoked_at == first


def test_an_expired_key_is_no_key(registry: Registry) -> None:
    now = datetime.now(UTC)
    _, past = registry.keys.create("write", "", now - timedelta(seconds=1))
    key, future = registry.keys.create("write", "", now + timedelta(hours=1))
    assert registry.keys.check(past) is None
    assert registry.keys.check(future) == key
    assert key.expires_at == now + timedelta(hours=1)


def test_a_time_without_a_zone_is_refused(registry: Registry) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        registry.keys.create("write", "", datetime(2030, 1, 1))  # noqa: DTZ001


def test_revoking_an_unknown_key_is_refused(registry: Registry) -> None:
    with pytest.raises(KeyNotFound):
        registry.keys.revoke("unknown")
