"""Puts the demo gallery into a running service over HTTP, several pictures at a time; pictures already there stay."""

import httpx

from client.api import Client
from client.contract import PictureForm
from client.terminal import make_progress, map_in_order
from demo.gallery import DemoPicture, draw_pictures, list_outlines

_IN_FLIGHT = 8  # requests
_TIMEOUT = 60.0  # seconds
_NAMES = {"twemoji": "Twemoji", "openmoji": "OpenMoji"}


def fill(url: str, key: str, transport: httpx.BaseTransport | None = None) -> int:
    """Put every missing picture of the gallery; returns their number. Raises `httpx.HTTPError` when refused."""
    with Client(url, key, timeout=_TIMEOUT, transport=transport) as client:
        there = {item["id"] for item in client.iterate_pictures()}
        total = sum(outline.id not in there for outline in list_outlines())

        def send(picture: DemoPicture) -> None:
            client.put_picture(picture.id, _describe(picture))

        with make_progress() as bar:
            task = bar.add_task("Pictures", total=total)
            for _ in map_in_order(send, draw_pictures(without=there), _IN_FLIGHT):
                bar.advance(task)
    return total


def _describe(picture: DemoPicture) -> PictureForm:
    """Return the picture with what the filter bar offers: one drawing or a scene, how many things, who drew them."""
    things = len(picture.objects)
    return {
        "picture": (f"{picture.id}.png", picture.content, "image/png"),
        "captions": picture.captions,
        "tags": ["single" if things == 1 else "scene"],
        "metadata": {"things": things, "drawn_by": _NAMES[picture.drawing_set]},
    }
