"""Takes the pictures of docs/screenshots/: starts a demo of its own, teaches it four languages, stops it again.

The browser needs fonts for Arabic and Japanese (on Debian: fonts-noto-core, fonts-noto-cjk).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from demo.dataset import lines, rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
LANGUAGES = ("de", "ar", "ja", "fr")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_KEY = "admin-key-of-the-screenshots"
_CLI = (sys.executable, "-P", "-c", "from service.cli import main; main()")
_START = 180.0  # seconds until searches are answered
_STOP = 60.0  # seconds until all processes are gone
_WIDE, _TALL, _NARROW = (1280, 860), (1280, 1270), (390, 844)


class NotPossible(Exception):
    """The pictures cannot be taken; the message is one sentence."""


@dataclass(frozen=True)
class Demo:
    """A running demo with its own data root."""

    home: Path
    url: str
    environment: dict[str, str]

    def pictoglot(self, *arguments: str) -> None:
        """Run a command of the command line against this demo."""
        done = subprocess.run((*_CLI, *arguments), env=self.environment, cwd=self.home, check=False)
        if done.returncode:
            raise NotPossible(f"`pictoglot {arguments[0]}` ended with status {done.returncode}.")


@dataclass(frozen=True)
class Shot:
    """One picture: the address, the size of the window, and what to do before the picture is taken."""

    name: str
    address: str
    act: Callable[["Page", Demo], None] = lambda page, demo: None
    size: tuple[int, int] = _WIDE
    scheme: Literal["light", "dark"] = "light"


def _search_by_picture(page: "Page", demo: Demo) -> None:
    content = httpx.get(f"{demo.url}/v1/pictures/emoji-1f34e/content", trust_env=False).content
    page.select_option("#language", "de")
    page.set_input_files("#picture", {"name": "apple.webp", "mimeType": "image/webp", "buffer": content})
    page.locator("#captions section").nth(len(LANGUAGES)).wait_for()
    page.locator("#results figure").first.wait_for()


def _search_scene(page: "Page", demo: Demo) -> None:
    """A held-out caption, in a language that nobody names: neither the scene nor the text was seen in training."""
    scene = next(row for row in rows("fr") if row["split"] == "val")
    page.fill("#text", scene["caption"])
    page.keyboard.press("Enter")
    page.locator("#reading", has_text="version").wait_for()


def _open_picture(page: "Page", demo: Demo) -> None:
    page.locator("#results a.frame").first.click()
    page.locator("dialog dd[lang=ja]").first.wait_for()


def _filter(page: "Page", demo: Demo) -> None:
    page.click("#filters-button")
    page.locator("[data-facet=drawn_by] .facet", has_text="OpenMoji").click()
    page.locator("#facets [aria-pressed=true]").wait_for()
    page.locator("#filter-key").fill("things")
    page.locator("#filter-from").fill("2")
    page.get_by_role("button", name="Add this filter").click()
    page.locator("#chips .chip").nth(1).wait_for()
    page.locator("#results figure").first.wait_for()
    page.locator("#filter-key").blur()


def _add(page: "Page", demo: Demo) -> None:
    """Choose two pictures, say what they show, and send neither."""
    for id, name in (("emoji-1f422", "turtle.jpg"), ("emoji-26f5", "sailboat.jpg")):
        content = httpx.get(f"{demo.url}/v1/pictures/{id}/content", trust_env=False).content
        page.set_input_files("#add-files", {"name": name, "mimeType": "image/jpeg", "buffer": content})
    first, second = page.locator("#add-list > li").all()
    first.locator(".words").fill("a green turtle")
    first.get_by_role("button", name="Add a caption").click()
    first.locator(".language").nth(1).fill("ar")
    first.locator(".words").nth(1).fill("سلحفاة خضراء")
    second.locator(".language").fill("de")
    second.locator(".words").fill("ein Segelboot")
    page.locator("#add-form").get_by_label("Collection", exact=True).fill("sea")
    for tag in ("holidays", "water"):
        page.get_by_label("Add to: Tags").fill(tag)
        page.keyboard.press("Enter")
    page.get_by_label("Add to: Tags").blur()


def _edit(page: "Page", demo: Demo) -> None:
    page.locator("#results a.frame").first.click()
    page.get_by_role("button", name="Edit …").click()
    page.locator("dialog form.record").wait_for()


def _teach(page: "Page", demo: Demo) -> None:
    """Teach one more language, and wait until a third of it is done."""
    page.fill("#teach-tag", "es")
    page.set_input_files("#teach-file", {"name": "es.jsonl", "mimeType": "text/plain", "buffer": lines("es").encode()})
    page.click("#teach-start")
    page.locator(".phases .now", has_text="train").first.wait_for(timeout=300_000)
    while page.locator("progress").first.evaluate("bar => bar.value") < 0.3:
        page.wait_for_timeout(100)


def _roll_back(page: "Page", demo: Demo) -> None:
    """Open the dialog, and do not confirm."""
    page.get_by_role("button", name="Roll back German").click()
    page.locator("dialog .stays").wait_for()


def _change_history(page: "Page", demo: Demo) -> None:
    """Roll a language back and restore it, so that the list shows both."""
    release = httpx.get(f"{demo.url}/v1/languages", trust_env=False).json()["release"]
    demo.pictoglot(
        "rollback", LANGUAGES[-1], "--yes", "--expected", str(release), "--reason", "taught from a wrong file"
    )
    demo.pictoglot("releases", "--restore", str(release), "--expected", str(release + 1), "--reason", "it was right")
    page.reload()
    page.locator(f"[data-release='{release + 2}']").wait_for()


SHOTS = (
    Shot("search", "/#search?q=roter+Apfel&language=de"),
    Shot("search-dark", "/#search?q=red+apple", scheme="dark"),
    Shot("search-rtl", "/#search?q=تفاح أحمر&language=ar"),
    Shot("search-narrow", "/#search?q=赤リンゴ&language=ja", size=_NARROW),
    Shot("search-scene", "/#search", _search_scene),
    Shot("picture", "/#search", _search_by_picture, size=_TALL),
    Shot("captions", "/#search?q=roter+Apfel&language=de", _open_picture),
    Shot("filters", "/#search", _filter, size=_TALL),
    Shot("add", "/#add", _add, size=_TALL),
    Shot("edit", "/#search?q=roter+Apfel&language=de", _edit),
    Shot("duplicates", "/#duplicates?min_score=0.9", lambda page, demo: page.locator(".group").first.wait_for()),
    Shot("languages", "/#languages", size=_TALL),
    Shot("languages-dark", "/#languages", size=_TALL, scheme="dark"),
    Shot("languages-narrow", "/#languages", size=_NARROW),
    Shot("rollback", "/#languages", _roll_back),
    Shot("report", f"/versions/{len(LANGUAGES)}/report", size=(1280, 2230)),
    Shot("releases", "/#releases", _change_history, size=(1280, 1080)),
    Shot("teach", "/#teach", _teach),  # last: the demo is busy from then on
)


def take_all(folder: Path | None, names: Sequence[str]) -> None:
    """Take all pictures, or the named ones; without `folder`, into that of the checkout. Raises `NotPossible`."""
    if folder is None and not FOLDER.is_dir():
        raise NotPossible("Outside of a checkout, name the folder to write with `--out`.")
    folder = folder or FOLDER
    unknown = set(names) - {shot.name for shot in SHOTS}
    if unknown:
        raise NotPossible(f"There is no picture {', '.join(sorted(unknown))}; there are {_names()}.")
    try:
        from playwright.sync_api import sync_playwright  # late: only the tests' requirements have it
    except ModuleNotFoundError:
        raise NotPossible("This needs Playwright: install it with `pip install playwright`.") from None
    if CHROMIUM is None:
        raise NotPossible("This needs Chromium or Chrome: install one of them.")
    folder.mkdir(parents=True, exist_ok=True)
    with _running() as demo, sync_playwright() as playwright:
        for tag in LANGUAGES:
            demo.pictoglot("demo", "dataset", tag, "--out", f"{tag}.jsonl")
            demo.pictoglot("learn", tag, f"{tag}.jsonl", "--watch")
        _warm_up(demo)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for shot in SHOTS:
            if not names or shot.name in names:
                _take(browser, demo, shot, folder)
        browser.close()


def _warm_up(demo: Demo) -> None:
    """A few searches: the first ones after a start or a lesson are slower, and the pictures show the time."""
    for text in ("cat", "dog", "ship"):
        for language in ("en", *LANGUAGES):
            question = {"text": text, "language": language}
            httpx.post(f"{demo.url}/v1/search/pictures", json=question, trust_env=False).raise_for_status()


def _names() -> str:
    return ", ".join(shot.name for shot in SHOTS)


@contextlib.contextmanager
def _running() -> Iterator[Demo]:
    """`pictoglot demo up` on a temporary data root and a free port; nothing is left of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-", ignore_cleanup_errors=True) as folder:
        home, port = Path(folder), _free_port()
        url = f"http://127.0.0.1:{port}"
        own = {"HOME": folder, "PORT": str(port), "URL": url, "KEY": _KEY, "ADMIN_KEY": _KEY}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
        environment |= {f"PICTOGLOT_{name}": value for name, value in own.items()}
        process = subprocess.Popen((*_CLI, "demo", "up"), env=environment, cwd=home)
        try:
            _until_ready(process, url)
            yield Demo(home, url, environment)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP)


def _until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                return
        time.sleep(0.3)
    raise NotPossible("The demo did not start; its log above says why.")


# Of the pictures that can be seen, all: the others are loaded when somebody scrolls to them.
_LOADED = """() => [...document.images]
    .filter((each) => each.getBoundingClientRect().top < innerHeight && each.offsetParent)
    .every((each) => each.complete && each.naturalWidth)"""


def _take(browser: "Browser", demo: Demo, shot: Shot, folder: Path) -> None:
    width, height = shot.size
    context = browser.new_context(
        base_url=demo.url, viewport={"width": width, "height": height}, color_scheme=shot.scheme
    )
    page = context.new_page()
    page.goto("/static/icon.svg")
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{_KEY}')")
    page.goto(shot.address)
    page.locator("main h1:visible").wait_for()
    page.locator(".waiting").first.wait_for(state="detached")
    shot.act(page, demo)
    page.wait_for_function(_LOADED)
    page.wait_for_timeout(1_000)  # pictures fade in
    page.screenshot(path=folder / f"{shot.name}.png")
    context.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
