"""A mutated dataset is read or refused by a documented error; 5,000 under `make fuzz`. Requests: `bad_inputs`."""

import gzip
import io
import random
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model import dataset
from store.errors import PictoglotError
from tests.house.source import ROOT
from tests.service.harness import picture

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3_600)]

CODES = frozenset(
    re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
)
ROUTES = (
    "/v1/search/pictures",
    "/v1/search/captions",
    "/v1/search/batch",
    "/v1/embeddings",
    "/v1/pictures",
    "/v1/languages",
    "/v1/languages/cy/captions",
    "/v1/languages/cy/captions/review",
    "/v1/admin/languages/cy/withdraw",
    "/v1/admin/keys",
)
ORIGINALS = tuple(picture(60, format=format) for format in ("PNG", "JPEG", "WEBP"))


def write_parquet() -> bytes:
    columns = {"caption": [f"afal {n}" for n in range(70)], "english": [f"apple {n}" for n in range(70)]}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


ROWS = "".join(f'{{"caption": "afal {n}", "english": "apple {n}", "split": "train"}}\n' for n in range(70))
DATASETS = (ROWS.encode(), gzip.compress(ROWS.encode()), write_parquet())


@given(seed=st.integers(0, 1 << 32))
def test_mutated_datasets(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(source.choice(DATASETS))
    for _ in range(source.randint(1, 30)):
        data[source.randrange(len(data))] = source.randrange(256)
    file: Path = tmp_path_factory.getbasetemp() / "dataset"
    file.write_bytes(data)
    try:
        dataset.validate(dataset.read(file, language="cy"), "cy", lambda ids: set(ids))
    except PictoglotError as refusal:
        assert refusal.code in CODES


def test_the_pictures_are_valid_before_they_are_mutated() -> None:
    assert {Image.open(io.BytesIO(data)).format for data in ORIGINALS} == {"PNG", "JPEG", "WEBP"}
