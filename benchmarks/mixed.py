"""A folder of mixed pictures: drawings as PNG, JPEG and WebP, with EXIF and without. Measures nothing."""

from pathlib import Path
from typing import Any

from PIL import Image

from demo.gallery import Outline, draw, outlines

_FORMATS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", ".png", {"compress_level": 1}),
    ("JPEG", ".jpg", {"quality": 90}),
    ("WEBP", ".webp", {"quality": 80, "method": 0}),
)
_IN_A_FOLDER = 500


def mixed(folder: Path, count: int) -> list[str]:
    """Write so many different files below `folder`, at most three for each drawing of the demo; returns their ids."""
    ids = list[str]()
    for outline in outlines():
        drawn = draw(outline)
        for kind, suffix, options in _FORMATS:
            if len(ids) == count:
                return ids
            ids.append(f"{len(ids) // _IN_A_FOLDER:02d}/{outline.id}-{kind.lower()}")
            file = folder / f"{ids[-1]}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(file, kind, **options, **({"exif": _exif(outline, len(ids))} if len(ids) % 2 else {}))
    raise ValueError(f"the demo has drawings for {len(ids):,} files")


def _exif(outline: Outline, number: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010E] = outline.caption
    block.get_ifd(0x8769)[0x9003] = f"{1970 + number % 50}:06:01 12:00:00"
    return block
