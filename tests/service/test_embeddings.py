"""Embeddings in OpenAI's format."""

import base64

import numpy as np
import pytest

from tests.doubles import text_vector
from tests.service.harness import Service, assert_problem


def test_each_text_gets_its_own_vector(service: Service) -> None:
    answer = service.admin.post("/v1/embeddings", json={"input": ["a dog", "a cat"], "language": "en"}).json()
    assert answer["object"] == "list"
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    for item, text in zip(answer["data"], ["a dog", "a cat"], strict=True):
        assert np.array_equal(np.array(item["embedding"], dtype=np.float32), text_vector(0, text))


def test_one_string_is_one_text_and_a_requested_language_is_encoded_by_its_version(service: Service) -> None:
    answer = service.admin.post("/v1/embeddings", json={"input": "ein Hund", "language": "de", "model": "any"}).json()
    assert np.array_equal(np.array(answer["data"][0]["embedding"], dtype=np.float32), text_vector(1, "ein Hund"))


def test_texts_of_several_languages_stay_in_order(service: Service) -> None:
    texts = ["ein Hund auf der Straße", "a dog on the road", "ein roter Apfel", "a dog on the road", "a red apple"] * 30
    answer = service.admin.post("/v1/embeddings", json={"input": texts}).json()
    versions = {"e": 1, "a": 0}
    for item, text in zip(answer["data"], texts, strict=True):
        assert np.array_equal(np.array(item["embedding"], dtype=np.float32), text_vector(versions[text[0]], text))
    assert answer["usage"]["total_tokens"] == sum(-(-len(text.encode()) // 2) for text in texts)


def test_base64_holds_the_same_numbers(service: Service) -> None:
    body = {"input": "a dog", "language": "en", "encoding_format": "base64"}
    (item,) = service.admin.post("/v1/embeddings", json=body).json()["data"]
    assert np.array_equal(np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4"), text_vector(0, "a dog"))


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
