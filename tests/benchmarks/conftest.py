"""A tiny base, a few pictures, and the benchmark's command on them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.emoji36.scenes import Sizes
from model.base import Base, open_base
from model.encoder import Encoder
from tests.benchmarks.command import Command
from tests.benchmarks.emoji_folder import write_npm
from tests.benchmarks.paper_folders import write_folder


@pytest.fixture(scope="module")
def base(tiny_base: str) -> Base:
    return open_base(tiny_base, "cpu")


@pytest.fixture(scope="module")
def encoder(base: Base) -> Encoder:
    return Encoder(base)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    write_folder(root)
    return root


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets these for its whole process; few scenes are enough here."""
    monkeypatch.setattr("benchmarks.emoji36.__main__.Sizes", partial(Sizes, train=40, test=8, singles=10))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def run(tiny_base: str, pictures: Path, tmp_path: Path, as_before: None) -> Command:
    """On twelve pictures, which teach in a moment."""
    return Command(tiny_base, tmp_path, "--data", "folder", "--root", pictures, "--languages", "it")


@pytest.fixture
def emoji(tiny_base: str, tmp_path: Path, as_before: None) -> Command:
    write_npm(tmp_path / "npm")
    return Command(tiny_base, tmp_path, "--languages", "3", "--methods", "zero-shot")
