"""Other aligners for an aligned start, to be compared with the product's own: fast_align and eflomal.

Neither comes with this repository: `pip install systran-align` or `eflomal` (GPL-3.0). Both say which tokens of a
caption and of its English text are linked; a token stands for what it is linked to, as often as it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.emoji36.errors import Refused
from model.alignment import Shares, Tokens
from model.training import Trainer

Lines = Sequence[Sequence[int]]  # token ids of each text
Links = Iterable[tuple[int, int]]  # place in the caption, place in its English text; twice where two directions agree


def trainer(name: str) -> type[Trainer]:
    """The product's trainer, but by this aligner."""

    class Aligning(Trainer):
        @staticmethod
        def align(captions: Sequence[NDArray[np.int32]], english: Lines) -> tuple[Tokens, Tokens, Shares]:
            said = [[*map(int, line)] for line in captions]
            linked = [(one, [*other]) for one, other in zip(said, english, strict=True) if one and len(other)]
            return by_links(linked, LINKED[name]([one for one, _ in linked], [other for _, other in linked]))

    return Aligning


def by_links(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], links: Iterable[Links]
) -> tuple[Tokens, Tokens, Shares]:
    """What `model.alignment.aligned` gives, from links of pairs of texts: the share of a token's links."""
    counts = Counter((said[i], meant[j]) for (said, meant), found in zip(pairs, links, strict=True) for i, j in found)
    of = Counter[int]()
    for (token, _), count in counts.items():
        of[token] += count
    order = sorted(counts)
    said, meant = np.array(order, dtype=np.int64).reshape(-1, 2).T
    return said, meant, np.array([counts[pair] / of[pair[0]] for pair in order])


def _fast_align(captions: Lines, english: Lines) -> list[Links]:
    """IBM model 1 in both directions, their links joined as usual (grow-diag-final-and); no prior on places.

    C. Dyer et al., 2013. With its prior on places, captions of lists and of sentences read worse alike.
    """
    package = _package("systran_align", "systran-align")
    said, meant = _words(captions), _words(english)
    with TemporaryDirectory() as folder:
        read, *tables = (str(Path(folder) / name) for name in ("texts", "forth", "back"))
        texts = (f"{' '.join(one)} ||| {' '.join(other)}\n" for one, other in zip(said, meant, strict=True))
        Path(read).write_text("".join(texts), encoding="utf-8")
        package.generate_alignment_probabilities(read, *tables)
        found = package.Aligner(*tables).align_batch(said, meant)
    return [each["alignments"] for each in found]


def _eflomal(captions: Lines, english: Lines) -> list[Links]:
    """IBM model 1, an HMM and fertility, sampled; links of both directions. R. Östling, J. Tiedemann, 2016."""
    package = _package("eflomal", "eflomal")
    with TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("forth", "back")]
        texts = ([f"{' '.join(line)}\n" for line in _words(lines)] for lines in (captions, english))
        package.Aligner().align(*texts, links_filename_fwd=str(files[0]), links_filename_rev=str(files[1]))
        both = zip(*(path.read_text(encoding="utf-8").splitlines() for path in files), strict=True)
        return [[_link(each) for line in lines for each in line.split()] for lines in both]


LINKED: dict[str, Callable[[Lines, Lines], list[Links]]] = {"fast_align": _fast_align, "eflomal": _eflomal}


def _words(lines: Lines) -> list[list[str]]:
    return [[*map(str, line)] for line in lines]


def _link(said: str) -> tuple[int, int]:
    first, _, second = said.partition("-")
    return int(first), int(second)


def _package(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise Refused(f"--aligner: {module} is not installed; `pip install {name}`") from error
