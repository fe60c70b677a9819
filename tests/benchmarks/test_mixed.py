"""The mixed folder of the benchmark of imports is what an import finds."""

import hashlib
from pathlib import Path

from benchmarks.mixed import mixed
from client.importing.exif import read_metadata
from client.importing.folder import Folder
from client.importing.items import Item, Record


def test_each_file_is_another_picture_and_half_of_them_say_something(tmp_path: Path) -> None:
    ids = mixed(tmp_path, 12)
    found = [part for part in Folder(tmp_path, Record()).parts() if isinstance(part, Item)]
    assert sorted(part.id for part in found) == sorted(ids) and len(ids) == 12
    contents = [part.read() for part in found]
    assert len({hashlib.sha256(content).hexdigest() for content in contents}) == 12
    assert sum("taken_at" in read_metadata(content).metadata for content in contents) == 6
