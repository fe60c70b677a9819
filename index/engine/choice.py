"""Which engine the setting `INDEX` names. Builds nothing."""

from index.engine import Engine
from index.engine.faiss_engine import FaissEngine

_MILVUS = "milvus+"


def open_engine(spec: str, threads: int = 1) -> Engine:
    """The engine of `faiss` or `milvus+URI`; `threads` are for building.

    Raises `ValueError` for anything else, and `IndexUnavailable` when the package of Milvus is not installed.
    """
    if spec == "faiss":
        return FaissEngine(threads=threads)
    if spec.startswith(_MILVUS):
        from index.engine.milvus_engine import MilvusEngine  # optional

        return MilvusEngine(spec.removeprefix(_MILVUS))
    raise ValueError("INDEX is `faiss` or `milvus+URI`")
