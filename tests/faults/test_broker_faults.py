"""Brokers that are unreachable, killed or emptied: hints are late, nothing is lost and nothing is done twice."""

import logging
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from kombu import serialization

from tests.patience import PATIENCE, bound_time, insist
from tests.redis_server import RedisServer
from tests.service.harness import running
from tests.worker.harness import Site, assert_once, pairs
from worker.celery_app import HINT, HintRelay, create_app
from worker.settings import WorkerSettings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
NewSite = Callable[..., Site]
PICTURED = pairs("cy", picture=True)
REFUSED = "the broker does not accept hints"  # what a worker logs

LANGUAGES = (
    *("ga", "gd", "kw", "gv", "fo", "is", "sm", "to", "mi", "eu"),
    *("oc", "co", "sc", "fy", "lb", "rm", "nn", "se", "br", "cy"),
)


def take(site: Site, expansion: str) -> None:
    """Wait until a worker has it, and cancel it: what it would have done is of no interest here."""
    site.wait(expansion, lambda e: e.attempt > 0)
    insist(lambda: site.registry.expansions.cancel(expansion))


def lose_hint(site: Site, server: RedisServer, language: str) -> str:
    """Kill Redis while the worker is idle, and submit; returns the expansion when the first hint of it was refused."""
    # where it cannot acknowledge a hint, Celery hears no other one, and the worker ends after a minute
    site.wait_until(lambda: not server.client.exists("unacked"))
    refused = site.log().count(REFUSED)
    server.kill()
    expansion = site.submit(PICTURED, language)
    site.wait_until(lambda: site.log().count(REFUSED) > refused)
    return expansion


def restarts(site: Site, server: RedisServer, times: int) -> list[float]:
    """Kill Redis under submissions and start it again; the seconds from each start until a worker takes one."""
    seconds, submitted = list[float](), list[str]()
    for language in LANGUAGES[:times]:
        submitted.append(lose_hint(site, server, language))
        server.start()
        started = time.monotonic()
        take(site, submitted[-1])
        seconds.append(time.monotonic() - started)
    for expansion in submitted:  # none is lost, and none runs twice
        ended = site.finish(expansion)
        assert (ended.state, ended.attempt) == ("cancelled", 1)
    return seconds


@pytest.mark.row("K6")
def test_a_hint_that_is_lost_is_sent_again(site: Site, redis_server: RedisServer) -> None:
    redis_server.start()
    site.submit(PICTURED)
    app = create_app(WorkerSettings(home=site.home, base=site.base, broker_url=redis_server.url))
    relay = HintRelay(app, app.supervisor)
    for _ in range(2):
        relay.send_hints()
        assert redis_server.client.llen("celery") == 1
        redis_server.client.flushall()
    app.supervisor.registry.close()


@pytest.mark.row("E9", "S1")
def test_a_worker_asks_again_for_a_redis_that_comes_late_and_does_its_upkeep_meanwhile(
    new_site: NewSite, redis_server: RedisServer
) -> None:
    site = new_site(BROKER_URL=redis_server.url)
    waiting = site.submit([])  # fails at once: enough to see that it was looked at
    finished = site.submit(PICTURED, "br")
    site.registry.expansions.cancel(finished)
    (site.home / "expansions" / finished / "checkpoints" / "br" / "step-5").mkdir(parents=True)
    worker = site.start()
    site.wait_until(lambda: site.checkpoints(finished) == [])  # upkeep needs no Redis
    site.wait_until(lambda: worker.poll() is not None or site.log().count("Cannot connect to redis") > 1)
    assert worker.poll() is None and site.registry.expansions.get(waiting).state == "queued", site.log()
    redis_server.start()
    assert site.finish(waiting).state == "failed"


@pytest.mark.slow
@pytest.mark.row("K6", "S1")
def test_redis_that_is_killed_emptied_and_restarted_delays_but_loses_nothing(
    new_site: NewSite, redis_server: RedisServer, undisturbed: dict[str, str]
) -> None:
    redis_server.start()
    site = new_site(BROKER_URL=redis_server.url)
    first = site.submit(PICTURED)
    worker = site.start()
    site.wait(first, lambda e: e.state == "running")
    redis_server.kill()
    second = site.submit([], "br")
    assert_once(site, site.finish(first))
    assert site.weights(first) == undisturbed
    redis_server.start()
    redis_server.client.flushall()
    assert site.finish(second).state == "failed"
    restarts(site, redis_server, 2)
    last = site.submit(PICTURED, "kw")
    site.wait(last, lambda e: e.state == "running")
    redis_server.kill()
    site.wait_until(lambda: "the broker did not hear that a hint is done" in site.log())
    assert "Traceback" not in site.log() and '"critical"' not in site.log()
    assert worker.poll() is None


