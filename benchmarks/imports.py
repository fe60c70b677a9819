"""`python -m benchmarks.imports`: a folder of JPEGs of 1.2 megapixels into an empty gallery of the real service.

`pictoglot pictures add` and one request after another (as the command did before it sent several at a time) in turns;
then the command on the whole folder, killed after a third, again, and again when everything is there. Asserts nothing.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from benchmarks.process import running
from benchmarks.uploads import jpeg

_TURN = 48  # pictures of one side of a turn
_LOOK = 0.1  # seconds between two looks whether a picture is there
_console = Console()


def main(
    pictures: Annotated[int, typer.Option(min=100, help="JPEGs in the folder")] = 2_000,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of both ways, before")] = 3,
    base: Annotated[str, typer.Option(help="PICTOGLOT_BASE")] = "",
    out: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes")] = None,
) -> None:
    """Measure, print, write."""
    key, settings = secrets.token_urlsafe(32), {"BASE": base} if base else {}
    with tempfile.TemporaryDirectory(prefix="pictoglot-imports-") as temporary, running(key, **settings) as url:
        _console.print(f"Drawing {pictures:,} JPEGs.")
        folder, report = Path(temporary), {"pictures": pictures, "base": base or "bundled", "cores": os.cpu_count()}
        files = drawn(folder / "whole", pictures)
        report |= in_turns(url, key, folder, rounds)
        report |= resumed(url, key, folder / "whole", len(files))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _console.print_json(data=report)


def drawn(folder: Path, count: int, first: int = 0) -> list[Path]:
    """So many different files; each of a few pictures comes often, with other bytes behind its end."""
    folder.mkdir()
    of = [jpeg(seed) for seed in range(16)]
    files = [folder / f"photo-{number:05d}.jpg" for number in range(first, first + count)]
    for number, file in enumerate(files):
        file.write_bytes(of[number % len(of)] + file.name.encode())
    return files


def in_turns(url: str, key: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Pictures a second of both ways, without the start of the command, and how many times as fast it is."""
    one, several, ratios = list[float](), list[float](), list[float]()
    start = _seconds(_added(url, key, drawn(folder / "start", 1, 10**6)[0]))  # the command with one picture
    for turn in range(rounds):
        first = 10**6 + 1 + 2 * turn * _TURN
        singly = drawn(folder / f"singly-{turn}", _TURN, first)
        together = drawn(folder / f"together-{turn}", _TURN, first + _TURN)
        one.append(_TURN / _singly(url, key, singly))
        several.append((_TURN - 1) / max(_seconds(_added(url, key, together[0].parent)) - start, 1e-3))
        ratios.append(several[-1] / one[-1])
    return {"one_by_one": median(one), "add": median(several), "ratio": median(ratios), "ratios": ratios}


def resumed(url: str, key: str, folder: Path, count: int) -> dict[str, Any]:
    """The whole folder: killed after a third, the same command again, and once more when everything is there."""
    killed = _command(url, key, folder)
    third = f"{url}/v1/pictures/photo-{count // 3:05d}"
    while httpx.get(third, headers={"X-API-Key": key}, timeout=60, trust_env=False).status_code != 200:
        time.sleep(_LOOK)
    killed.kill()
    killed.communicate()
    rest = _added(url, key, folder)
    nothing = _added(url, key, folder)
    return {
        "killed_after": rest[0]["there"],
        "then_added": len(rest[0]["added"]),
        "then_per_second": len(rest[0]["added"]) / rest[1],
        "nothing_new_seconds": nothing[1],
        "sent_again": len(nothing[0]["added"]),
        "missing": count - nothing[0]["there"],
    }


def _singly(url: str, key: str, files: Sequence[Path]) -> float:
    """Seconds that the files need, each sent when the one before is there."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60, trust_env=False) as client:
        began = time.perf_counter()
        for file in files:
            sent = {"picture": (file.name, file.read_bytes(), "image/jpeg")}
            client.put(f"/v1/pictures/{file.stem}", files=sent).raise_for_status()
        return time.perf_counter() - began


def _command(url: str, key: str, path: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).parent / "pictoglot"), "pictures", "add", str(path), "--json"]
    variables = {**os.environ, "PICTOGLOT_URL": url, "PICTOGLOT_KEY": key}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)


def _added(url: str, key: str, path: Path) -> tuple[dict[str, Any], float]:
    """What `pictoglot pictures add` told, and the seconds that it took."""
    began = time.perf_counter()
    said, _ = _command(url, key, path).communicate()
    return json.loads(said), time.perf_counter() - began


def _seconds(added: tuple[dict[str, Any], float]) -> float:
    if added[0]["refused"]:
        raise RuntimeError(f"pictures were refused: {added[0]['refused'][:3]}")
    return added[1]


if __name__ == "__main__":
    typer.run(main)
