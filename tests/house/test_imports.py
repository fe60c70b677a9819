"""Imports go one way: service and worker, index, model, store; heavy libraries stay where they belong."""

import subprocess
import sys
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.house.source import HOUSE, PACKAGES, ROOT, Module, is_under, list_modules
from tests.patience import PATIENCE

HTTP = ("fastapi", "starlette", "uvicorn")
TRAINING = ("torch", "torchvision", "open_clip", "timm")
ENGINES = ("faiss", "pymilvus", "milvus_lite")
QUEUES = ("celery", "kombu", "redis")

# Who may not import what; `demo` may import everything, and only the command line may import `demo`.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "client": (
        *("store", "model", "index", "service", "worker", "demo"),
        *("sqlalchemy", "numpy", "regex", *HTTP, *QUEUES, *ENGINES, *TRAINING),
    ),
    "model": ("client", "index", "service", "worker", "demo", *HTTP, *QUEUES, *ENGINES),
    "store": ("model", "index", "service", "worker", "demo", *HTTP, *QUEUES, *ENGINES, *TRAINING),
    "index": ("client", "service", "worker", "demo", "model.training", *HTTP, *QUEUES),
    "service": ("worker", "model.training", "celery", "kombu"),  # it asks Redis whether it is there
    "worker": ("client", "service", "demo", *HTTP),
}


def list_wrong_imports(module: Module) -> list[str]:
    """Return the imports of a module that the layout does not allow."""
    forbidden = [name for owner, names in FORBIDDEN.items() if is_under(module.name, owner) for name in names]
    forbidden += ["tests", "benchmarks"] if module.package in PACKAGES else []
    return sorted(
        {
            f"{module.name}:{line} imports {imported}"
            for imported, line in module.list_imports()
            if any(is_under(imported, name) for name in forbidden)
        }
    )


def test_every_import_points_down() -> None:
    assert [wrong for module in list_modules(*PACKAGES) for wrong in list_wrong_imports(module)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("service.routes.search", "from worker.child import main"),
        ("service.app", "def f():\n    import model.training"),
        ("service.app", "from model import training"),
        ("worker.child", "import fastapi"),
        ("worker.child", "from service.settings import Settings"),
        ("index.live", "from service import errors"),
        ("index.live", "from client.terminal import say"),
        ("model.text", "import faiss"),
        ("store.versions", "import torch.nn as nn"),
        ("store.errors", "from index import pictures"),
        ("index.build", "from tests.doubles import Encoder"),
        ("service.routes.search", "from ...worker import tasks"),  # a relative import counts by its full name
    ],
)
def test_a_wrong_import_is_found(name: str, text: str) -> None:
    assert list_wrong_imports(Module(name, text))


def test_a_right_import_is_accepted() -> None:
    assert (
        list_wrong_imports(Module("service.app", "from index.live import LiveIndex\nimport model.trainingwheels")) == []
    )


def find_circle(house: Sequence[Module]) -> list[str]:
    """Return modules in a circle of imports, also late ones, not those for types; empty without one."""
    names = {module.name for module in house}
    below = {}
    for module in house:
        imported = {name for name, _ in module.list_imports(types=False) if name in names} - {module.name}
        inside = {name for name in imported if any(is_under(other, name) for other in imported - {name})}
        below[module.name] = imported - inside  # `from index import segment` also names the package
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


@pytest.mark.parametrize("package", HOUSE)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    assert find_circle(list_modules(package)) == []


def test_a_circle_is_found() -> None:
    down = [Module("index.a", "from index.b import f"), Module("index.b", "from index import c"), Module("index.c", "")]
    assert find_circle(down) == []
    assert set(find_circle([*down[:2], Module("index.c", "def f():\n    import index.a")])) == {m.name for m in down}


# Indirect imports, which the syntax tree does not show: (module, what must not have come when it is there)
LIGHT = (
    ("client.commands", ("torch", "faiss", "numpy", "fastapi", "sqlalchemy", "celery", "pydantic")),  # help needs none
    ("store.errors", ("torch", "numpy", "sqlalchemy")),
    ("store.registry", TRAINING),
    ("model.backend", ("torch", "numpy")),  # the worker asks it at its start
    ("model.pictures", TRAINING),
    ("worker.celery_app", HTTP),
    ("worker.child", HTTP),
)


def test_importing_brings_nothing_heavy_and_an_indirect_import_is_found() -> None:
    assert list_imported_heavy(*LIGHT, ("model.base", ("torch",))) == ["model.base: torch"]


def test_importing_the_service_brings_nothing_of_the_worker() -> None:
    assert list_imported_heavy(("service.app", ("model.training", "celery"))) == []


def list_imported_heavy(*steps: tuple[str, Sequence[str]]) -> list[str]:
    """Return what is heavy and has come, in a fresh interpreter, when these modules are imported one after another."""
    code = (
        f"import importlib, sys\nfor module, heavy in {steps!r}:\n    importlib.import_module(module)\n"
        "    sys.stdout.write(''.join(f'{module}: {n}\\n' for n in heavy if n in sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout.splitlines()
