"""clip-retrieval's own `clip_back`, on loopback: `clip_retrieval_back.py PORT MODEL INDICES`, by its own interpreter.

clip_back listens on every address and has no option against it, so the address is changed here. Nothing else is.
"""

import sys
from typing import Any

import flask
from clip_retrieval.clip_back import clip_back  # type: ignore[import-not-found]

_run = flask.Flask.run


def _on_loopback(app: flask.Flask, host: str | None = None, **options: Any) -> None:
    _run(app, host="127.0.0.1", **options)


if __name__ == "__main__":
    flask.Flask.run = _on_loopback  # type: ignore[method-assign,assignment]
    _, port, model, indices = sys.argv
    clip_back(
        indices_paths=indices,
        port=int(port),
        clip_model=f"hf_clip:{model}",
        enable_mclip_option=False,
        use_jit=False,
        provide_aesthetic_embeddings=False,
    )
