"""Versions opened for reading in a worker: each once, on top of the nearest ancestor that is open. Serves nothing."""

from model.data_root import DataRoot
from model.encoder import Encoder, VersionFolder
from model.errors import VersionCorrupt
from model.registry import Registry
from model.table import View


class Views:
    """The views of an attempt; each version's rows are in the encoder's table once."""

    def __init__(self, encoder: Encoder, registry: Registry, root: DataRoot) -> None:
        self._encoder, self._registry, self._root = encoder, registry, root
        self._open: dict[int, View] = {encoder.base_view.version: encoder.base_view}

    def of(self, number: int) -> View:
        """The view of a version, verified with its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        if number not in self._open:
            for step in reversed(self._registry.versions.lineage(number)):
                if step.parent is None and step.number not in self._open:
                    raise VersionCorrupt(f"version {number} was made for another base model")
                if step.number not in self._open:
                    folder = VersionFolder.of(step, self._root)
                    self._open[step.number] = self._encoder.open([folder], onto=self._open[step.parent or 0])
        return self._open[number]
