"""How the pictures of the page are taken: a service of its own with something in it, and a browser that looks at it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
WIDE, TALL, NARROW = (1280, 860), (1280, 1270), (390, 844)
_KEY = "admin-key-of-the-screenshots"
_CLI = (sys.executable, "-P", "-c", "from client.commands import main; main()")
_START = 180.0  # seconds until searches are answered
_STOP = 60.0  # seconds until all processes are gone


class NotPossible(Exception):
    """The pictures cannot be taken; the message is one sentence."""


@dataclass(frozen=True)
class Site:
    """A running service with its own data root."""

    home: Path
    url: str
    environment: dict[str, str]

    def run_command(self, *arguments: str) -> None:
        """Run a command of the command line against it."""
        done = subprocess.run((*_CLI, *arguments), env=self.environment, cwd=self.home, check=False)
        if done.returncode:
            raise NotPossible(f"`pictoglot {arguments[0]}` ended with status {done.returncode}.")

    def warm_up(self, languages: Sequence[str]) -> None:
        """Search a few times: the first searches after a start or a lesson are slower, and pictures show the time."""
        headers = {"Authorization": f"Bearer {_KEY}"}
        for text in ("cat", "dog", "ship"):
            for language in languages:
                question = {"text": text, "language": language}
                url = f"{self.url}/v1/search/pictures"
                httpx.post(url, json=question, headers=headers, trust_env=False).raise_for_status()


@dataclass(frozen=True)
class Shot:
    """One picture: the address, the size of the window, and what to do before the picture is taken."""

    name: str
    address: str
    act: Callable[["Page", Site], None] = lambda page, site: None
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"


@dataclass(frozen=True)
class Scene:
    """A service, started by a command of `run_command` with settings; what fills it; and the pictures taken of it."""

    command: Sequence[str]
    fill: Callable[[Site], None]
    shots: Sequence[Shot]
    settings: Mapping[str, str] = field(default_factory=dict)

    def take(self, browser: "Browser", folder: Path, names: Sequence[str]) -> None:
        """Take all of its pictures, or the named ones, if any of them is."""
        shots = [shot for shot in self.shots if not names or shot.name in names]
        if shots:
            with self._run_site() as site:
                self.fill(site)
                for shot in shots:
                    _take(browser, site, shot, folder)

    @contextlib.contextmanager
    def _run_site(self) -> Iterator[Site]:
        """Run the demo on a temporary data root and a free port; nothing is left of it afterwards."""
        with tempfile.TemporaryDirectory(prefix="pictoglot-", ignore_cleanup_errors=True) as folder:
            home, port = Path(folder), _free_port()
            url = f"http://127.0.0.1:{port}"
            own = {"HOME": folder, "PORT": str(port), "URL": url, "KEY": _KEY, "ADMIN_KEY": _KEY, **self.settings}
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
            environment |= {f"PICTOGLOT_{name}": value for name, value in own.items()}
            process = subprocess.Popen((*_CLI, *self.command), env=environment, cwd=home)
            try:
                _wait_until_ready(process, url)
                yield Site(home, url, environment)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(_STOP)


@contextlib.contextmanager
def open_browser() -> Iterator["Browser"]:
    """Open a browser; raises `NotPossible` where Playwright or Chromium is missing."""
    try:
        from playwright.sync_api import sync_playwright  # late: only the tests' requirements have it
    except ModuleNotFoundError:
        raise NotPossible("This needs Playwright: install it with `pip install playwright`.") from None
    if CHROMIUM is None:
        raise NotPossible("This needs Chromium or Chrome: install one of them.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                return
        time.sleep(0.3)
    raise NotPossible("The service did not start; its log above says why.")


# Of the pictures that can be seen, all: the others are loaded when somebody scrolls to them.
_LOADED = """() => [...document.images]
    .filter((each) => each.getBoundingClientRect().top < innerHeight && each.offsetParent)
    .every((each) => each.complete && each.naturalWidth)"""


def _take(browser: "Browser", site: Site, shot: Shot, folder: Path) -> None:
    width, height = shot.size
    context = browser.new_context(
        base_url=site.url, viewport={"width": width, "height": height}, color_scheme=shot.scheme
    )
    page = context.new_page()
    page.goto("/static/icon.svg")
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{_KEY}')")
    page.goto(shot.address)
    page.locator("main h1:visible").wait_for()
    page.locator(".waiting").first.wait_for(state="detached")
    shot.act(page, site)
    page.wait_for_function(_LOADED)
    page.wait_for_timeout(1_000)  # pictures fade in
    page.screenshot(path=(file := folder / f"{shot.name}.png"))
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(256).save(file, optimize=True)  # a third of the bytes
    context.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
