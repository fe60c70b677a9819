"""Imports point one way: service and worker on index on model, and the heavy libraries stay where they belong."""

import subprocess
import sys

import pytest

from tests.house.source import PACKAGES, ROOT, Module, modules, under

HTTP = ("fastapi", "starlette", "uvicorn")
TRAINING = ("torch", "torchvision", "open_clip", "timm")
ENGINES = ("faiss", "pymilvus", "milvus_lite")
QUEUES = ("celery", "kombu", "redis")

# Who may not import what; `demo` stands on top of everything and nothing but the command line may know it.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "model": ("index", "service", "worker", "demo", *HTTP, *QUEUES, *ENGINES),
    "model.registry": TRAINING,
    "index": ("service", "worker", "demo", "model.training", *HTTP, *QUEUES),
    "service": ("worker", "model.training", *QUEUES),
    "worker": ("service", "demo", *HTTP),
}


def wrong_arrows(module: Module) -> list[str]:
    """The imports of a module that architecture.md's drawing does not have."""
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
    assert [arrow for module in modules(*PACKAGES) for arrow in wrong_arrows(module)] == []


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
def test_a_wrong_arrow_is_found(name: str, text: str) -> None:
    assert wrong_arrows(Module(name, text))


def test_a_relative_import_counts_by_its_full_name() -> None:
    assert wrong_arrows(Module("service.routes.search", "from ...worker import tasks"))


def test_a_right_arrow_is_left_alone() -> None:
    assert wrong_arrows(Module("service.app", "from index.live import LiveIndex\nimport model.trainingwheels")) == []


# What the syntax tree cannot see: modules that come along with others. (module, what it must not bring)
LIGHT = [
    ("model.errors", ("torch", "numpy", "sqlalchemy")),
    ("model.registry", TRAINING),
    ("index.decoder", TRAINING),
    ("service.app", ("model.training", "celery")),
    ("service.cli", ("torch", "faiss")),
    ("worker.celery_app", HTTP),
    ("worker.child", HTTP),
]


@pytest.mark.parametrize(("module", "heavy"), LIGHT, ids=[module for module, _ in LIGHT])
def test_importing_brings_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    assert brought(module, heavy) == []


def test_what_comes_along_is_found() -> None:
    assert brought("model.base", ("torch",)) == ["torch"]


def brought(module: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of the heavy modules a fresh interpreter holds after importing one module."""
    code = f"import sys, {module}; sys.stdout.write(' '.join(n for n in {heavy!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()
