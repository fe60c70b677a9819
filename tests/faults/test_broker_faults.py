"""Brokers that are unreachable, killed or emptied: hints are late, nothing is lost and nothing is done twice."""

import time
from collections.abc import Callable

import pytest

from tests.faults.redis_server import RedisServer
from tests.worker.harness import Site, assert_once, pairs
from worker.celery_app import create_app
from worker.settings import WorkerSettings
from worker.tasks import HINT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
NewSite = Callable[..., Site]
PICTURED = pairs("cy", picture=True)


@pytest.mark.row("E9")
def test_a_submission_without_a_broker_runs_when_it_comes(
    new_site: NewSite, redis_server: RedisServer, undisturbed: dict[str, str]
) -> None:
    site = new_site(BROKER_URL=redis_server.url)
    expansion = site.submit(PICTURED)
    worker = site.start()
    site.wait(expansion, lambda _: "Cannot connect to redis" in site.log())
    assert site.registry.expansions.get(expansion).state == "queued"
    assert worker.poll() is None
    redis_server.start()
    assert_once(site, site.finish(expansion))
    assert site.weights(expansion) == undisturbed


@pytest.mark.row("K6")
def test_redis_killed_emptied_and_back_delays_but_loses_nothing(new_site: NewSite, redis_server: RedisServer) -> None:
    redis_server.start()
    site = new_site(BROKER_URL=redis_server.url)
    site.start()
    first = site.submit(PICTURED)
    site.wait(first, lambda e: e.state == "running")
    redis_server.kill()
    second = site.submit(pairs("br"), "br")
    assert site.finish(first).state == "succeeded"
    redis_server.start()
    redis_server.client.flushall()
    assert site.finish(second).state == "succeeded"


@pytest.mark.row("K5")
def test_a_message_delivered_three_times_to_two_workers_acts_once(site: Site) -> None:
    expansion = site.submit(PICTURED)
    app = create_app(WorkerSettings(home=site.home))
    for _ in range(3):
        app.send_task(HINT, [expansion])
    site.start()
    site.start()
    finished = site.finish(expansion)
    assert_once(site, finished)
    assert finished.attempt == 1


@pytest.mark.row("K6")
def test_a_lost_message_is_sent_again(site: Site) -> None:
    worker = site.start(PICTOGLOT_RELAY_SECONDS="3")
    site.wait(site.submit(pairs("br"), "br"), lambda e: e.state == "running")
    waiting = site.submit(PICTURED)
    for _ in range(20):
        for message in (site.home / "broker").glob("*.msg"):
            message.unlink(missing_ok=True)
        time.sleep(0.05)
    assert site.finish(waiting).state == "succeeded"
    assert worker.poll() is None
