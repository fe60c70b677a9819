"""Opens the engine that the setting `INDEX` names. Builds no index."""

from index.engine import Engine
from index.engine.faiss_engine import FaissEngine

_MILVUS = "milvus+"


def open_engine(spec: str, threads: int = 1) -> Engine:
    """The engine for `faiss` or `milvus+URI`; `threads` are used to build an index.

    Raises `ValueError` for anything else, and `IndexUnavailable` when the package of Milvus is not installed.
    """
    if spec == "faiss":
        return FaissEngine(threads=threads)
    if spec.startswith(_MILVUS):
        from index.engine.milvus_engine import MilvusEngine  # optional

        return MilvusEngine(spec.removeprefix(_MILVUS))
    raise ValueError("INDEX must be `faiss` or `milvus+URI`")
