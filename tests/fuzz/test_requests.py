"""Whatever is sent, the answer is a success or a documented error: never a 5xx, and it never repeats the input.

Counts follow the profile: 5,000 examples a test under `make fuzz`.
"""

import gzip
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model import dataset
from store.errors import PictoglotError
from tests.house.source import ROOT
from tests.service.harness import Service, picture, running

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
    "/v1/admin/keys",
)
ORIGINALS = tuple(picture(60, format=format) for format in ("PNG", "JPEG", "WEBP"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["text", "language", "limit", "min_score", "cursor", "picture", "languages", "input", "scope"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("de")
        assert service.put("p0", en=["a red apple"], de=["ein roter Apfel"]).status_code == 201
        yield service


def answered(response: httpx.Response) -> None:
    """Assert a success, or a problem document with a documented code and a status below 500."""
    if response.is_success:
        return
    body = response.json()
    assert response.status_code < 500 and body["status"] == response.status_code, body
    assert body["code"] in CODES and len(response.content) <= 4_096


@given(text=st.text(max_size=1_200), language=st.sampled_from(["auto", "shared", "en", "de"]) | st.text(max_size=12))
def test_texts(service: Service, text: str, language: str) -> None:
    answered(service.admin.post("/v1/search/pictures", json={"text": text, "language": language}))


@given(route=st.sampled_from(ROUTES), body=JSON | st.dictionaries(FIELDS, JSON, max_size=5))
def test_json_bodies(service: Service, route: str, body: object) -> None:
    answered(service.admin.post(route, content=_lenient(body), headers={"Content-Type": "application/json"}))


@given(
    route=st.sampled_from(ROUTES), body=st.binary(max_size=400), kind=st.sampled_from(["json", "x-tar", "octet-stream"])
)
def test_bytes(service: Service, route: str, body: bytes, kind: str) -> None:
    answered(service.admin.post(route, content=body, headers={"Content-Type": f"application/{kind}"}))


@given(body=st.binary(max_size=400), name=st.sampled_from(["picture", "dataset", "captions", "x"]))
def test_multipart_bodies(service: Service, body: bytes, name: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for sent in (head + body + b"\r\n--b--\r\n", head + body, body):
        answered(service.admin.post("/v1/search/captions", content=sent, headers=headers))


@given(seed=st.integers(0, 1 << 32))
def test_mutated_pictures(service: Service, seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(source.choice(ORIGINALS))
    for _ in range(source.randint(1, 12)):
        data[source.randrange(len(data))] = source.randrange(256)
    cut = bytes(data[: source.randrange(len(data))] if source.random() < 0.3 else data)
    before = len(service.context.gallery.ids())
    answer = service.admin.post("/v1/pictures", files={"picture": ("x", cut)})
    answered(answer)
    assert len(service.context.gallery.ids()) - before == (answer.status_code == 201)


def parquet() -> bytes:
    columns = {"caption": [f"afal {n}" for n in range(70)], "english": [f"apple {n}" for n in range(70)]}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


ROWS = "".join(f'{{"caption": "afal {n}", "english": "apple {n}", "split": "train"}}\n' for n in range(70))
DATASETS = (ROWS.encode(), gzip.compress(ROWS.encode()), parquet())


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


def test_an_answer_that_should_not_be_is_noticed() -> None:
    with pytest.raises(AssertionError):
        answered(httpx.Response(500, json={"status": 500, "code": "internal_error"}))
    with pytest.raises(AssertionError):
        answered(httpx.Response(422, json={"status": 422, "code": "made_up"}))


def test_the_pictures_are_valid_before_they_are_mutated() -> None:
    assert {Image.open(io.BytesIO(data)).format for data in ORIGINALS} == {"PNG", "JPEG", "WEBP"}


def _lenient(body: object) -> str:
    """JSON as a careless client writes it: NaN, Infinity and lone surrogates too."""
    return json.dumps(body)
