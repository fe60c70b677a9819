"""The power is cut while pictures, keys, datasets and releases are written: what was acknowledged is there, and whole.

`make power` does so 120 times on a disk that forgets, and 10 times each on ext4, XFS and btrfs; `make nightly` a few
times, `make test` once.
"""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from tests.durability.conftest import Prepared
from tests.durability.deployment import Deployment
from tests.durability.disturbing import compare
from tests.durability.ledger import Ledger
from tests.durability.operations import OPERATIONS, Asked, Refused, read_holdings
from tests.durability.power import BlockDisk, ForgetfulDisk, explain_no_blocks, explain_no_fuse
from tests.service.harness import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(14_400)]
FULL = "CUTS" in os.environ
CUTS = int(os.environ.get("CUTS", "0"))
Powered = tuple[Deployment, ForgetfulDisk | BlockDisk]
_SEED = 24
_MOMENT = 0.1  # seconds: about as long as a request takes
_WRITERS = (  # what each of them asks for, so that no two write the same
    ("put a new picture", "delete a picture", "put a batch"),
    ("replace a picture", "replace captions", "patch a record", "make a key", "revoke a key"),
    ("submit a dataset", "cancel an expansion", "roll back", "restore a release"),
)


@pytest.fixture
def forgetful(prepared: Prepared, tmp_path: Path) -> Iterator[Powered]:
    """A copy of the data root on a disk that forgets, with no process yet."""
    if reason := explain_no_fuse():
        pytest.skip(reason)
    (tmp_path / "store").mkdir()
    copied = prepared.new(tmp_path / "store" / "home")
    copied.copy_of(prepared.home)
    disk = ForgetfulDisk(tmp_path / "store", tmp_path / "mounted")
    disk.mount(_SEED)
    deployment = prepared.new(tmp_path / "mounted" / "home")
    yield deployment, disk
    deployment.close()
    disk.unmount()


@pytest.fixture(params=BlockDisk.kinds)
def block(request: pytest.FixtureRequest, prepared: Prepared, tmp_path: Path) -> Iterator[Powered]:
    """A copy of the data root on a file system in an image, with no process yet."""
    if reason := explain_no_blocks():
        pytest.skip(reason)
    disk = BlockDisk(tmp_path, tmp_path / "mounted", request.param)
    disk.fill(prepared.home)
    disk.mount(_SEED)
    deployment = prepared.new(tmp_path / "mounted" / "home")
    yield deployment, disk
    deployment.close()
    disk.close()


def write(asked: Asked, names: tuple[str, ...], draw: random.Random, ended: Event, answers: list[int]) -> None:
    """Ask for one thing after another until the power is cut."""
    operations = [each for each in OPERATIONS if each.name in names]
    while not ended.is_set():
        asked.number += 1
        operation = draw.choice(operations)
        status = 0
        try:
            send = operation.prepare(asked)
            try:
                status = send().status_code
            finally:
                operation.write(asked, status)
            operation.clean(asked)
        except httpx.TransportError:
            return
        except Refused:
            continue
        answers.append(status)


def load(deployment: Deployment, disk: ForgetfulDisk | BlockDisk, ledger: Ledger, round: int, count: int) -> list[int]:
    """Write from all sides, and kill everything after so many answers; returns their statuses."""
    ended, answers = Event(), list[int]()
    writers = []
    for place, names in enumerate(_WRITERS):
        asked = Asked(deployment, ledger, number=100_000 * place + 500 * round)
        given = (asked, names, random.Random(f"{_SEED} {round} {place}"), ended, answers)
        writers.append(Thread(target=write, args=given))
    for writer in writers:
        writer.start()
    wait_until(lambda: len(answers) >= count)
    ended.wait(_MOMENT * random.Random(f"{_SEED} {round}").random())
    deployment.freeze()
    disk.remember()
    deployment.kill()
    ended.set()
    for writer in writers:
        writer.join()
    return answers


def cut_again_and_again(deployment: Deployment, disk: ForgetfulDisk | BlockDisk, cuts: int) -> None:
    """Write, cut the power, start and compare."""
    draw = random.Random(_SEED)
    deployment.begin()
    deployment.start("service")
    assert deployment.is_ready(), deployment.log_end()
    ledger, problems, acknowledged = Ledger(), list[str](), 0
    ledger.compare(read_holdings(deployment))
    for cut in range(1, cuts + 1):
        answers = load(deployment, disk, ledger, cut, draw.randint(1, 40))
        disk.unmount()
        disk.mount(cut if cut % 3 else 0)  # each third one keeps nothing that is not durable
        deployment.restart()
        problems += [f"cut {cut}: {problem}" for problem in compare(deployment, ledger)]
        acknowledged += sum(200 <= status < 300 for status in answers)
        if FULL:
            sys.stderr.write(f"cut {cut}: {acknowledged} acknowledged, problems {problems}\n")
    assert problems == []
    assert acknowledged >= cuts


@pytest.mark.row("F15")
@pytest.mark.parametrize("cuts", [1, pytest.param(4, id="longer", marks=pytest.mark.nightly)])
def test_what_was_acknowledged_is_there_after_a_cut_that_forgets_what_may_be_forgotten(
    forgetful: Powered, cuts: int
) -> None:
    cut_again_and_again(*forgetful, cuts=CUTS if FULL else cuts)


@pytest.mark.nightly
def test_what_was_acknowledged_is_there_after_a_cut_of_a_real_file_system(block: Powered) -> None:
    cut_again_and_again(*block, cuts=max(CUTS // 12, 3))
