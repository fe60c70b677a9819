"""Imports go one way: service and worker import index, index imports model; heavy libraries stay where they belong."""

import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import pytest

from tests.house.source import PACKAGES, ROOT, Module, modules, under
from tests.patience import PATIENCE

HTTP = ("fastapi", "starlette", "uvicorn")
TRAINING = ("torch", "torchvision", "open_clip", "timm")
ENGINES = ("faiss", "pymilvus", "milvus_lite")
QUEUES = ("celery", "kombu", "redis")

# Who may not import what; `demo` may import everything, and only the command line may import `demo`.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "model": ("index", "service", "worker", "demo", *HTTP, *QUEUES, *ENGINES),
    "model.registry": TRAINING,
    "index": ("service", "worker", "demo", "model.training", *HTTP, *QUEUES),
    "service": ("worker", "model.training", *QUEUES),
    "worker": ("service", "demo", *HTTP),
}


def wrong_imports(module: Module) -> list[str]:
    """The imports of a module that the layout does not allow."""
    forbidden = [name for owner, names in FORBIDDEN.items() if under(module.name, owner) for name in names]
    forbidden += ["tests", "benchmarks"] if module.package in PACKAGES else []
    return sorted(
        {
            f"{module.name}:{line} imports {imported}"
            for imported, line in module.imports()
            if any(under(imported, name) for name in forbidden)
        }
    )


def test_every_import_points_down() -> None:
    assert [wrong for module in modules(*PACKAGES) for wrong in wrong_imports(module)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("service.routes.search", "from worker.child import main"),
        ("service.app", "def f():\n    import model.training"),
        ("service.app", "from model import training"),
        ("worker.tasks", "import fastapi"),
        ("worker.child", "from service.settings import Settings"),
        ("index.live", "from service import errors"),
        ("model.text", "import faiss"),
        ("model.registry.versions", "import torch.nn as nn"),
        ("model.errors", "from index import pictures"),
        ("index.build", "from tests.doubles import Encoder"),
    ],
)
def test_a_wrong_import_is_found(name: str, text: str) -> None:
    assert wrong_imports(Module(name, text))


def test_a_relative_import_counts_by_its_full_name() -> None:
    assert wrong_imports(Module("service.routes.search", "from ...worker import tasks"))


def test_a_right_import_is_accepted() -> None:
    assert wrong_imports(Module("service.app", "from index.live import LiveIndex\nimport model.trainingwheels")) == []


# Rooms of `index` on the longest way down, each imported by the one before when that is: whoever shortens it lowers it.
LONGEST_WAY = 8


def longest_way(house: Sequence[Module]) -> list[str]:
    """The longest chain of modules of which each imports the next one at its top; raises `ValueError` for a circle."""
    rooms = {module.name: module for module in house}

    @cache
    def down(name: str) -> list[str]:
        top = {node.lineno for node in rooms[name].tree.body}
        below = {each for each, line in rooms[name].imports() if line in top and each in rooms and each != name}
        for inside in [each for each in below if any(under(other, each) for other in below - {each})]:
            below.discard(inside)  # `from index import segment` also names the package
        ways = []
        for each in below:
            if each in walked:
                raise ValueError(f"{name} and {each} import each other")
            walked.append(each)
            ways.append(down(each))
            walked.pop()
        return [name, *max(ways, key=len, default=[])]

    walked = list[str]()
    return max((down(name) for name in rooms), key=len)


def test_the_way_down_the_house_of_the_index_is_no_longer_than_today() -> None:
    way = longest_way(modules("index"))
    assert len(way) <= LONGEST_WAY, " > ".join(way)


def test_a_longer_way_is_found_and_a_circle_refused() -> None:
    down = [Module("index.a", "from index.b import f"), Module("index.b", "from index import c"), Module("index.c", "")]
    assert longest_way(down) == ["index.a", "index.b", "index.c"]
    lazily = [Module("index.a", "def f():\n    import index.b"), Module("index.b", "")]
    assert len(longest_way(lazily)) == 1
    with pytest.raises(ValueError, match="import each other"):
        longest_way([Module("index.a", "import index.b"), Module("index.b", "import index.a")])


# Indirect imports, which the syntax tree does not show: (module, what importing it must not load)
LIGHT = [
    ("model.errors", ("torch", "numpy", "sqlalchemy")),
    ("model.registry", TRAINING),
    ("model.pictures.decoder", TRAINING),
    ("service.app", ("model.training", "celery")),
    ("service.cli", ("torch", "faiss")),
    ("worker.celery_app", HTTP),
    ("worker.child", HTTP),
]


@pytest.mark.parametrize(("module", "heavy"), LIGHT, ids=[module for module, _ in LIGHT])
def test_importing_brings_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    assert imported_heavy(module, heavy) == []


def test_an_indirect_import_is_found() -> None:
    assert imported_heavy("model.base", ("torch",)) == ["torch"]


def imported_heavy(module: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of the heavy modules a fresh interpreter has loaded after importing one module."""
    code = f"import sys, {module}; sys.stdout.write(' '.join(n for n in {heavy!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return done.stdout.split()
