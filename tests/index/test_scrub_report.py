"""F4: what a scrub keeps and says of what it found, and `pictoglot verify`."""

import errno
import os
import socket
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from client.main import app
from index import damage
from index.damage import NAMED, Damage, Report
from index.scrub import Scrub
from model.processes import name_owner
from store import files
from store.settings import MISCONFIGURED
from tests.index.test_scrub import filled
from tests.index.test_scrub_to_its_end import failing
from tests.index.world import World, interrupted

pytestmark = pytest.mark.row("F4")


def test_a_report_names_some_and_counts_all(world: World) -> None:
    report = Report(1.0, 2.0, 3, 4)
    for number in range(250):
        report.add(Damage("picture", f"{number}", "from the store" if number % 2 else ""))
        report.add(Damage("vector", f"{number}"))
    damage.keep(world.root, report)
    assert damage.last(world.root) == report and len(report.damaged) == NAMED + NAMED
    assert report.found == {"picture": 250, "vector": 250} and report.unmended == {"picture": 125, "vector": 250}
    sentences = damage.sentences(world.root)
    assert len(sentences) == NAMED + 1 and sentences[-1] == f"Damaged: {375 - NAMED} more."


def test_a_look_at_the_duty_writes_nothing(world: World) -> None:
    duty = damage.duty_of(world.root)
    before = world.home.stat().st_mtime_ns
    assert damage.duty_of(world.root) == duty and world.home.stat().st_mtime_ns == before


def verified(world: World, *options: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["verify", *options], env={"PICTOGLOT_HOME": str(world.home), **environment})


def test_the_command_says_what_is_wrong_with_settings_and_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(world)
    ran = verified(world, PICTOGLOT_INDEX="milvus+http://127.0.0.1:9")
    assert ran.exit_code == MISCONFIGURED and "pictoglot reindex" in ran.stderr
    owners = list[str]()
    interrupted(monkeypatch, files, "write_json", lambda: owners.append(owner(world)))
    assert verified(world).exit_code == 0 and owners == [f"{socket.gethostname()}:{os.getpid()}"] == [name_owner()]
    world.root.path("scrub.id").unlink()
    monkeypatch.setattr(files, "write_once", failing(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    ran = verified(world)
    assert ran.exit_code == 1 and "Read-only file system" in ran.stderr and isinstance(ran.exception, SystemExit)


def owner(world: World) -> str:
    with world.registry.read() as session:
        said: str = session.execute(text("SELECT owner FROM duties WHERE name LIKE 'scrub %'")).scalar_one()
    return said


def test_a_report_that_cannot_be_kept_is_still_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(world)
    monkeypatch.setattr(files, "write_json", failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert Scrub(world.sets).run().files > 10
