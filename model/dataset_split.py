"""Usable rows of a dataset, each once, and each on one side of the split: learned from, or held out. Judges none."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from model.dataset_rows import Candidate, Row, Split

HELD_OUT = 10  # one picture (or English text) in ten validates
ENOUGH_HELD_OUT = 5  # of which a small dataset holds out more than a tenth


def once(candidates: Iterable[Candidate], renamed: Mapping[str, str]) -> tuple[list[Candidate], list[int]]:
    """Those that say something new, with the ids of their pictures, and the lines of the others."""
    kept: list[Candidate] = []
    seen: set[bytes] = set()
    duplicates: list[int] = []
    for candidate in candidates:
        if id := renamed.get(candidate.picture or ""):
            candidate = replace(candidate, picture=id)
        if (digest := candidate.digest) in seen:
            duplicates.append(candidate.line)
        else:
            seen.add(digest)
            kept.append(candidate)
    return kept, duplicates


def split(candidates: Sequence[Candidate], lines: dict[str, list[int]]) -> tuple[Row, ...]:
    """Rows with their side of the split: the first one that the file names for a group, otherwise one by its hash.

    Few groups hold out more than a tenth, as long as half of the rows are left to learn from.
    """
    named: dict[str, Split] = {}
    kept = []
    for row in candidates:
        if row.split is not None and named.setdefault(row.group, row.split) != row.split:
            lines["split_conflict"].append(row.line)
        else:
            kept.append(row)
    free = {row.group for row in kept} - set(named)
    held_out = {group for group, side in named.items() if side == "val"} | {g for g in free if _hash(g) % HELD_OUT == 0}
    if not held_out and len(free) > 1:  # so few that none fell into the tenth
        held_out = {min(free, key=_hash)}
    sizes = Counter(row.group for row in kept)
    spare = len(kept) // 2 - sum(sizes[group] for group in held_out)
    for group in sorted(free - held_out, key=_hash):
        if len(held_out) < ENOUGH_HELD_OUT and sizes[group] <= spare:
            held_out.add(group)
            spare -= sizes[group]
    return tuple(
        Row(row.line, row.caption, row.pivot, row.picture, "val" if row.group in held_out else "train") for row in kept
    )


def _hash(group: str) -> int:
    return int.from_bytes(sha256(group.encode()).digest()[:8])
