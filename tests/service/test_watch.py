"""Following the registry goes on after any error, with fewer and fewer attempts, and does not fill the log."""

import logging
import time
from pathlib import Path

import pytest

from store.errors import RegistryUnavailable
from tests.service.harness import Service, learn, running, wait_until


class Failing:
    """Replaces the refreshing of the index while there is an `error`."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.error: Exception | None = error
        self.attempts = 0
        self._refresh = service.context.live.refresh
        monkeypatch.setattr(service.context.live, "refresh", self)

    def __call__(self) -> bool:
        self.attempts += 1
        if (error := self.error) is not None:
            raise error
        return self._refresh()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "pictoglot.watch"
    ]


def test_after_an_unexpected_error_it_tries_later_and_later_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, watch_seconds=0.05) as service:
        failing = Failing(service, monkeypatch, MemoryError("one"))
        wait_until(lambda: failing.attempts >= 1)
        time.sleep(1.5)  # 30 times watch_seconds
        assert failing.attempts <= 7
        assert warnings(caplog) == ["following the registry failed; trying again"]
        failing.error = MemoryError("two")
        wait_until(lambda: len(warnings(caplog)) == 2)
        learn(service.context.registry, "cy")
        failing.error = None
        wait_until(lambda: service.context.live.current.release.number == 2)
        seen = failing.attempts
        wait_until(lambda: failing.attempts >= seen + 20, seconds=25)  # as often as before


def test_while_the_registry_is_away_it_asks_as_often_as_ever_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, watch_seconds=0.05) as service:
        failing = Failing(service, monkeypatch, RegistryUnavailable())
        wait_until(lambda: failing.attempts >= 20)
        assert warnings(caplog) == ["cannot follow the registry"]
        failing.error = None
        seen = failing.attempts
        wait_until(lambda: failing.attempts >= seen + 2)
        failing.error = RegistryUnavailable()
        wait_until(lambda: len(warnings(caplog)) == 2)  # another outage is told again
