"""Protocols of the encoders and views that `index` uses. Implements none: see `model.encoder` and test doubles."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from index.vectors import Matrix
from model.backends import Encoding


class View(Protocol):
    """A version opened for encoding."""

    @property
    def version(self) -> int:
        """Its number; 0 is the first base before any expansion."""
        ...

    @property
    def ngrams(self) -> Mapping[str, int]:
        """Counts of its captions' n-grams; those of a base are of English words."""
        ...


class Encoded(Protocol):
    """Vectors of texts, in the order of the texts."""

    @property
    def vectors(self) -> Matrix:
        """(n, dimension), unit length."""
        ...


class Encoder(Protocol):
    """Encodes texts and pictures as unit vectors; thread-safe."""

    @property
    def dimension(self) -> int:
        """The dimension of every vector."""
        ...

    @property
    def base_fingerprint(self) -> str:
        """Hex hash of the weights of the text tower, which versions are made for."""
        ...

    @property
    def image_fingerprint(self) -> str:
        """Hex hash of the image tower and of what computes it: that of every picture vector."""
        ...

    @property
    def text_fingerprint(self) -> str:
        """The same of the text tower."""
        ...

    @property
    def encoding(self) -> Encoding:
        """What computes the vectors."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the base reads, English first; see `model.reading.languages_of`."""
        ...

    @property
    def base_view(self) -> Any:
        """The view of the base itself, whose number is that of its version."""
        ...

    def open(self, folders: Sequence[Any], onto: Any = None) -> Any:
        """The view of a lineage of `model.encoder.VersionFolder`s, oldest first, verified; raises `VersionCorrupt`."""
        ...

    def texts(self, items: Sequence[tuple[Any, str]], *, alone: bool = False) -> Encoded:
        """Vectors of cleaned texts, each encoded with its own view.

        With `alone`, a vector has the same bits whatever else is encoded with it (decision 8).
        """
        ...

    def pictures(self, images: Sequence[Image.Image]) -> Matrix:
        """Vectors (n, dimension) of RGB pictures."""
        ...
