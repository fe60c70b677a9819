"""Workers whose clock jumps by an hour, there and back: nothing runs twice (K10)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launcher import Launcher
from tests.worker.harness import FINISHED, Site, assert_once, pairs

FAKETIME = next(iter(sorted(Path("/").glob("usr/lib/*/faketime/libfaketimeMT.so.1"))), None)
pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(FAKETIME is None, reason="Debian's package faketime is not installed"),
]


@pytest.mark.row("K10")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def test_a_clock_that_jumps_by_an_hour_runs_nothing_twice(
    new_site: Callable[..., Site],
    undisturbed: dict[str, str],
    tmp_path: Path,
    database: str,
    request: pytest.FixtureRequest,
) -> None:
    """With SQLite the machine's clock is the database's: both workers have it. PostgreSQL has a clock of its own."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    jumping = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    near = database == "sqlite"
    site = new_site() if near else new_site(DATABASE_URL=request.getfixturevalue("postgresql_url"))
    site.launcher = launcher = Launcher(jumping)
    request.addfinalizer(launcher.close)
    request.addfinalizer(site.close)  # first: its processes are the launcher's
    site.start(**jumping)
    if not near:
        site.launcher = None
    site.start(**(jumping if near else {}))
    expansion = site.submit(pairs("cy", picture=True))
    for jump, phases in (("+3600", {"prepare"}), ("-3600", {"train", "evaluate"}), ("+0", {"encode", "promote"})):
        site.wait(expansion, lambda e, phases=phases: e.phase in phases or e.state in FINISHED)  # type: ignore[misc]
        next_clock = tmp_path / "next_clock"
        next_clock.write_text(jump)
        next_clock.replace(clock)  # in one step: faketime ends a process whose file it finds empty
    finished = site.finish(expansion)
    assert_once(site, finished)
    assert near or finished.attempt == 1
    assert site.weights(expansion) == undisturbed
