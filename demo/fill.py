"""Puts the demo gallery into a running service over HTTP, several pictures at a time; pictures already there stay."""

import json

import httpx

from client.client import is_proxied, list_all, make_progress, map_in_order, put_picture
from demo.gallery import DemoPicture, draw_pictures, list_outlines

_IN_FLIGHT = 8  # requests
_TIMEOUT = 60.0  # seconds
_NAMES = {"twemoji": "Twemoji", "openmoji": "OpenMoji"}


def fill(url: str, key: str, transport: httpx.BaseTransport | None = None) -> int:
    """Put every missing picture of the gallery; returns their number. Raises `httpx.HTTPError` when refused."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=is_proxied(url)
    ) as client:
        there = {item["id"] for item in list_all(client, "/v1/pictures")}
        total = sum(outline.id not in there for outline in list_outlines())

        def send(picture: DemoPicture) -> httpx.Response:
            file = (f"{picture.id}.png", picture.content, "image/png")
            return put_picture(client, picture.id, file, picture.captions, _record(picture))

        with make_progress() as bar:
            task = bar.add_task("Pictures", total=total)
            for _, response in map_in_order(send, draw_pictures(without=there), _IN_FLIGHT):
                response.raise_for_status()
                bar.advance(task)
    return total


def _record(picture: DemoPicture) -> dict[str, str]:
    """Return what the filter bar offers: one drawing or a scene, how many things it shows, who drew them."""
    things = len(picture.objects)
    tags = ["single" if things == 1 else "scene"]
    metadata = {"things": things, "drawn_by": _NAMES[picture.drawing_set]}
    return {"tags": json.dumps(tags), "metadata": json.dumps(metadata)}
