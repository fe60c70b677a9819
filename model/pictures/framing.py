"""The size that an image tower takes: a picture is resized, then cut or filled up. Pixels only, by Pillow.

Imports nothing heavier than Pillow, because the child processes of `model.pictures.decoder` import it when they start.
"""

import json
from dataclasses import asdict, dataclass

from PIL import Image

SHORTEST, LONGEST, SQUASH = "shortest", "longest", "squash"  # as open_clip calls them
_BY_NAME = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Frame:
    """The size in pixels that a tower takes, and how a picture gets it, in the words of open_clip's configuration.

    `shortest` cuts what is longer than that, `longest` fills up with the grey level `fill`, `squash` bends. A picture
    in its frame stays as it is when it is framed again, so open_clip's own transform of it gives the pixels that it
    gives of the whole picture, bit by bit.
    """

    height: int
    width: int
    resize: str = SHORTEST
    interpolation: str = "bicubic"
    fill: int = 0

    def __call__(self, rgb: Image.Image) -> Image.Image:
        """Return the RGB picture in this frame."""
        size, by = self._compute_size(*rgb.size), _BY_NAME[self.interpolation]
        if self.resize == SHORTEST and self.height != self.width:
            by = Image.Resampling.BICUBIC  # open_clip passes no other one on
        resized = rgb.resize(size, by)
        return resized if self.resize == SQUASH else self._center(resized)

    def dump_json(self) -> str:
        """Return what `parse_json` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse_json(text: str) -> "Frame | None":
        """Return a frame from `dump_json`; None of an empty text."""
        return Frame(**json.loads(text)) if text else None

    def _compute_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after resizing, rounded as torchvision and open_clip round them."""
        if self.resize == SQUASH:
            return self.width, self.height
        if self.resize == SHORTEST and self.width == self.height:
            longer = int(self.width * max(width, height) / min(width, height))
            return (self.width, longer) if width <= height else (longer, self.width)
        ratios = height / self.height, width / self.width
        ratio = max(ratios) if self.resize == LONGEST else min(ratios)
        return round(width / ratio), round(height / ratio)

    def _center(self, rgb: Image.Image) -> Image.Image:
        width, height = max(rgb.width, self.width), max(rgb.height, self.height)
        if (width, height) != rgb.size:
            filled = Image.new("RGB", (width, height), (self.fill,) * 3)
            filled.paste(rgb, ((width - rgb.width) // 2, (height - rgb.height) // 2))
            rgb = filled
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        return rgb.crop((left, top, left + self.width, top + self.height))
