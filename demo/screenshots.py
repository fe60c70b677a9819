"""Takes the pictures of docs/screenshots/: starts a demo of its own, teaches it four languages, stops it again.

Then those of photographs (`demo.photo_screenshots`).

The browser needs fonts for Arabic and Japanese (on Debian: fonts-noto-core, fonts-noto-cjk).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from demo.dataset import build_rows, format_lines
from demo.gallery import list_outlines
from demo.photo_screenshots import PHOTOGRAPHS
from demo.shots import NARROW, TALL, NotPossible, Scene, Shot, Site, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
LANGUAGES = ("de", "ar", "ja", "fr")


def _search_by_picture(page: "Page", site: Site) -> None:
    content = httpx.get(f"{site.url}/v1/pictures/emoji-1f34e/content", trust_env=False).content
    page.select_option("#language", "de")
    page.set_input_files("#picture", {"name": "apple.webp", "mimeType": "image/webp", "buffer": content})
    page.locator("#captions section").nth(len(LANGUAGES)).wait_for()
    page.locator("#results figure").first.wait_for()


def _show_all(page: "Page", site: Site) -> None:
    """Show what matches less well, too."""
    page.locator("#results figure").nth(9).wait_for()
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")


def _search_scene(page: "Page", site: Site) -> None:
    """Search a held-out caption in a language that nobody names: neither scene nor text was seen in training."""
    scene = next(row for row in build_rows("fr") if row["split"] == "val")
    page.fill("#text", scene["caption"])
    page.keyboard.press("Enter")
    page.locator("#reading", has_text="Detected").wait_for()


def _open_picture(page: "Page", site: Site) -> None:
    page.locator("#results a.frame").first.click()
    page.locator("dialog dd[lang=ja]").first.wait_for()


def _filter(page: "Page", site: Site) -> None:
    page.click("#filters-button")
    page.locator("[data-facet=drawn_by] .facet", has_text="OpenMoji").click()
    page.locator("#facets [aria-pressed=true]").wait_for()
    page.locator("#filter-key").fill("things")
    page.locator("#filter-from").fill("2")
    page.get_by_role("button", name="Add this filter").click()
    page.locator("#chips .chip").nth(1).wait_for()
    page.locator("#results figure").first.wait_for()
    page.locator("#filter-key").blur()


def _add(page: "Page", site: Site) -> None:
    """Choose two pictures, say what they show, and send neither."""
    for id, name in (("emoji-1f422", "turtle.jpg"), ("emoji-26f5", "sailboat.jpg")):
        content = httpx.get(f"{site.url}/v1/pictures/{id}/content", trust_env=False).content
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


def _edit(page: "Page", site: Site) -> None:
    page.locator("#results a.frame").first.click()
    page.get_by_role("button", name="Edit …").click()
    page.locator("dialog form.record").wait_for()


def _teach(page: "Page", site: Site) -> None:
    """Teach one more language, and wait until a third of it is done."""
    page.set_input_files(
        "#teach-file", {"name": "es.jsonl", "mimeType": "text/plain", "buffer": format_lines("es").encode()}
    )
    page.click("text=Check the rows")
    page.click("#teach-start")
    page.locator("#teach-last progress").wait_for(timeout=300_000)
    while page.locator("progress").first.evaluate("bar => bar.value") < 0.3:
        page.wait_for_timeout(100)


def _roll_back(page: "Page", site: Site) -> None:
    """Open the dialog, and do not confirm."""
    page.locator("#languages-body summary", has_text="Details German").click()
    page.get_by_role("button", name="Roll back German").click()
    page.locator("dialog .stays").wait_for()


def _change_history(page: "Page", site: Site) -> None:
    """Roll a language back and restore it, so that the list shows both."""
    release = httpx.get(f"{site.url}/v1/languages", trust_env=False).json()["release"]
    site.run_command(
        "rollback", LANGUAGES[-1], "--yes", "--expected", str(release), "--reason", "taught from a wrong file"
    )
    site.run_command("releases", "--restore", str(release), "--expected", str(release + 1), "--reason", "it was right")
    page.reload()
    page.locator(f"[data-release='{release + 2}']").wait_for()


SHOTS = (
    Shot("search", "/#search?q=roter+Apfel&language=de", _show_all),
    Shot("search-dark", "/#search?q=red+apple", scheme="dark"),
    Shot("search-rtl", "/#search?q=تفاح أحمر&language=ar"),
    Shot("search-narrow", "/#search?q=赤リンゴ&language=ja", size=NARROW),
    Shot("search-scene", "/#search", _search_scene),
    Shot("picture", "/#search", _search_by_picture, size=TALL),
    Shot("captions", "/#search?q=roter+Apfel&language=de", _open_picture),
    Shot("filters", "/#search", _filter, size=TALL),
    Shot("add", "/#add", _add, size=TALL),
    Shot("edit", "/#search?q=roter+Apfel&language=de", _edit),
    Shot("duplicates", "/#duplicates?min_score=0.9", lambda page, site: page.locator(".group").first.wait_for()),
    Shot("languages", "/#languages", size=TALL),
    Shot("languages-dark", "/#languages", size=TALL, scheme="dark"),
    Shot("languages-narrow", "/#languages", size=NARROW),
    Shot("rollback", "/#languages", _roll_back),
    Shot("report", f"/versions/{len(LANGUAGES)}/report", size=(1280, 2230)),
    Shot("releases", "/#releases", _change_history, size=(1280, 1080)),
    Shot("teach", "/#teach?language=es&way=file", _teach),  # last: the demo is busy from then on
)


def _learn(site: Site) -> None:
    while sum(item["count"] for item in httpx.get(f"{site.url}/v1/collections", trust_env=False).json()["items"]) < len(
        list_outlines()
    ):
        time.sleep(1)  # the demo fills its gallery while it is up: what it is taught from has to be there
    for tag in LANGUAGES:
        site.run_command("demo", "dataset", tag, "--out", f"{tag}.jsonl")
        site.run_command("learn", tag, f"{tag}.jsonl", "--watch")
    site.warm_up(("en", *LANGUAGES))


SCENES = (Scene(("demo", "up"), _learn, SHOTS), PHOTOGRAPHS)


def take_all(folder: Path | None, names: Sequence[str]) -> None:
    """Take all pictures, or the named ones; without `folder`, into that of the checkout. Raises `NotPossible`."""
    if folder is None and not FOLDER.is_dir():
        raise NotPossible("Outside of a checkout, name the folder to write with `--out`.")
    folder = folder or FOLDER
    known = [shot.name for scene in SCENES for shot in scene.shots]
    if unknown := set(names) - {*known}:
        raise NotPossible(f"There is no picture {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    with open_browser() as browser:
        folder.mkdir(parents=True, exist_ok=True)
        for scene in SCENES:
            scene.take(browser, folder, names)
