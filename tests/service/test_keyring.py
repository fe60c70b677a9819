"""The copy of the keys that requests are checked against: its age, its readings, and a registry that is away."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from starlette.requests import Request

from service.people import People
from service.problems import InvalidApiKey, RateLimited
from service.settings import Settings
from store.errors import RegistryUnavailable
from store.keys import ApiKey, ApiKeys
from store.registry import Registry, open_registry
from tests.patience import bound_time
from tests.registries import make_registry

pytestmark = pytest.mark.anyio


class Source:
    """Real keys of a registry; counts the readings, and can be away."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.keys = registry, ApiKeys(registry)
        self.readings = 0
        self.away = False
        self.hangs = Event()

    def __call__(self) -> Sequence[ApiKey]:
        self.readings += 1
        while self.hangs.is_set():
            time.sleep(0.02)
        if self.away:
            raise RegistryUnavailable
        return self.keys.list()

    def new(self, expires_at: datetime | None = None) -> str:
        return self.keys.create("search", "test", expires_at)[1]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    registry = open_registry(make_registry(tmp_path / "registry.db"))
    yield Source(registry)
    registry.close()


def make_people(source: Callable[[], Sequence[ApiKey]], count_invalid: Callable[[], None] = lambda: None) -> People:
    return People(Settings(), "", source, count_invalid)


async def identify(people: People, plain: str) -> str:
    return await ask(people, {"x-api-key": plain})


async def ask(people: People, headers: dict[str, str]) -> str:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return (await people.identify(Request({"type": "http", "method": "GET", "headers": sent}))).id


def guess(number: int) -> str:
    return f"pk_{number:012x}_{'x' * 43}"


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monotonic = time.monotonic
        monkeypatch.setattr("service.people.time.monotonic", lambda: monotonic() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_all_guesses_at_once_share_few_readings_and_a_new_key_is_found_beside_them(source: Source) -> None:
    people = make_people(source)
    calls = [identify(people, guess(number)) for number in range(500)]
    outcomes = await asyncio.gather(*calls, identify(people, source.new()), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [InvalidApiKey] * 500 + [str]
    assert source.readings <= 3


async def test_guesses_one_after_another_wait_for_their_reading(source: Source) -> None:
    people = make_people(source)
    started = time.monotonic()
    for number in range(4):
        with pytest.raises(InvalidApiKey):
            await identify(people, guess(number))
    assert source.readings == 4
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("form", ["wrong", "xx_{id}_{secret}", "pk_{id}", "pk_{id}_é", "pk_new_" + "x" * 300])
async def test_what_has_not_the_form_of_a_key_causes_no_reading(source: Source, form: str) -> None:
    _, id, secret = source.new().split("_", 2)
    with pytest.raises(InvalidApiKey):
        await identify(make_people(source), form.format(id=id, secret=secret))
    assert source.readings == 0


async def test_keys_that_are_not_valid_any_more_cause_no_reading_each(source: Source) -> None:
    expired, revoked = source.new(datetime.now(UTC) - timedelta(seconds=1)), source.new()
    source.keys.revoke(revoked.split("_")[1])
    people = make_people(source)
    for plain in (expired, revoked, revoked + "x") * 20:
        with pytest.raises(InvalidApiKey):
            await identify(people, plain)
    assert source.readings == 1


async def test_a_valid_key_is_read_again_after_five_seconds_only(source: Source, clock: Clock) -> None:
    people, plain = make_people(source), source.new()
    for _ in range(20):
        await identify(people, plain)
    assert source.readings == 1
    source.keys.revoke(plain.split("_")[1])  # by another process
    clock.ahead = 6
    with pytest.raises(InvalidApiKey):
        for _ in range(20):  # a reading that takes more than a quarter of a second is not waited for
            await identify(people, plain)
            await asyncio.sleep(0.1)


async def test_a_registry_that_hangs_holds_up_no_search_with_a_known_key(source: Source, clock: Clock) -> None:
    people, plain, others = make_people(source), source.new(), asyncio.all_tasks()
    await identify(people, plain)
    clock.ahead = 6
    source.hangs.set()
    try:
        with bound_time(2):  # one wait of a quarter of a second, not fifty
            for _ in range(50):
                await identify(people, plain)
    finally:
        source.away = True
        source.hangs.clear()
    while asyncio.all_tasks() - others:
        await asyncio.sleep(0.01)
    faults = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    gc.collect()
    assert not faults  # a reading that nobody waits for any more may fail


async def test_readings_that_take_long_are_rarer(source: Source) -> None:
    def read_slowly() -> Sequence[ApiKey]:
        time.sleep(0.05)
        return source.keys.list()

    people = make_people(read_slowly)
    began = time.perf_counter()
    for number in range(2):
        with pytest.raises(InvalidApiKey):
            await identify(people, guess(number))
    assert time.perf_counter() - began >= 1  # twenty times as long


async def test_a_key_of_a_scope_of_a_later_release_leaves_the_others_valid(source: Source) -> None:
    later = {"id": source.new().split("_")[1]}
    with source.registry.begin() as session:
        session.execute(text("UPDATE api_keys SET scope = 'auditor' WHERE id = :id"), later)
    plain = source.new()
    assert await identify(make_people(source), plain) == plain.split("_")[1]


async def test_a_key_that_was_read_expires_without_another_reading(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = timedelta(hours=1)
    people, plain = make_people(source), source.new(datetime.now(UTC) + hour)
    assert await identify(people, plain)
    monkeypatch.setattr("store.keys.datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + hour))
    with pytest.raises(InvalidApiKey):
        await identify(people, plain)
    assert source.readings == 1


async def test_a_key_revoked_here_while_it_is_read_is_refused(source: Source) -> None:
    plain = source.new()
    id = plain.split("_")[1]

    def read() -> Sequence[ApiKey]:
        keys = source()
        source.keys.revoke(id)  # before its record arrives
        people.keyring.revoke(id)
        return keys

    people = make_people(read)
    with pytest.raises(InvalidApiKey):
        await identify(people, plain)


async def test_while_the_registry_is_away_known_keys_are_good_for_an_hour(source: Source, clock: Clock) -> None:
    people, plain = make_people(source), source.new()
    id = await identify(people, plain)
    source.away = True
    clock.ahead = 3_500
    for _ in range(20):
        assert await identify(people, plain) == id
    assert source.readings == 2  # an absent registry is not asked for each request
    with pytest.raises(RegistryUnavailable):
        await identify(people, guess(1))
    clock.ahead = 3_700
    with pytest.raises(RegistryUnavailable):
        await identify(people, plain)
    source.away = False
    clock.ahead = 3_710
    assert await identify(people, plain) == id


async def test_a_client_that_leaves_stops_no_reading_for_others(source: Source) -> None:
    people, plain = make_people(source), source.new()
    leaving = asyncio.create_task(identify(people, guess(1)))
    staying = asyncio.create_task(identify(people, plain))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == plain.split("_")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Basic x"}, {"authorization": "Bearer"}, {"authorization": "x"}, {"x-api-key": ""},
        {"authorization": "Bearer x", "x-api-key": "x"}, {"x-api-key": guess(1)}, {},
    ],
)  # fmt: skip
async def test_each_request_without_a_valid_key_is_counted(source: Source, headers: dict[str, str]) -> None:
    def refuse() -> None:
        raise RateLimited("too many")

    with pytest.raises(RateLimited):
        await ask(make_people(source, refuse), headers)
