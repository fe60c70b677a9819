"""Archives: zips that travel, whose bytes are compared with their checksum before anything of them is parsed.

It is the zip's comment: 64 digits at the end, the sha256 of all before them. Whoever made an archive may wish us ill:
its directory has to be small, its names are known, each has a limit, and everything is read in pieces.
"""

import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from store import files
from store.errors import LanguageFileChanged, LanguageFileInvalid

_DIGEST = 64  # bytes
_END = struct.Struct("<4s4H2LH")  # the end of a zip's directory, which stands before the comment
_LOCATOR = 20  # bytes of what may stand before that in a zip with 64-bit sizes: it would lead to another directory
_MOST_DIRECTORY = 4_096  # bytes
_CHUNK = 1 << 20
_PACKED = (ZIP_STORED, ZIP_DEFLATED)  # the others are unpacked without a limit


def write(path: Path, folder: Path) -> None:
    """Write the files of a folder as an archive at `path`; the same files give the same bytes."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.comment = b"0" * _DIGEST
        for file in sorted(folder.iterdir()):
            entry = ZipInfo(file.name)  # of 1980
            entry.compress_type = ZIP_DEFLATED
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)
    digest = _hash(path)
    with path.open("r+b") as stream:
        stream.seek(-_DIGEST, os.SEEK_END)
        stream.write(digest)


def unpack(path: Path, folder: Path, limits: Mapping[str, int]) -> None:
    """Unpack an archive into a new folder; `limits` are the names that it may have, with the most bytes of each.

    Raises LanguageFileInvalid, LanguageFileChanged where it differs from its checksum, and StorageFull.
    """
    _check_end(path, len(limits))
    files.make_folder(folder)
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len({*names}) < len(names) or not limits.keys() >= {*names}:
                raise LanguageFileInvalid("the file holds what does not belong into it")
            if any(entry.header_offset >= path.stat().st_size for entry in entries):
                raise LanguageFileInvalid("the directory of the file is not as it should be")
            if any(entry.file_size > limits[entry.filename] for entry in entries):
                raise LanguageFileInvalid("a part of the file is too large")
            if any(entry.compress_type not in _PACKED for entry in entries):
                raise LanguageFileInvalid("the file is packed in a way that is not read here")
            files.require_free(folder, sum(entry.file_size for entry in entries))
            for entry in entries:
                with archive.open(entry) as source, (folder / entry.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)  # no more than its size, whatever it unpacks to
                if (folder / entry.filename).stat().st_size != entry.file_size:
                    raise LanguageFileInvalid("a part of the file is cut off")
    # RuntimeError: of encryption, or a version, that is unknown here
    except (BadZipFile, RuntimeError, zlib.error, EOFError, ValueError, struct.error) as error:
        raise LanguageFileInvalid("the file cannot be unpacked") from error


def _check_end(path: Path, most: int) -> None:
    """Compare the bytes with their checksum, then see that the directory is small."""
    end = b""
    with path.open("rb") as stream:
        if (size := path.stat().st_size) >= _LOCATOR + _END.size + _DIGEST:
            stream.seek(size - _LOCATOR - _END.size - _DIGEST)
            end = stream.read()
    if end[_LOCATOR : _LOCATOR + 4] != b"PK\5\6" or end[_LOCATOR + 20 : _LOCATOR + 22] != b"\x40\0":
        raise LanguageFileInvalid("the file is of another kind, or cut off")
    if end[-_DIGEST:] != _hash(path):
        raise LanguageFileChanged("the file was changed after it was made: its bytes differ from their checksum")
    _, disk, first, here, count, directory, start, _ = _END.unpack_from(end, _LOCATOR)
    at_end = start + directory + _END.size + _DIGEST == size
    if end.startswith(b"PK\6\7") or disk or first or here != count or count > most or not at_end:
        raise LanguageFileInvalid("the directory of the file is not as it should be")
    if directory > _MOST_DIRECTORY:
        raise LanguageFileInvalid("the directory of the file is too large")


def _hash(path: Path) -> bytes:
    """Return the sha256 of all but the checksum, in hex."""
    digest, rest = hashlib.sha256(), path.stat().st_size - _DIGEST
    with path.open("rb") as stream:
        while chunk := stream.read(min(rest, _CHUNK)):
            digest.update(chunk)
            rest -= len(chunk)
    return digest.hexdigest().encode()
