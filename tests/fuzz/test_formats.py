"""Mutated TIFF, HEIC and AVIF files: never a 5xx, and the decoder's processes keep their memory bound.

Counts follow the profile: 5,000 files under `make fuzz`.
"""

import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.bad_inputs import CODES
from tests.model.pictures.test_formats import READ, alpha, claiming, heic, rgb16
from tests.model.pictures.test_pictures import GREY16, drawing, saved
from tests.service.harness import Service, share_service

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(7_200)]


@cache
def make_originals() -> tuple[bytes, ...]:
    """Make them once, and only where they are sent."""
    return (
        *(READ[name]() for name in ("avif", "heic", "heic of two pictures", "tiff", "deflated", "lzw", "jpeg in tiff")),
        *(saved(drawing().convert("1"), "TIFF", compression=f"group{kind}") for kind in (3, 4)),
        *(saved(image, "TIFF") for image in (GREY16, drawing().convert("CMYK"), drawing().convert("P"), alpha())),
        rgb16(),
        *(saved(alpha(), kind) for kind in ("AVIF", "HEIF")),
        heic(drawing(600, 400)),
        claiming(heic(drawing(600, 400)), 5_000, 4_000),
        saved(drawing(900, 700), "TIFF", compression="tiff_adobe_deflate", tile=(128, 128)),
    )


MEMORY = 1 << 30  # address space of a child
SLACK = 64 << 20  # what a child has mapped besides, before the limit is set


service = share_service(picture_pixels=400_000_000)


def measure_address_space(pid: int) -> int:
    """Return the most address space that a process has had, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) << 10


@given(seed=st.integers(0, 1 << 32))
def test_mutated_scans_and_photographs_of_phones(service: Service, seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(source.choice(make_originals()))
    head = source.random() < 0.5  # where sizes, offsets and brands are
    for _ in range(source.randint(1, 12)):
        place = source.randrange(min(len(data), 400) if head else len(data))
        data[place] = source.choice((0, 0x7F, 0x80, 0xFF, source.randrange(256)))
    cut = bytes(data[: source.randrange(len(data))] if source.random() < 0.2 else data)
    before = len(service.context.gallery.list_ids())
    answer = service.admin.post("/v1/pictures", files={"picture": ("x", cut)})
    assert answer.is_success or (answer.status_code < 500 and answer.json()["code"] in CODES), answer.text
    assert len(service.context.gallery.list_ids()) - before == (answer.status_code == 201)
    for pid in service.context.picture_queue.uploads.decoder.pids:
        assert measure_address_space(pid) <= MEMORY + SLACK


def test_the_pictures_can_be_read_before_they_are_mutated(service: Service) -> None:
    answers = [service.admin.post("/v1/pictures", files={"picture": ("x", data)}) for data in make_originals()]
    assert sum(answer.is_success for answer in answers) >= len(answers) - 1  # one of them lies from the start
