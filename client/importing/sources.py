"""Which source an argument of the command is. Reads none of them."""

from collections.abc import Sequence
from pathlib import Path

from . import manifest
from .folder import Captions, Folder
from .iiif import Iiif
from .items import SUFFIXES, Said, Source, SourceFault
from .manifest import Manifest


def sources(
    given: Sequence[str], said: Said, language: str | None, root: Path | None, captions: Captions | None = None
) -> list[Source]:
    """The sources that these arguments are; pictures in one folder are one. Raises `SourceFault`."""
    found: list[Source] = []
    alone: dict[Path, set[str]] = {}
    for each in given:
        path = Path(each)
        name = path.name.lower()
        if each.startswith(("http://", "https://")):
            found.append(Iiif(each, said, language))
        elif path.is_dir():
            listed = path / manifest.NAME
            found.append(Manifest(listed, said, root, language) if listed.is_file() else Folder(path, said, captions))
        elif not path.exists():
            raise SourceFault(f"{each} does not exist.")
        elif name.endswith(manifest.SUFFIXES):
            found.append(Manifest(path, said, root, language))
        elif name.endswith(".json"):
            found.append(Iiif(str(path.resolve()), said, language))
        elif path.suffix.lower() in SUFFIXES:
            alone.setdefault(path.parent.resolve(), set()).add(path.name)
        else:
            raise SourceFault(
                f"{each} is nothing that can be imported: a folder, a picture, a manifest (.jsonl, .csv, .tsv), or a "
                "IIIF manifest (.json or its address)."
            )
    return [*found, *(Folder(parent, said, captions, names) for parent, names in alone.items())]


def is_partial(source: Source) -> bool:
    """Whether what it does not show may still be there."""
    return isinstance(source, Folder) and source.is_partial
