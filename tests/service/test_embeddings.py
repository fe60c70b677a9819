"""Embeddings in OpenAI's format."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.encoder import EncodedTexts, View
from model.lexicon import Lexicon
from tests.doubles import WeightlessEncoder, make_picture_vector, make_text_vector
from tests.service.harness import ADMIN_KEY, Service, assert_problem, motif, picture, running


def make_data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def test_each_text_gets_its_own_vector(service: Service) -> None:
    answer = service.admin.post("/v1/embeddings", json={"input": ["a dog", "a cat"], "language": "en"}).json()
    assert answer["object"] == "list"
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    for item, text in zip(answer["data"], ["a dog", "a cat"], strict=True):
        assert np.array_equal(np.array(item["embedding"], dtype=np.float32), make_text_vector(0, text))


def test_one_string_is_one_text_and_a_requested_language_is_encoded_by_its_version(service: Service) -> None:
    answer = service.admin.post("/v1/embeddings", json={"input": "ein Hund", "language": "de", "model": "any"}).json()
    assert np.array_equal(np.array(answer["data"][0]["embedding"], dtype=np.float32), make_text_vector(1, "ein Hund"))


def test_texts_of_several_languages_stay_in_order(service: Service) -> None:
    texts = ["ein Hund auf der Straße", "a dog on the road", "ein roter Apfel", "a dog on the road", "a red apple"] * 30
    answer = service.admin.post("/v1/embeddings", json={"input": texts}).json()
    assert answer["languages"] == ["de", "en", "de", "en", "en"] * 30
    versions = {"e": 1, "a": 0}
    for item, text in zip(answer["data"], texts, strict=True):
        assert np.array_equal(np.array(item["embedding"], dtype=np.float32), make_text_vector(versions[text[0]], text))
    assert answer["usage"]["total_tokens"] == sum(-(-len(text.encode()) // 2) for text in texts)


class ReadingEncoder(WeightlessEncoder):
    """Each language was taught two words, by which its own version reads others."""

    def open(self, folders: Sequence[Any], onto: View | None = None) -> View:
        return replace(super().open(folders, onto), lexicon=Lexicon(["haus", "hund"]))

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        return super().encode_texts([(view, view.lexicon.read(text, str.isdigit).text) for view, text in items])


def test_a_version_reads_a_text_of_no_known_language_otherwise_than_one_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, ReadingEncoder()) as other:
        version = other.learn("de").number
        other.put("p0", de=["ein roter Apfel auf dem Tisch"])
        other.context.live.refresh()

        def embed(language: str, *texts: str) -> list[bytes]:
            answer = other.admin.post("/v1/embeddings", json={"input": texts, "language": language}).json()
            return [np.array(item["embedding"], dtype=np.float32).tobytes() for item in answer["data"]]

        whole, parts, german = (
            make_text_vector(version, text).tobytes() for text in ("hundhaus", "hund haus", "ein roter Apfel")
        )
        assert embed("auto", "ein roter Apfel", "hundhaus") == [german, whole]
        assert [embed(language, "hundhaus") for language in ("de", "shared")] == [[parts], [whole]]


def test_base64_holds_the_same_numbers(service: Service) -> None:
    body = {"input": "a dog", "language": "en", "encoding_format": "base64"}
    (item,) = service.admin.post("/v1/embeddings", json=body).json()["data"]
    assert np.array_equal(np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4"), make_text_vector(0, "a dog"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": []}, "invalid_request"),
        ({"input": [1, 2]}, "invalid_request"),
        ({"input": "a", "dimensions": 8}, "invalid_request"),
        ({"input": ["a", ""]}, "empty_text"),
        ({"input": ["a"] * 257}, "invalid_request"),
    ],
)
def test_a_malformed_body_is_refused(service: Service, body: dict[str, object], code: str) -> None:
    assert_problem(service.admin.post("/v1/embeddings", json=body), 422, code)


def test_pictures_and_texts_may_be_sent_together_and_stay_in_order(service: Service) -> None:
    inputs = ["a dog", make_data_url(picture(3)), "a dog", make_data_url(picture(4, format="JPEG", quality=95), "jpeg")]
    answer = service.admin.post("/v1/embeddings", json={"input": inputs, "language": "en"}).json()
    vectors = [np.array(item["embedding"], dtype=np.float32) for item in answer["data"]]
    assert np.array_equal(vectors[0], make_text_vector(0, "a dog")) and np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[1], make_picture_vector(motif(3)))
    assert np.allclose(vectors[3], make_picture_vector(motif(4)), atol=0.02)
    assert answer["usage"]["total_tokens"] == 2 * 3, "a picture has no tokens"
    assert answer["languages"] == ["en", None, "en", None]


def test_one_picture_may_be_sent_as_a_file_or_alone(service: Service) -> None:
    form = service.admin.post("/v1/embeddings", files={"picture": ("x", picture(3))}, data={"model": "any"}).json()
    alone = service.admin.post("/v1/embeddings", json={"input": make_data_url(picture(3))}).json()
    assert form == alone
    assert np.array_equal(np.array(alone["data"][0]["embedding"], dtype=np.float32), make_picture_vector(motif(3)))


def test_a_picture_may_be_larger_than_other_json(service: Service) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer := io.BytesIO(), "PNG")
    assert len(buffer.getvalue()) > 2 * service.context.settings.json_bytes
    assert service.admin.post("/v1/embeddings", json={"input": make_data_url(buffer.getvalue())}).status_code == 200


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("data:image/png;base64,AAAA", 415, "unsupported_picture_format"),
        (make_data_url(picture()[:60]), 422, "picture_corrupt"),
        ("data:image/png;base64,a*b=", 422, "invalid_request"),
        ("data:image/png,abc", 422, "invalid_request"),
        ("data:image/png;base64", 422, "picture_corrupt"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused(service: Service, url: str, status: int, code: str) -> None:
    body = assert_problem(service.admin.post("/v1/embeddings", json={"input": ["a", url]}), status, code)
    if code == "invalid_request":
        assert body["errors"] == [{"location": "body.input.1", "code": "data_url"}]


def test_a_file_beyond_the_limit_is_too_large_in_either_form(tmp_path: Path) -> None:
    with running(tmp_path, picture_bytes=4 << 10, json_bytes=16 << 10) as small:
        url = make_data_url(bytes(5 << 10))
        assert_problem(small.admin.post("/v1/embeddings", json={"input": url}), 413, "body_too_large")
        assert_problem(small.admin.post("/v1/embeddings", json={"input": url * 9}), 413, "body_too_large")
        form = {"picture": ("x", bytes(5 << 10))}
        assert_problem(small.admin.post("/v1/embeddings", files=form), 413, "body_too_large")


def test_too_many_pictures_at_once_are_refused_and_texts_are_not(service: Service) -> None:
    searches = service.context.picture_queue.searches
    searches.requests += searches._limit
    try:
        answer = service.admin.post("/v1/embeddings", files={"picture": ("x", picture())})
        assert_problem(answer, 503, "overloaded")
        small = {"input": ["a dog", make_data_url(picture())]}
        assert_problem(service.admin.post("/v1/embeddings", json=small), 503, "overloaded")
        assert service.admin.post("/v1/embeddings", json={"input": "a dog"}).status_code == 200
    finally:
        searches.requests -= searches._limit


@pytest.mark.parametrize("body", [b"[],", b"{},", b"1,"])
def test_a_large_body_of_many_small_values_is_refused_before_it_is_parsed(
    service: Service, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """A megabyte of them takes the event loop for a second."""
    monkeypatch.setattr("service.auth.parse_json", None)  # calling it is an error 500
    content = b'{"input": [' + body * (1 << 17) + b'"a"]}'
    headers = {"Content-Type": "application/json"}
    assert_problem(service.admin.post("/v1/embeddings", content=content, headers=headers), 413, "body_too_large")


def test_a_request_holds_at_most_sixteen_pictures(service: Service) -> None:
    inputs = [make_data_url(picture(3, side=16))] * 17
    body = assert_problem(service.admin.post("/v1/embeddings", json={"input": inputs}), 422, "invalid_request")
    assert body["errors"] == [{"location": "body.input", "code": "too_long"}]
    assert service.admin.post("/v1/embeddings", json={"input": inputs[1:]}).status_code == 200


def test_openai_s_own_client_is_answered(service: Service) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        texts = ["a dog on the road", "ein Hund auf der Straße"]
        for format in ({}, {"encoding_format": "float"}):  # it asks for base64 by itself
            answer = client.embeddings.create(model="any", input=texts, **format)
            vectors = [np.array(item.embedding, dtype=np.float32) for item in answer.data]
            expected = [make_text_vector(version, text) for version, text in enumerate(texts)]
            assert all(map(np.array_equal, vectors, expected))
        assert answer.usage.total_tokens > 0
        (model,) = client.models.list().data
        assert model.object == "model" and model.owned_by == "pictoglot"
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.embeddings.create(model=model.id, input=[""])
        assert refused.value.response.json()["code"] == "empty_text"
    with (
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
