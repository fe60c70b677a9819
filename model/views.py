"""What an encoder promises, and the versions that it has open: each once, on top of its nearest open ancestor.

Serves nothing.

A version's rows stay in the encoder's table when its view is closed; to open it again adds them once more.
"""

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.framing import Frame
from store.data_root import DataRoot
from store.encodings import Encoding
from store.errors import VersionCorrupt
from store.registry import Registry


class Encoder(Protocol):
    """Encodes texts and pictures as unit vectors; thread-safe. `model.encoder` is one, test doubles are others."""

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
    def frame(self) -> Frame | None:
        """What `pictures` may be put into before, without any change of their vectors; None where that is not known."""
        ...

    @property
    def base_view(self) -> Any:
        """The view of the base itself, whose number is that of its version."""
        ...

    def open(self, folders: Sequence[Any], onto: Any = None) -> Any:
        """The view of a lineage of `model.encoder.VersionFolder`s, oldest first, verified; raises `VersionCorrupt`.

        It has a `version`, and `ngrams`: counts of its captions' n-grams.
        """
        ...

    def texts(self, items: Sequence[tuple[Any, str]], *, alone: bool = False) -> Any:
        """Cleaned texts, each encoded with its own view; `vectors` of the answer are (n, dimension), in their order.

        With `alone`, a vector has the same bits whatever else is encoded with it (decision 25).
        """
        ...

    def pictures(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Vectors (n, dimension) of RGB pictures."""
        ...


class Views:
    """The views of one encoder. Thread-safe."""

    def __init__(self, encoder: Encoder, registry: Registry, root: DataRoot) -> None:
        self._encoder, self._registry, self._root = encoder, registry, root
        self._base: int = encoder.base_view.version
        self._open: dict[int, Any] = {self._base: encoder.base_view}
        self._parents: dict[int, int] = {}  # of the open views
        self._lock = Lock()

    def of(self, number: int) -> Any:
        """The view of a version, verified with its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        from model.encoder import VersionFolder  # imported late: torch takes seconds, and test encoders do not need it

        with self._lock:
            if number not in self._open:
                for step in reversed(self._registry.versions.lineage(number)):  # the base first
                    if step.number in self._open:
                        continue
                    if step.parent is None:
                        raise VersionCorrupt(f"version {number} was made for another base model")
                    folder = VersionFolder.of(step, self._root)
                    self._open[step.number] = self._encoder.open([folder], onto=self._open[step.parent])
                    self._parents[step.number] = step.parent
            return self._open[number]

    def close_others(self, versions: Iterable[int]) -> None:
        """Close every view except those of `versions` and of what they build upon."""
        with self._lock:
            kept = {self._base}
            for number in versions:
                while number not in kept:
                    kept.add(number)
                    number = self._parents.get(number, self._base)
            self._open = {number: view for number, view in self._open.items() if number in kept}
            self._parents = {number: parent for number, parent in self._parents.items() if number in kept}
