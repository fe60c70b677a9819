"""Puts the demo gallery into a running service over HTTP, several pictures at a time; pictures already there stay."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import httpx

from client.client import every, in_order, progress, proxied, put
from client.commands.learn import FILLING, write_filling
from demo.gallery import DemoPicture, outlines, pictures

_IN_FLIGHT = 8  # requests
_TIMEOUT = 60.0  # seconds
_NAMES = {"twemoji": "Twemoji", "openmoji": "OpenMoji"}
_BEAT = 1.0  # seconds between two writes of the progress file


def fill(url: str, key: str, transport: httpx.BaseTransport | None = None, home: Path | None = None) -> int:
    """Put every missing picture of the gallery; returns their number. Raises `httpx.HTTPError` when refused.

    While it runs, a file under `home`, the data root, says how far it is: `pictoglot learn` waits for it.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=proxied(url)
    ) as client:
        there = {item["id"] for item in every(client, "/v1/pictures")}
        total = sum(outline.id not in there for outline in outlines())
        present, done = len(outlines()) - total, 0

        def send(picture: DemoPicture) -> httpx.Response:
            file = (f"{picture.id}.png", picture.content, "image/png")
            return put(client, picture.id, file, picture.captions, _record(picture))

        with _told(home, lambda: present + done), progress() as bar:
            task = bar.add_task("Pictures", total=total)
            for _, response in in_order(send, pictures(without=there), _IN_FLIGHT):
                response.raise_for_status()
                done += 1
                bar.advance(task)
    return total


def _record(picture: DemoPicture) -> dict[str, str]:
    """What the filter bar has to choose from: one drawing or a scene, how many things it shows, who drew them."""
    things = len(picture.objects)
    tags = ["single" if things == 1 else "scene"]
    metadata = {"things": things, "drawn_by": _NAMES[picture.drawing_set]}
    return {"tags": json.dumps(tags), "metadata": json.dumps(metadata)}


@contextmanager
def _told(home: Path | None, done: Callable[[], int]) -> Iterator[None]:
    """Write the progress file every second, also while the service is busy; remove it at the end."""
    if home is None:
        yield
        return
    ended = Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # a full disk is no reason to stop filling
                write_filling(home, done(), len(outlines()))
            if ended.wait(_BEAT):
                return

    beating = Thread(target=beat)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        (home / FILLING).unlink(missing_ok=True)
