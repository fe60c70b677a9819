"""Tells what the registry names and is neither under the data root nor in the store. Opens and hashes nothing."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from index.gallery import Gallery
from store.tables import ExpansionRow, PictureRow, VersionRow

_MOST = 100  # sentences
_KINDS = {"": "stored picture", ".thumb": "thumbnail", ".original": "original"}


def find_missing(gallery: Gallery) -> list[str]:
    """A sentence for each picture, dataset and version that lacks files, or for the first of many.

    Raises `RegistryUnavailable` and `StoreUnavailable`.
    """
    found = (sentence for of in (_pictures, _datasets, _versions) for sentence in of(gallery))
    first = list(islice(found, _MOST))
    more = sum(1 for _ in found)
    return [*first, *([f"{more} more files that the registry names are missing."] if more else ())]


def _pictures(gallery: Gallery) -> Iterator[str]:
    row = PictureRow
    query = select(row.id, row.content_sha256, row.original).order_by(row.id)
    for number in range(256):
        prefix = f"{number:02x}"
        with gallery.registry.read() as session:  # before the files are listed: those of a row are there
            rows = session.execute(query.where(row.content_sha256.between(prefix, f"{prefix}g"))).all()
        present = gallery.files.present(prefix) if rows else ()
        for id, content, original in rows:
            for suffix, kind in _KINDS.items():
                if (original or suffix != ".original") and f"{content}{suffix}" not in present:
                    yield f"The {kind} of picture {id} is missing."


def _datasets(gallery: Gallery) -> Iterator[str]:
    for id, path in _rows(gallery, ExpansionRow.id, ExpansionRow.dataset_path):
        if not gallery.root.has(path):
            yield f"The dataset of expansion {id} is missing."


def _versions(gallery: Gallery) -> Iterator[str]:
    for number, folder in _rows(gallery, VersionRow.number, VersionRow.folder):
        if not gallery.root.has(folder):
            yield f"The files of version {number} are missing."


def _rows(gallery: Gallery, name: InstrumentedAttribute[Any], file: InstrumentedAttribute[Any]) -> list[Any]:
    """The names of all rows that have a file, in order, each with the file's."""
    with gallery.registry.read() as session:
        return list(session.execute(select(name, file).where(file.is_not(None)).order_by(name)).all())
