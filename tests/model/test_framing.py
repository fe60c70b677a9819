"""A picture in the frame of a tower: open_clip's own transform of it gives the same bits as of the whole picture."""

from itertools import product

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from model import base
from model.pictures import LONGEST, SHORTEST, SQUASH, Frame

SIZES = [
    (1_024, 768), (768, 1_024), (333, 1_000), (57, 32), (32, 57), (32, 32), (48, 32), (20, 400), (9, 16), (401, 30),
]  # fmt: skip


WAYS = [*product((SHORTEST, LONGEST, SQUASH), ("bicubic", "bilinear"), (32, (32, 48)))]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_open_clip_sees_the_same_in_the_frame_as_in_the_whole_picture(
    how: tuple[str, str, int | tuple[int, int]],
) -> None:
    mode, interpolation, size = how
    asked = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=200)
    transform, frame = image_transform_v2(asked, is_train=False), base._make_frame(asked)
    draw = np.random.default_rng(0)
    for width, height in SIZES:
        picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        framed = frame(picture)
        assert framed.size == ((48, 32) if size == (32, 48) else (32, 32))
        assert torch.equal(transform(framed), transform(picture)), (width, height)


def test_a_frame_is_read_from_what_it_writes() -> None:
    frame = Frame(260, 224, LONGEST, "bilinear", 255)
    assert Frame.parse_json(frame.dump_json()) == frame and Frame.parse_json("") is None
