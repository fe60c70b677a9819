"""Torture itself: a short history on each database; and damage that is done on purpose is found."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.torture.contents import IDS, draw_picture
from tests.torture.deployment import ROOT
from tests.torture.draws import FAULTS
from tests.torture.drills import run_drills
from tests.torture.histories import run_deployment
from tests.torture.ledger import Ledger, Violation, Write
from tests.torture.steps import Runner

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(3_600)]
# A seed (0: of the day), a database, and how far. The ten steps kill the database twice, once within a COMMIT.
HISTORIES = [
    (346, "sqlite", ("--steps", "10", "--shrink", "0")),
    (346, "postgresql", ("--steps", "10", "--shrink", "0")),
    *(
        pytest.param(0, name, ("--minutes", "10", "--shrink", "10"), marks=pytest.mark.nightly)
        for name in ("sqlite", "postgresql", "store")
    ),
]


@pytest.mark.row("F3", "S4", "S11")
@pytest.mark.parametrize(("seed", "database", "until"), HISTORIES)
def test_nothing_is_lost_back_or_mixed(seed: int, database: str, until: Sequence[str], tmp_path: Path) -> None:
    seed = seed or int(time.time() // 86_400)
    given = ["--seed", str(seed), "--database", database, "--keep", str(tmp_path), *until]
    command = [sys.executable, "-m", "tests.torture", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with run_deployment("sqlite", 24) as deployment:
        runner = Runner(deployment, Ledger(), Counter())
        runner.begin()
        yield runner


@pytest.mark.nightly
@pytest.mark.row("F10")
@pytest.mark.parametrize("database", ["sqlite", "postgresql", "store"])
def test_every_restore_is_what_its_backup_was_taken_of(database: str, tmp_path: Path) -> None:
    drills = run_drills(database, int(os.environ.get("DRILLS", "50")), tmp_path / "drills.jsonl")
    assert [drill["difference"] for drill in drills if drill["difference"]] == []


def broken(kind: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}: ")


def search(by: str = "text", content: int = 0) -> dict[str, Any]:
    asked = {"do": "search", "by": by, "content": content, "language": "en", "text": 0, "filter": None, "id": IDS[1]}
    return {**asked, "is_bound": False}


def tell(runner: Runner, kind: str, status: int, process: str = "nobody", **changes: Any) -> None:
    """Enter in the ledger what nobody asked of the service; from who did write it, no search waits for it."""
    write = Write(kind, IDS[1], changes)
    runner.ledger.acknowledge(write, runner.ledger.begin(write), status, process)


@pytest.mark.nightly
def test_what_is_done_behind_its_back_is_found(runner: Runner) -> None:
    first, second = runner.deployment.apis.values()
    for api in (first, second):
        runner.see_vectors(api, "en")
        for by in ("text", "picture", "like", "words"):
            runner.looker.search(api, search(by))
        runner.looker.judge_listing(api)
        runner.looker.file(api, IDS[1])

    whole = {"collection": "default", "tags": (), "caption": "motif0 left", "year": 1900}
    path = f"/v1/pictures/{IDS[1]}"
    tell(runner, "delete", 204)
    with broken("back"):
        runner.looker.search(first, search())
    with broken("back"):
        runner.looker.judge_listing(second)
    tell(runner, "put", 201, first.process, content=1, **whole)
    assert first.ask("DELETE", path).status == 204
    with broken("lost"):
        runner.looker.search(first, search("picture"))
    with broken("lost"):
        runner.looker.get(second, IDS[1])
    assert first.ask("PUT", path, files={"picture": ("x", draw_picture(2))}).status == 201
    with broken("mixed"):
        runner.looker.search(first, search())
    with broken("mixed"):
        runner.looker.file(first, IDS[1])
    assert first.ask("DELETE", path).status == 204
    tell(runner, "delete", 204)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_can_be_done_and_healed(runner: Runner, kind: str) -> None:
    runner.nemesis.strike(kind, 0, 0.5, "+3600")
    runner.deployment.wait_until_ready()
    runner.nemesis.tend()
    runner.looker.judge_listing(runner.api(0))


@pytest.mark.nightly
def test_a_torn_file_of_a_picture_is_found(runner: Runner) -> None:
    """Last: it damages the data root."""
    for file in (runner.deployment.home / "pictures").rglob("*.jpg"):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(
        Violation, match=r"^undocumented: .*'picture_damaged'"
    ):  # the service finds it, and no fault was on
        for id in runner.ledger.list_ids():
            runner.looker.file(runner.api(0), id)
