"""What the index asks of an encoder and a detector: protocols that `model.encoder` and test doubles both fulfil."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from index.engine import Matrix


class View(Protocol):
    """A version opened for encoding."""

    @property
    def version(self) -> int:
        """Its number; 0 is the base."""
        ...

    @property
    def ngrams(self) -> Mapping[str, int]:
        """Counts of its captions' n-grams; the base's are of English words."""
        ...


class Encoded(Protocol):
    """Vectors of texts, in the order given."""

    @property
    def vectors(self) -> Matrix:
        """(n, dimension), unit length."""
        ...


class Encoder(Protocol):
    """Texts and pictures to unit vectors; safe from several threads."""

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        ...

    @property
    def image_fingerprint(self) -> str:
        """Hex hash of the image tower."""
        ...

    @property
    def text_fingerprint(self) -> str:
        """Hex hash of the text tower."""
        ...

    @property
    def base_view(self) -> Any:
        """The view of version 0."""
        ...

    def open(self, folders: Sequence[Any], onto: Any = None) -> Any:
        """The view of a lineage of `model.encoder.VersionFolder`s, oldest first, verified; raises `VersionCorrupt`."""
        ...

    def texts(self, items: Sequence[tuple[Any, str]], batch: int = 256) -> Encoded:
        """Vectors of cleaned texts, each read through its own view, `batch` in one forward pass."""
        ...

    def pictures(self, images: Sequence[Image.Image]) -> Matrix:
        """Vectors (n, dimension) of RGB pictures."""
        ...
