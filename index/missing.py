"""Tells what the registry names and is neither under the data root nor in the store. Opens and hashes nothing."""

from collections.abc import Iterator
from itertools import islice

from sqlalchemy import select

from index.gallery import Gallery
from index.tables import PictureRow
from model.registry.tables import ExpansionRow, VersionRow

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
    query = select(ExpansionRow.id, ExpansionRow.dataset_path).where(ExpansionRow.dataset_path.is_not(None))
    with gallery.registry.read() as session:
        rows = session.execute(query.order_by(ExpansionRow.id)).all()
    for id, path in rows:
        if path is not None and not gallery.root.has(path):
            yield f"The dataset of expansion {id} is missing."


def _versions(gallery: Gallery) -> Iterator[str]:
    query = select(VersionRow.number, VersionRow.folder).where(VersionRow.folder.is_not(None))
    with gallery.registry.read() as session:
        rows = session.execute(query.order_by(VersionRow.number)).all()
    for number, folder in rows:
        if folder is not None and not gallery.root.has(folder):
            yield f"The files of version {number} are missing."
