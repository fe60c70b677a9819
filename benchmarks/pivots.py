"""`python -m benchmarks.pivots`: a language taught from pairs with a taught language, against the same with English.

The product's own expansions on the demo's gallery and the bundled base: the pivot language is taught from English
alone; then each other language is taught twice from the same captions, once beside their English, once beside the
pivot's texts, and rolled back in between. No picture is learned from; held-out captions of scenes are ranked among the
gallery's pictures. Prints a table and writes JSON; asserts nothing.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from demo.dataset import rows
from demo.emojis import LANGUAGES
from demo.gallery import draw, outlines
from index.gallery import Gallery, NewPicture
from model.backend import open_encoder
from model.languages import ENGLISH
from store import files
from store.data_root import DataRoot
from store.expansions import new_expansion_id
from store.registry import Registry, open_registry
from worker.attempt import Attempt
from worker.child import run
from worker.settings import WorkerSettings

_AT_ONCE = 128  # pictures
_console = Console()


def main(
    pivot: Annotated[str, typer.Option(help="The language that is taught first")] = "de",
    languages: Annotated[str, typer.Option(help="The languages that are taught from both")] = "fr,tr",
    seed: Annotated[int, typer.Option(help="Of every training")] = 0,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/pivots.json"),
) -> None:
    """Measure, print, write."""
    if strange := [tag for tag in (pivot, *languages.split(",")) if tag not in LANGUAGES]:
        raise typer.BadParameter(f"there are no captions in {', '.join(strange)}", param_hint="--languages")
    with tempfile.TemporaryDirectory() as home:
        settings = WorkerSettings(home=Path(home), min_recall=0.0)
        with closing(open_registry(settings.database)) as registry:
            _fill(settings, registry)
            measured = {pivot: {ENGLISH: taught(settings, registry, pivot, ENGLISH, seed)}}
            for language in languages.split(","):
                measured[language] = {}
                for teacher in (ENGLISH, pivot):
                    measured[language][teacher] = taught(settings, registry, language, teacher, seed)
                    registry.releases.roll_back(language, actor="benchmark", reason="")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"pivot": pivot, "seed": seed, "languages": measured}, indent=1) + "\n")
    _show(measured, pivot)


def _fill(settings: WorkerSettings, registry: Registry) -> None:
    """The demo's gallery, as vectors alone."""
    encoder = open_encoder(settings, registry)
    gallery, shown = Gallery(registry, DataRoot(settings.home)), outlines()
    for start in range(0, len(shown), _AT_ONCE):
        some = shown[start : start + _AT_ONCE]
        vectors = encoder.pictures([draw(outline) for outline in some])
        put = [
            NewPicture(outline.id, f"{start + place:064x}", 256, 256, {}, vector)
            for place, (outline, vector) in enumerate(zip(some, vectors, strict=True))
        ]
        gallery.put(put, encoder.image_fingerprint)


def taught(settings: WorkerSettings, registry: Registry, language: str, teacher: str, seed: int) -> dict[str, Any]:
    """The report's recall of a language after one expansion, from pairs with texts in the language `teacher`."""
    id, data = new_expansion_id(), "".join(json.dumps(row) + "\n" for row in pairs(language, teacher)).encode()
    path = Path("expansions", id, "dataset")
    files.write_bytes(settings.home / path, data)
    registry.expansions.submit(
        id=id,
        kind="learn",
        language=language,
        settings={"seed": seed, "force": True},
        dataset_path=str(path),
        dataset_sha256=files.sha256_file(settings.home / path),
        dataset_bytes=len(data),
        actor="benchmark",
    )
    started = time.monotonic()
    lease = registry.expansions.lease(id, "benchmark", 86_400)
    assert lease is not None
    run(Attempt(settings, registry, lease, Event()))
    report = registry.expansions.get(id).report or {}
    seconds = round(time.monotonic() - started, 1)
    _console.print(f"{language} from {teacher}: {report['gain']['sentence']} ({seconds} s)")
    return {**{name: report[name] for name in ("t2i", "i2t", "pairs", "against")}, "seconds": seconds}


def pairs(language: str, teacher: str) -> Sequence[dict[str, Any]]:
    """The demo's captions beside those of the same pictures in the other language; pictures only where held out."""
    said = {row["picture"]: row["caption"] for row in rows(teacher)} if teacher != ENGLISH else {}
    return [
        {
            "caption": row["caption"],
            "pivot": {"language": teacher, "text": said.get(row["picture"], row["english"])},
            "split": row["split"],
            **({"picture": row["picture"]} if row["split"] == "val" else {}),
        }
        for row in rows(language)
    ]


def _show(measured: dict[str, dict[str, Any]], pivot: str) -> None:
    table = Table("language", "pairs with", "t2i R@1", "t2i R@10", "of English's R@1")
    for language, by_teacher in measured.items():
        english = by_teacher[ENGLISH]["t2i"]["R@1"]
        for teacher, figures in by_teacher.items():
            t2i = figures["t2i"]
            share = f"{100 * t2i['R@1'] / english:.1f} %" if teacher == pivot and english else ""
            table.add_row(language, teacher, *(f"{100 * t2i[k]:.1f}" for k in ("R@1", "R@10")), share)
    _console.print(table)


if __name__ == "__main__":
    typer.run(main)
