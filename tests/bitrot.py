"""Bits that flip on a disk: size and times of the file stay as they are."""

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np


def flip(file: Path, bit: int, home: Path | None = None) -> None:
    """Flip one bit of a file in its place, as a disk might: no time of it changes.

    A test cannot set the time of the last change of an inode. So where `home`, a data root, has a note that it verified
    the file's folder before, the note gets the new time.
    """
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(bit // 8)
        byte = stream.read(1)[0]
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    if home is not None:
        with suppress(FileNotFoundError):
            _update_note(home / "verified" / f"{file.parent.name}.json", file)


def choose_bits(file: Path, count: int, seed: int) -> list[int]:
    """Draw some bits of a file by chance, all different if it has as many."""
    bits = 8 * file.stat().st_size
    chance = np.random.default_rng(seed)
    if bits > 1 << 24:
        return [int(bit) for bit in chance.integers(bits, size=count)]
    return [int(bit) for bit in chance.permutation(bits)[:count]]


def _update_note(note: Path, file: Path) -> None:
    manifest_sha256, facts = json.loads(note.read_bytes())
    changed = [[*fact[:3], file.stat().st_ctime_ns, fact[4]] if fact[0] == file.name else fact for fact in facts]
    note.write_text(json.dumps([manifest_sha256, changed]))