@pytest.mark.nightly
@pytest.mark.row("S1")
@pytest.mark.timeout(7_200)
def test_redis_killed_twenty_times_under_submissions_loses_none(new_site: NewSite, redis_server: RedisServer) -> None:
    redis_server.start()
    site = new_site(BROKER_URL=redis_server.url)
    site.start()
    site.wait_until(lambda: "the worker is ready" in site.log())  # before, it sends no hint that could be lost
    seconds = restarts(site, redis_server, 20)
    logging.getLogger(__name__).info("seconds until the worker consumed again: %s", seconds)
    assert max(seconds) < 60


def freeze(server: RedisServer) -> Callable[[], object]:
    """Let Redis answer nobody; what is returned ends that."""
    server.send_signal(signal.SIGSTOP)
    return partial(server.send_signal, signal.SIGCONT)


def fill(server: RedisServer) -> Callable[[], object]:
    """Let Redis refuse every write for want of memory; what is returned ends that."""
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", 1)
    return lambda: server.client.config_set("maxmemory", 0)


@pytest.mark.slow
@pytest.mark.row("S2")
@pytest.mark.parametrize("hinder", [fill, freeze])
def test_a_redis_that_is_full_or_stalled_hinders_no_search_and_no_submission(
    new_site: NewSite,
    redis_server: RedisServer,
    tmp_path: Path,
    hinder: Callable[[RedisServer], Callable[[], object]],
) -> None:
    redis_server.start()
    site = new_site(BROKER_URL=redis_server.url)
    worker = site.start()
    first = site.submit(PICTURED, "br")
    take(site, first)
    site.finish(first)
    with running(tmp_path / "api", broker_url=redis_server.url) as service:
        service.put("a")
        ended = hinder(redis_server)
        waiting = site.submit(PICTURED)
        with bound_time(60):  # whoever waits for Redis waits for ever; a busy machine checks a dataset in 20 s
            assert service.search("cat").status_code == 200
            rows = "".join(f'{{"caption": "ci {number}", "english": "dog {number}"}}\n' for number in range(100))
            answer = service.admin.post("/v1/languages", data={"language": "cy"}, files={"dataset": ("d.jsonl", rows)})
            assert answer.status_code == 202, answer.text
    site.wait(waiting, lambda _: REFUSED in site.log())  # the worker does not wait for ever
    assert site.registry.expansions.get(waiting).attempt == 0
    ended()
    take(site, waiting)
    assert site.finish(waiting).attempt == 1
    assert worker.poll() is None
    assert "unexpected error" not in site.log()


def test_a_worker_that_gives_up_ends_with_1(new_site: NewSite, redis_server: RedisServer) -> None:
    redis_server.start()
    redis_server.client.execute_command("ACL", "SETUSER", "default", "-brpop")  # type: ignore[no-untyped-call]
    site = new_site(BROKER_URL=redis_server.url)
    assert site.start().wait(PATIENCE) == 1
    assert "Unrecoverable error" in site.log()


class Poison:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.marker,))


@pytest.mark.row("K5", "K11")
def test_a_pickled_message_is_refused_and_one_delivered_three_times_to_two_workers_acts_once(
    new_site: NewSite, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.start()
    site = new_site(BROKER_URL=redis_server.url)
    marker = tmp_path / "executed"
    serialization.enable_insecure_serializers(["pickle"])  # type: ignore[no-untyped-call]
    expansion = site.submit(PICTURED)
    app = create_app(WorkerSettings(home=site.home, broker_url=redis_server.url))
    app.send_task(HINT, [Poison(marker)], serializer="pickle")
    for _ in range(3):
        app.send_task(HINT, [expansion])
    site.start()
    site.start()
    site.finish(expansion)
    site.wait_until(lambda: not redis_server.client.exists("celery", "unacked"))  # every hint was followed
    finished = site.registry.expansions.get(expansion)
    assert_once(site, finished)
    assert finished.attempt == 1
    assert not marker.exists()
