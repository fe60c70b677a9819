"""Whether all systems give the same vectors, asked over HTTP in the ways that are measured. Measures no time."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.peers.material import Reference, Vectors, draw_squares, list_texts
from benchmarks.peers.servers import CLIP_RETRIEVAL, INFINITY, Server
from benchmarks.peers.turns import OURS

COUNT = 16  # texts and pictures that are compared
ALIKE = 0.999  # least cosine of one text in two systems: bfloat16 keeps 0.9999
ALIKE_IN_INT8 = 0.997
UNLIKE = 0.99  # largest cosine of two texts, or the comparison would say nothing
_SECONDS = 60.0


def fetch_text_vectors(server: Server, asked: Sequence[str]) -> Vectors:
    """Return unit vectors of texts, as this system has them."""
    return np.array([_TEXT[server.name](server, text) for text in asked], np.float32)


def fetch_picture_vectors(server: Server, images: Sequence[Image.Image]) -> Vectors:
    """Return unit vectors of pictures, as this peer has them. Our service tells none; `bare` compares its encoder's."""
    return np.array(
        [_PICTURE[server.name](server, base64.b64encode(_encode_png(image))) for image in images], np.float32
    )


def compare(reference: Reference, servers: Sequence[Server], *, pictures: bool) -> dict[str, Any]:
    """Return least cosine to open_clip's vector of the same text or picture, by system."""
    asked = list_texts()[:COUNT]
    expected = reference.texts(asked)
    found: dict[str, Any] = {"unlike_texts": measure_largest_cosine(expected)}
    found["text"] = {each.name: measure_least_cosine(expected, fetch_text_vectors(each, asked)) for each in servers}
    if pictures:
        images = draw_squares(COUNT)
        seen = reference.pictures(images)
        found["unlike_pictures"] = measure_largest_cosine(seen)
        peers = [each for each in servers if each.name in _PICTURE]
        found["pictures"] = {
            each.name: measure_least_cosine(seen, fetch_picture_vectors(each, images)) for each in peers
        }
    return found


def require_same(found: dict[str, Any], alike: float = ALIKE) -> None:
    """Raise `SystemExit` with one sentence where two systems differ, or where texts are too alike to tell."""
    for kind in ("text", "pictures"):
        for name, cosine in found.get(kind, {}).items():
            if not cosine >= alike:
                raise SystemExit(f"{name} gives other vectors than open_clip for {kind}: cosine {cosine}.")
    if found["unlike_texts"] > UNLIKE:
        raise SystemExit(f"The vectors of different texts are too alike to compare: cosine {found['unlike_texts']}.")


def measure_least_cosine(expected: Vectors, found: Vectors) -> float:
    """Return the least cosine of two sets of unit rows, one by one."""
    return round(float((expected * found).sum(axis=1).min()), 7)


def measure_largest_cosine(vectors: Vectors) -> float:
    """Return the largest cosine of two different rows."""
    cosines = vectors @ vectors.T
    return round(float((cosines - 2 * np.eye(len(vectors))).max()), 4)


def _post(server: Server, path: str, body: dict[str, Any]) -> Any:
    return httpx.post(server.url + path, json=body, timeout=_SECONDS, trust_env=False).raise_for_status().json()


def _read_embeddings(path: str, more: dict[str, str]) -> Callable[[Server, str], list[float]]:
    def vector(server: Server, given: str) -> list[float]:
        answer = _post(server, path, {"model": "any", "input": [given], **more})
        found: list[float] = answer["data"][0]["embedding"]
        return found

    return vector


def _encode_axes(server: Server, query: dict[str, str]) -> list[float]:
    hits = _post(server, server.path, {**query, "modality": "image", "num_images": 512, "indice_name": "axes"})
    return [hit["similarity"] for hit in sorted(hits, key=lambda hit: int(hit["id"]))]


def _encode_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


_TEXT: dict[str, Callable[[Server, str], list[float]]] = {
    OURS: _read_embeddings("/v1/embeddings", {"language": "en"}),
    INFINITY: _read_embeddings("/embeddings", {}),
    CLIP_RETRIEVAL: lambda server, text: _encode_axes(server, {"text": text}),
}
_PICTURE: dict[str, Callable[[Server, bytes], list[float]]] = {
    INFINITY: lambda server, png: _read_embeddings("/embeddings", {"modality": "image"})(
        server, f"data:image/png;base64,{png.decode()}"
    ),
    CLIP_RETRIEVAL: lambda server, png: _encode_axes(server, {"image": png.decode()}),
}
