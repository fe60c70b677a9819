"""One tiny base and its encoder, and a reader of datasets, for all model tests."""

from pathlib import Path

import pytest

from model.base import Base, open_base
from model.encoder import Encoder
from tests.model.test_dataset import Reader


@pytest.fixture(scope="session")
def base(tiny_base: str) -> Base:
    return open_base(tiny_base)


@pytest.fixture
def encoder(base: Base) -> Encoder:
    return Encoder(base)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)
