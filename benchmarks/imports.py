"""`python -m benchmarks.imports`: folders into an empty gallery of the real service.

First JPEGs of 1.2 megapixels, three ways in turns: one request after another, `POST /v1/pictures/batch` one after
another, and `pictoglot import`; and searches idle and beside such an import. With `--photographs`, a folder of 12
megapixels each. Then a folder of drawings as PNG, JPEG and WebP, with EXIF and without: killed several times, until it
is whole, and once more when everything is there.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
from PIL import Image
from rich.console import Console

from benchmarks.load import run_closed_loop, search_body
from benchmarks.peers.material import draw_photograph
from benchmarks.process import run_service
from benchmarks.uploads import draw_jpeg
from client.api import Client
from client.importing.upload import AT_ONCE, CHUNK
from demo.gallery import Outline, draw, list_outlines

_LARGE = (4_000, 3_000)  # pixels
_TURN = 64  # pictures of one way in a turn: two requests of the batch
_BLOCK, _BESIDE, _TEXTS = 5.0, 480, 200  # seconds of searches; pictures imported beside them; different texts
_LOOK = 0.1  # seconds between two looks how many pictures there are
UNDER_WAY = AT_ONCE * CHUNK  # pictures that an import is at work on at a time
_FORMATS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", ".png", {"compress_level": 1}),
    ("JPEG", ".jpg", {"quality": 90}),
    ("WEBP", ".webp", {"quality": 80, "method": 0}),
)
_IN_A_FOLDER = 500
_console = Console()


def main(
    pictures: Annotated[int, typer.Option(min=30, help="Files in the mixed folder")] = 10_000,
    kills: Annotated[int, typer.Option(min=0, help="How often its import is killed")] = 3,
    rounds: Annotated[int, typer.Option(min=0, help="Turns of both ways, before")] = 3,
    photographs: Annotated[int, typer.Option(min=0, help="JPEGs of 12 megapixels in a folder, some MB each")] = 0,
    base: Annotated[str, typer.Option(help="PICTOGLOT_BASE")] = "",
    out: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes")] = None,
) -> None:
    """Measure, print, write; exit status 1 if a picture is missing, or more was done twice than what was under way."""
    key, settings = secrets.token_urlsafe(32), {"BASE": base} if base else {}
    report: dict[str, Any] = {"base": base or "bundled", "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="pictoglot-imports-") as temporary:
        if rounds:
            with run_service(key, CACHE_SIZE="0", **settings) as url:
                report |= measure_in_turns(url, key, Path(temporary), rounds)
                report |= measure_searches(url, key, Path(temporary), rounds)
        if photographs:
            with run_service(key, **settings) as url:
                report |= measure_large(url, key, Path(temporary) / "photographs", photographs)
        _console.print(f"Drawing {pictures:,} files.")
        ids = _draw_mixed(Path(temporary) / "mixed", pictures)
        with run_service(key, **settings) as url:
            report |= measure_killed(url, key, Path(temporary) / "mixed", ids, kills)
            _tell(report, out)  # before the service is stopped: that may take long, and fail
    if report["missing"] or report["unknown"] or report["encoded_again"] > kills * UNDER_WAY:
        raise typer.Exit(1)


def _tell(report: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


def draw_pictures(folder: Path, count: int, first: int = 0, of: Sequence[bytes] = ()) -> list[Path]:
    """Write different files; each of a few pictures comes often, with other bytes behind its end."""
    folder.mkdir()
    of = of or [draw_jpeg(seed) for seed in range(16)]
    files = [folder / f"photo-{number:05d}.jpg" for number in range(first, first + count)]
    for number, file in enumerate(files):
        file.write_bytes(of[number % len(of)] + file.name.encode())
    return files


def measure_in_turns(url: str, key: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Return pictures a second of each way, of `add` without the command's start, and how many times as fast as singly.

    `ratio` is that of `add`, `batch_ratio` that of the batch: medians over the turns, which are there as well.
    """
    start = _read_seconds(
        _run_import(url, key, draw_pictures(folder / "start", 1, 10**6)[0])
    )  # the command with one picture
    ways: dict[str, Callable[[list[Path]], float]] = {
        "one_by_one": lambda files: len(files) / _send_singly(url, key, files),
        "batch": lambda files: len(files) / _send_batched(url, key, files),
        "add": lambda files: (
            (len(files) - 1) / max(_read_seconds(_run_import(url, key, files[0].parent)) - start, 1e-3)
        ),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for place, (way, rate) in enumerate(ways.items()):
            first = 10**6 + 1 + (len(ways) * turn + place) * _TURN
            rates[way].append(rate(draw_pictures(folder / f"{way}-{turn}", _TURN, first)))
    ratios, of_batch = (
        [fast / one for fast, one in zip(rates[way], rates["one_by_one"], strict=True)] for way in ("add", "batch")
    )
    return {
        **{way: median(found) for way, found in rates.items()},
        "ratio": median(ratios),
        "ratios": ratios,
        "batch_ratio": median(of_batch),
        "batch_ratios": of_batch,
    }


def measure_searches(url: str, key: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the 95th percentile of searches in milliseconds, alone and beside an import, in turns; medians."""
    bodies = [search_body(outline.caption, "en") for outline in list_outlines()[:_TEXTS]]
    alone, beside = list[float](), list[float]()
    for turn in range(rounds):
        draw_pictures(folder / f"beside-{turn}", _BESIDE, 2 * 10**6 + turn * _BESIDE)
        alone.append(_compute_p95(url, bodies))
        importing, there = _start_command(url, key, folder / f"beside-{turn}"), _count(url, key)
        while _count(url, key) == there and importing.poll() is None:
            time.sleep(_LOOK)
        beside.append(_compute_p95(url, bodies))
        if importing.poll() is not None:
            raise RuntimeError("the import ended before the searches beside it")
        importing.kill()
        importing.communicate()
    ratios = [busy / idle for busy, idle in zip(beside, alone, strict=True)]
    return {"search_p95_ms": {"idle": median(alone), "importing": median(beside), "ratio": median(ratios)}}


def _compute_p95(url: str, bodies: Sequence[bytes]) -> float:
    timings = run_closed_loop(url, bodies, clients=1, seconds=_BLOCK)
    if not timings.seconds:
        raise RuntimeError("no search was answered")
    return timings.compute_percentile(95)


def measure_large(url: str, key: str, folder: Path, count: int) -> dict[str, Any]:
    """Return how long `pictoglot import` takes for photographs as a camera of today makes them, with its start."""
    of = list[bytes]()
    for seed in range(4):
        stream = BytesIO()
        draw_photograph(seed, _LARGE).save(stream, "JPEG", quality=85)
        of.append(stream.getvalue())
    seconds = _read_seconds(_run_import(url, key, draw_pictures(folder, count, 3 * 10**6, of)[0].parent))
    return {"photographs": count, "photographs_seconds": seconds}


def measure_killed(url: str, key: str, folder: Path, ids: Sequence[str], kills: int) -> dict[str, Any]:
    """Import the folder, killed with SIGKILL whenever another part of it is there; then to its end, and once more."""
    at = []
    for kill in range(1, kills + 1):
        importing = _start_command(url, key, folder)
        while _count(url, key) < len(ids) * kill // (kills + 1):
            if importing.poll() is not None:
                raise RuntimeError("it ended before it was killed")
            time.sleep(_LOOK)
        importing.kill()
        importing.communicate()
        at.append(_count(url, key))
    rest = _run_import(url, key, folder)
    encoded = _count_encoded(url, key)
    nothing = _run_import(url, key, folder)
    with Client(url, key, timeout=60) as client:
        there = [item["id"] for item in client.iterate_pictures()]
    return {
        "pictures": len(ids),
        "killed_at": at,
        "then_there": rest[0]["there"],
        "then_added": len(rest[0]["added"]),
        "then_per_second": len(rest[0]["added"]) / rest[1],
        "missing": len({*ids} - {*there}),
        "unknown": len(there) - len({*ids} & {*there}),
        "encoded": encoded,
        "encoded_again": encoded - len(ids),
        "nothing_new_seconds": nothing[1],
        "sent_again": len(nothing[0]["added"]),
    }


def _count(url: str, key: str) -> int:
    answer = httpx.get(f"{url}/v1/collections", headers={"X-API-Key": key}, timeout=60, trust_env=False)
    return sum(item["count"] for item in answer.raise_for_status().json()["items"])


def _count_encoded(url: str, key: str) -> int:
    """Return how many pictures the service has encoded since its start."""
    text = httpx.get(f"{url}/metrics", headers={"X-API-Key": key}, timeout=60, trust_env=False).text
    (found,) = re.findall(r'^pictoglot_batch_size_sum\{kind="picture"\} (\S+)$', text, re.MULTILINE)
    return int(float(found))


def _send_singly(url: str, key: str, files: Sequence[Path]) -> float:
    """Return seconds that the files need, each sent when the one before is there."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60, trust_env=False) as client:
        began = time.perf_counter()
        for file in files:
            sent = {"picture": (file.name, file.read_bytes(), "image/jpeg")}
            client.put(f"/v1/pictures/{file.stem}", files=sent).raise_for_status()
        return time.perf_counter() - began


def _send_batched(url: str, key: str, files: Sequence[Path]) -> float:
    """Return seconds that the files need in requests with as many as `pictoglot import` sends, one after another."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60, trust_env=False) as client:
        began = time.perf_counter()
        for start in range(0, len(files), CHUNK):
            some = files[start : start + CHUNK]
            records = json.dumps([{"id": file.stem} for file in some])
            sent = [("picture", (file.name, file.read_bytes(), "image/jpeg")) for file in some]
            answer = client.post("/v1/pictures/batch", data={"records": records}, files=sent).raise_for_status()
            if {item["outcome"] for item in answer.json()["items"]} != {"created"}:
                raise RuntimeError("the batch did not take every picture")
        return time.perf_counter() - began


def _start_command(url: str, key: str, path: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).parent / "pictoglot"), "import", str(path), "--json"]
    state = {"XDG_STATE_HOME": str(path.parent / f".state-{urlsplit(url).port}")}
    variables = {**os.environ, **state, "PICTOGLOT_URL": url, "PICTOGLOT_KEY": key}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)


def _run_import(url: str, key: str, path: Path) -> tuple[dict[str, Any], float]:
    """Return what `pictoglot import` reported, and the seconds that it took."""
    began = time.perf_counter()
    said, _ = _start_command(url, key, path).communicate()
    return json.loads(said), time.perf_counter() - began


def _read_seconds(added: tuple[dict[str, Any], float]) -> float:
    if added[0]["refused"]:
        raise RuntimeError(f"pictures were refused: {added[0]['refused'][:3]}")
    return added[1]


def _draw_mixed(folder: Path, count: int) -> list[str]:
    """Write so many different files below `folder`, at most three for each drawing of the demo; returns their ids."""
    ids = list[str]()
    for outline in list_outlines():
        drawn = draw(outline)
        for kind, suffix, options in _FORMATS:
            if len(ids) == count:
                return ids
            ids.append(f"{len(ids) // _IN_A_FOLDER:02d}/{outline.id}-{kind.lower()}")
            file = folder / f"{ids[-1]}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(file, kind, **options, **({"exif": _make_exif(outline, len(ids))} if len(ids) % 2 else {}))
    raise ValueError(f"the demo has drawings for {len(ids):,} files")


def _make_exif(outline: Outline, number: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010E] = outline.caption
    block.get_ifd(0x8769)[0x9003] = f"{1970 + number % 50}:06:01 12:00:00"
    return block


if __name__ == "__main__":
    typer.run(main)
