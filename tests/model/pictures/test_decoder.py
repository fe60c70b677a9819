"""A child of the decoder may die, hang or run out of memory; the next picture is still decoded."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path

import psutil
import pytest
from PIL import Image

from model.pictures import LONGEST, Decoder, Frame, Picture
from store.errors import PictureCorrupt
from tests.model.pictures.test_pictures import drawing, saved
from tests.patience import PATIENCE, bound_time, count_unread

ROOT = Path(__file__).parents[2]
PNG = saved(drawing(), "PNG")
SLOW = saved(Image.effect_mandelbrot((4_000, 4_000), (-2, -2, 2, 2), 100).convert("RGB"), "PNG")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(timeout=PATIENCE)
    decoder.decode(PNG)
    yield decoder
    decoder.close()


def test_a_child_that_was_killed_between_pictures_is_replaced(decoder: Decoder) -> None:
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=PATIENCE) if psutil.pid_exists(pid) else None
    assert decoder.decode(PNG).rgb.width == 96
    assert decoder.pids != [pid]


@pytest.mark.row("P11")
def test_a_child_that_hangs_is_killed_in_time_and_replaced(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    with monkeypatch.context() as hasty, bound_time(5), pytest.raises(PictureCorrupt):
        hasty.setattr(decoder, "_timeout", 0.5)
        decoder.decode(PNG)
    assert time.monotonic() - start >= 0.5 and not psutil.pid_exists(pid)
    assert decoder.decode(PNG).rgb.width == 96


def killed_at_work(decoder: Decoder, data: bytes) -> "Future[Picture]":
    """The picture's answer; the child that got it is killed before it looks, as by a kernel that is short of memory."""
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:  # until then it may still read its pipe
        assert time.monotonic() < deadline
    answer = decoder.submit(data)
    while not count_unread(pid):
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGKILL)
    return answer


def test_a_picture_is_not_refused_because_its_child_waits_for_a_processor() -> None:
    with closing(Decoder(timeout=1.0)) as decoder:
        decoder.decode(PNG)
        child = psutil.Process(decoder.pids[0])
        child.suspend()
        answer = decoder.submit(PNG)
        with pytest.raises(TimeoutError):
            answer.result(1.5)
        child.resume()
        assert answer.result().rgb.width == 96


@pytest.mark.row("F9")
@pytest.mark.parametrize("first", [PNG, PNG[:-40]], ids=["accepted", "refused"])
def test_a_picture_whose_child_is_killed_is_decoded_by_another(first: bytes) -> None:
    """As a dataset is read by another: whatever the child has answered before, it was not a fresh one."""
    with closing(Decoder(timeout=PATIENCE)) as decoder:
        with nullcontext() if first == PNG else pytest.raises(PictureCorrupt):
            decoder.decode(first)
        assert killed_at_work(decoder, PNG).result().rgb.width == 96


@pytest.mark.row("P11")
def test_a_picture_that_ends_two_children_is_refused_alone(decoder: Decoder) -> None:
    before = decoder.pids
    answer = killed_at_work(decoder, SLOW)
    deadline = time.monotonic() + PATIENCE
    while not (after := decoder.pids) or after == before:
        assert time.monotonic() < deadline
    os.kill(after[0], signal.SIGKILL)
    with pytest.raises(PictureCorrupt):
        answer.result()
    assert decoder.decode(PNG).rgb.width == 96


@pytest.mark.parametrize(("memory", "refused"), [(64 << 20, True), (1 << 30, False)])
def test_a_picture_may_not_take_more_memory_than_allowed(memory: int, refused: bool) -> None:
    decoder = Decoder(memory=memory, timeout=PATIENCE)
    try:
        if refused:
            with pytest.raises(PictureCorrupt):
                decoder.decode(SLOW)
        assert decoder.decode(PNG if refused else SLOW).rgb.mode == "RGB"
    finally:
        decoder.close()


def test_many_threads_share_the_children() -> None:
    decoder = Decoder(processes=2, timeout=PATIENCE)
    with ThreadPoolExecutor(8) as threads:
        pictures = list(threads.map(decoder.decode, [saved(drawing(40 + side, 40), "PNG") for side in range(40)]))
    assert [picture.rgb.width for picture in pictures] == [40 + side for side in range(40)]
    assert 1 <= len(decoder.pids) <= 2
    decoder.close()


def test_a_picture_comes_in_the_frame_that_is_asked_for_and_is_stored_whole(decoder: Decoder) -> None:
    frame, picture = Frame(32, 48, LONGEST, fill=255), drawing(1_500, 500)
    framing = Decoder(frame=frame, timeout=PATIENCE)
    try:
        framed, whole = (each.decode(saved(picture, "PNG")) for each in (framing, decoder))
    finally:
        framing.close()
    assert framed.rgb.size == (48, 32) and framed.rgb.tobytes() == frame(whole.rgb).tobytes()
    assert framed.size == whole.size == (1_500, 500) and whole.rgb.size == (1_024, 341)
    assert (framed.stored, framed.thumbnail) == (whole.stored, whole.thumbnail)


def test_closing_leaves_no_child() -> None:
    decoder = Decoder()
    decoder.decode(PNG)
    pids = decoder.pids
    decoder.close()
    assert decoder.pids == [] and not any(map(psutil.pid_exists, pids))


def test_children_die_with_a_parent_that_is_killed() -> None:
    program = (
        "import sys, time; from model.pictures import Decoder\n"
        "from tests.model.pictures.test_pictures import drawing, saved\n"
        "decoder = Decoder(); decoder.decode(saved(drawing(), 'PNG'))\n"
        "sys.stdout.write(f'{decoder.pids[0]}\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    child.suspend()  # so that it cannot see its pipe close
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(PATIENCE)


def test_children_know_no_setting_and_import_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_ADMIN_KEY", "secret")
    decoder = Decoder()
    decoder.decode(PNG)
    child = psutil.Process(decoder.pids[0])
    libraries = " ".join(mapped.path for mapped in child.memory_maps())
    assert "PICTOGLOT_ADMIN_KEY" not in child.environ()
    assert "_imaging" in libraries and "torch" not in libraries and "numpy" not in libraries
    decoder.close()
