"""How the two frozen towers are computed: by which library and in which precision. Imports neither library.

A vector belongs to its encoding as it belongs to its weights, so both are in its fingerprint: vectors of two encodings
are never compared with each other. torch's towers are in `model/tower.py`, OpenVINO's in `openvino_backend`;
`choice` says which a data root has.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from store.encodings import Encoding

if TYPE_CHECKING:
    from torch import Tensor

Features = NDArray[np.float32]


class Towers(Protocol):
    """Both towers of a base, ready to compute; thread-safe."""

    @property
    def encoding(self) -> Encoding:
        """What computes them."""
        ...

    @property
    def independent(self) -> bool:
        """Whether a text has the same bits in every batch that `batches` makes, as it has alone."""
        ...

    def batches(self, lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
        """Texts of these lengths as batches of at most `most`: their places, and the length to fill them up to."""
        ...

    def texts(self, rows: "Tensor", last: "Tensor") -> Features:
        """Features (n, dimension), not normalised, of token rows (n, length, width) read off at `last` (n,)."""
        ...

    def pictures(self, pixels: "Tensor") -> Features:
        """Features (n, dimension), not normalised, of pixels (n, 3, side, side)."""
        ...
