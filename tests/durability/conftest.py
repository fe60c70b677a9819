"""A data root with pictures and a language that was taught, made once by real processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.durability.deployment import Deployment
from tests.durability.failing_calls import FailingCalls, build
from tests.durability.operations import write_dataset
from tests.launcher import Launcher
from tests.tiny import write_tiny_base


@dataclass(frozen=True)
class Prepared:
    """Where it is, and how another deployment starts on a copy of it. `calls` is None without a C compiler."""

    home: Path
    calls: FailingCalls | None
    new: Callable[[Path], Deployment]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Some pictures with captions; Welsh is version 1, first in release 2."""
    folder = tmp_path_factory.mktemp("durability")
    base = write_tiny_base(folder)
    library = build(folder)
    calls = FailingCalls(library, folder / "control") if library else None
    launcher = Launcher({"OMP_NUM_THREADS": "1", "SEAL_AT": "1", **(calls.environment if calls else {})})
    deployments: list[Deployment] = []

    def new(home: Path) -> Deployment:
        deployments.append(Deployment(home, base, folder / f"log-{len(deployments)}", launcher))
        return deployments[-1]

    first = new(folder / "home")
    first.start("service")
    first.start("worker")
    assert first.is_ready(), first.log_end()
    for number in range(12):
        assert first.put(f"p{number}", number, f"motif {number}").status_code == 201
    for id in ("kept", "patched", "replaced"):
        assert first.put(id, 1, id).status_code == 201
    answer = first.learn("cy", write_dataset(0))
    assert answer.status_code == 202, answer.text
    expansion = first.wait_for_end(answer.json()["expansion"]["id"])
    assert expansion["state"] == "succeeded", expansion
    for part in ("worker", "service"):
        first.stop(part)
    yield Prepared(first.home, calls, new)
    for deployment in deployments:
        deployment.close()
    launcher.close()


@pytest.fixture
def deployment(prepared: Prepared, tmp_path: Path) -> Iterator[Deployment]:
    own = prepared.new(tmp_path / "home")
    own.copy_of(prepared.home)
    yield own
    own.close()
