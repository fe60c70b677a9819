"""The rate of a key and the limits of a body, without a server."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.auth import Rate
from service.bodies import BodyReader
from service.problems import BodyTimeout, ClientLeft, Malformed, RateLimited, TooLarge
from service.settings import Settings
from tests.patience import PATIENCE


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    now = 0.0
    rate = Rate(60, clock=lambda: now)  # ten at once, one a second
    for _ in range(10):
        rate.take("a")
    with pytest.raises(RateLimited) as refusal:
        rate.take("a")
    assert refusal.value.extra == {"retry_after_seconds": 1}
    rate.take("b")
    now = 1.0
    rate.take("a")
    with pytest.raises(RateLimited):
        rate.take("a")


def test_a_rest_gives_no_more_than_one_burst() -> None:
    now = 0.0
    rate = Rate(60, clock=lambda: now)
    rate.take("a")
    now = 10_000.0
    for _ in range(10):
        rate.take("a")
    with pytest.raises(RateLimited):
        rate.take("a")


def test_the_counts_of_ten_thousand_keys_are_kept_and_no_more() -> None:
    rate = Rate(6, clock=lambda: 0.0)  # one at once
    for number in range(10_000):
        rate.take(f"key {number}")
    with pytest.raises(RateLimited):
        rate.take("key 0")
    rate.take("one more")
    rate.take("key 0")


def test_clients_in_a_closed_loop_never_reach_the_default_rate() -> None:
    now = 0.0
    rate = Rate(Settings().rate_per_minute, clock=lambda: now)
    for _ in range(60_000):  # a minute of a thousand a second, more than one process answers
        rate.take("anonymous")
        now += 0.001


def part(size: int, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": bytes(size), "more_body": more}


def read(
    parts: Sequence[dict[str, Any]], limit: int = 100, declared: int | None = None, seconds: float = PATIENCE
) -> int:
    """How many bytes come through."""
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(PATIENCE)
        return waiting.pop(0)

    async def all_of_it() -> int:
        headers = [] if declared is None else [(b"content-length", str(declared).encode())]
        body = BodyReader({"headers": headers}, receive)
        body.allow(limit, seconds)
        size = 0
        while True:
            message = await body.receive()
            size += len(message["body"])
            if not message["more_body"]:
                return size

    return asyncio.run(all_of_it())


def test_both_sides_of_the_limit() -> None:
    assert read([part(60), part(40, more=False)]) == 100
    with pytest.raises(TooLarge):
        read([part(60), part(41, more=False)])


def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    with pytest.raises(TooLarge):
        read([], declared=101)
    assert read([part(100, more=False)], declared=100) == 100


def test_more_than_was_declared_is_malformed() -> None:
    with pytest.raises(Malformed):
        read([part(11, more=False)], declared=10)


def test_a_body_that_stops_coming_is_a_timeout() -> None:
    with pytest.raises(BodyTimeout):
        read([part(1)], seconds=0.05)


def test_a_client_that_leaves_within_its_body_ends_the_request() -> None:
    with pytest.raises(ClientLeft):
        read([part(1), {"type": "http.disconnect"}])


def test_without_an_allowance_nothing_may_be_read() -> None:
    async def unallowed() -> None:
        async def receive() -> dict[str, Any]:
            return part(1, more=False)

        await BodyReader({"headers": []}, receive).receive()

    with pytest.raises((TooLarge, BodyTimeout)):
        asyncio.run(unallowed())
