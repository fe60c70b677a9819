"""Lays a table out: as wide as it has to be, and on a terminal no wider than that. Prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

_WIDE, _NARROW, _LEAST = 3, 2, 1  # gaps between two columns
_TYPICAL = 60  # cells that are wider do not widen their column, where lines may be as long as they like


@dataclass(frozen=True)
class Layout:
    """Which columns are shown, by their place, how wide each of them is, and the gap between two of them."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int


def fitted(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    room: int,
    whole: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> Layout:
    """The layout in `room` cells of a screen: gaps become smaller, then cells are wrapped between words.

    Where that is not enough, `spare` columns are left out, the first one first. Only then are words broken, and words
    that are longer than half the room; never in a column of `whole`.
    """
    natural, least = list[int](), list[int]()
    for place, name in enumerate(columns):
        cells = [name, *(row[place] for row in rows)]
        natural.append(max(map(cell_len, cells)))
        word = max(cell_len(word) for cell in cells for word in (cell.split() or [""]))
        least.append(natural[-1] if name in whole else min(word, room // 2))
    shown = list(range(len(columns)))
    left_out = [columns.index(name) for name in spare if name in columns]
    while True:
        for gap, needed in ((_WIDE, natural), (_NARROW, natural), (_NARROW, least), (_LEAST, least)):
            inside = room - gap * (len(shown) - 1)
            if sum(needed[place] for place in shown) <= inside:
                return Layout(tuple(shown), _shrunk([natural[place] for place in shown], needed, shown, inside), gap)
        if not left_out:
            break
        shown.remove(left_out.pop(0))
    bearable = [width if name in whole else 1 for name, width in zip(columns, natural, strict=True)]
    return Layout(tuple(shown), _shrunk([least[place] for place in shown], bearable, shown, inside), _LEAST)


def _shrunk(widths: list[int], least: Sequence[int], shown: Sequence[int], room: int) -> tuple[int, ...]:
    """The widths of the columns that are shown, the widest made narrower as long as one can be and must."""
    while sum(widths) > room:
        can = [place for place, column in enumerate(shown) if widths[place] > least[column]]
        if not can:
            break
        widths[max(can, key=widths.__getitem__)] -= 1
    return tuple(widths)


def lines(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """The table as lines of text for a file or a program: nothing is wrapped, cut or left out."""
    table = [list(columns), *([" ".join(cell.splitlines()) for cell in row] for row in rows)]
    widths = [
        max(width for row in table if (width := cell_len(row[place])) <= max(_TYPICAL, cell_len(columns[place])))
        for place in range(len(columns))
    ]
    return [
        (" " * _WIDE).join(_padded(cell, widths[place], columns[place] in right) for place, cell in enumerate(row))
        for row in table
    ]


def _padded(cell: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if right else cell + blanks
