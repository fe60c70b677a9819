"""`python -m benchmarks.scrolling`: frames that Chromium drops while the page scrolls through many pictures.

Starts the real service, puts made-up photographs of five shapes and many months, and turns the wheel through the last
thousand at a person's pace, once so that they come, and once back up; to those before it jumps. Prints what Chromium's
own trace says. With `--put`, only so many are put, and listed as often as it takes: the page fetches and shows each
under an address of its own.
"""

import io
import json
import re
import secrets
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import typer
from PIL import Image, ImageDraw
from playwright.sync_api import Route
from rich.console import Console

from benchmarks.process import run_service
from demo.shots import CHROMIUM_ARGUMENTS, open_browser

_console = Console()
_SHAPES = ((640, 427), (427, 640), (512, 512), (640, 360), (640, 480))
_BATCH = 100
_STEP, _PAUSE = 120, 25  # px a turn of the wheel, and ms between two: 4,800 px a second
_TRACED = 1_000  # pictures: of ten thousand, a trace would have 1 GB, and both ways would take a quarter of an hour
_JUMP = """count => {
    scrollTo(0, document.documentElement.scrollHeight);
    return document.querySelectorAll("#results figure").length >= count;
}"""
_LISTING = re.compile(r"/v1/pictures\?")
_CATEGORIES = ["cc", "benchmark", "viz"]
_SEEN, _DROPPED = ("STATE_PRESENTED_ALL", "STATE_PRESENTED_PARTIAL"), "STATE_DROPPED"


def main(
    pictures: Annotated[int, typer.Option(min=10, max=20_000, help="How many are scrolled through")] = 1_000,
    put: Annotated[int, typer.Option(max=100, help="How many of them are put; 0 for all")] = 0,
    width: Annotated[int, typer.Option(help="Of the window")] = 1280,
    height: Annotated[int, typer.Option(help="Of the window")] = 860,
) -> None:
    """Measure and print."""
    key = secrets.token_urlsafe(32)
    with run_service(key) as url, open_browser() as browser:
        _console.print(f"Putting {put or pictures:,} pictures; Chromium with {' '.join(CHROMIUM_ARGUMENTS)}.")
        put_pictures(url, key, put or pictures)
        page = browser.new_page(base_url=url, viewport={"width": width, "height": height})
        if put:
            page.route(_LISTING, lambda route: repeat_listing(route, pictures // put))
        page.goto("/")
        page.locator("#results figure").first.wait_for()
        page.wait_for_function(_JUMP, arg=pictures - _TRACED, polling=50, timeout=600_000)
        page.mouse.move(width / 2, height / 2)
        turns = pictures * 20
        for name, step in (("down, pictures coming", _STEP), ("back up", -_STEP)):
            with tempfile.TemporaryDirectory() as folder:
                trace = Path(folder) / "trace.json"
                browser.start_tracing(page=page, path=trace, categories=_CATEGORIES)
                turns = scroll(page, step, turns)
                browser.stop_tracing()
                frames = count_frames(json.loads(trace.read_bytes())["traceEvents"])
            total = frames["seen"] + frames["dropped"]
            shares = {kind: f"{frames[kind] / max(1, total):.1%}" for kind in ("dropped", "noticed", "incomplete")}
            _console.print(
                f"{name}: {page.locator('#results figure').count():,} pictures on the page, {turns:,} turns of the "
                f"wheel, {total:,} frames, {shares['dropped']} dropped ({shares['noticed']} noticed), "
                f"{shares['incomplete']} with a blank part"
            )


def put_pictures(url: str, key: str, count: int) -> None:
    """Put so many pictures, each of its own colours, over a hundred months."""
    random = Random(0)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=600, trust_env=False) as http:
        for start in range(0, count, _BATCH):
            numbers = range(start, min(count, start + _BATCH))
            files = [("picture", (f"{number}.jpg", draw_picture(random, number))) for number in numbers]
            taken = [f"{2015 + number % 100 // 12}-{1 + number % 12:02}-{1 + number % 28:02}" for number in numbers]
            records = [
                {"id": f"IMG_{number:05}.jpg", "metadata": {"taken_at": date}}
                for number, date in zip(numbers, taken, strict=True)
            ]
            answer = http.post("/v1/pictures/batch", files=files, data={"records": json.dumps(records)})
            answer.raise_for_status()


def repeat_listing(route: Route, times: int) -> None:
    """Answer a listing as if each picture was there so many times, one after the other."""
    address = urlsplit(route.request.url)
    asked = dict(parse_qsl(address.query))
    start, limit = int(asked.pop("cursor", 0)), int(asked.pop("limit"))
    answer = route.fetch(url=address._replace(query=urlencode({**asked, "limit": 100})).geturl())
    listing = answer.json()
    numbers = range(start, min(start + limit, len(listing["items"]) * times))
    items = [listing["items"][number // times] for number in numbers]
    of_its_own = [
        {**item, "id": f"{number}-{item['id']}", "url": f"{item['url']}&number={number}"}
        for number, item in zip(numbers, items, strict=True)
    ]
    cursor = str(start + limit) if len(numbers) == limit else None
    route.fulfill(response=answer, json={**listing, "items": of_its_own, "next_cursor": cursor})


def draw_picture(random: Random, number: int) -> bytes:
    """Draw a picture like no other: a gradient with discs, with as many details as a photograph has."""
    size = _SHAPES[number % len(_SHAPES)]
    picture = Image.effect_noise(size, 40).convert("RGB")
    drawing = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, radius = random.randrange(size[0]), random.randrange(size[1]), random.randrange(20, 120)
        colour = (random.randrange(256), random.randrange(256), random.randrange(256))
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return content.getvalue()


def scroll(page: Any, step: int, most: int) -> int:
    """Turn the wheel until nothing moves any more, at `most` so often; return how often."""
    turns, still, before = 0, 0, -1
    while still < 20 and turns < most:
        page.mouse.wheel(0, step)
        page.wait_for_timeout(_PAUSE)
        turns += 1
        if turns % 10 == 0:
            at = page.evaluate("scrollY")
            still, before = (still + 10 if at == before else 0), at
    return turns


def count_frames(events: list[dict[str, Any]]) -> Counter[str]:
    """Count the frames of a trace: `seen`, of these `incomplete` (with a blank part); `dropped`, of these `noticed`."""
    frames = Counter[str]()
    for event in events:
        report = event.get("args", {}).get("frame_reporter")
        if event.get("name") != "PipelineReporter" or event.get("ph") != "b" or not report:
            continue
        frames["seen"] += report["state"] in _SEEN
        frames["dropped"] += report["state"] == _DROPPED
        frames["noticed"] += report["state"] == _DROPPED and bool(report.get("affects_smoothness"))
        frames["incomplete"] += report["state"] in _SEEN and bool(report.get("has_missing_content"))
    return frames


if __name__ == "__main__":
    typer.run(main)
