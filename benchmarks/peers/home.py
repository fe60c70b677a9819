"""The folder in which everything of the peers lies: environments, weights, pictures, indices. Makes nothing itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURE = "ViT-B-32"
FORMAT = 1  # one more whenever `make` makes something else
_MADE = "made.json"


@dataclass(frozen=True)
class Home:
    """Where each thing lies below `folder`."""

    folder: Path

    @property
    def base(self) -> str:
        """The random weights, as the setting PICTOGLOT_BASE names them."""
        return f"{ARCHITECTURE}@{self.checkpoint}"

    @property
    def checkpoint(self) -> Path:
        """The weights in the format of open_clip."""
        return self.folder / "weights" / "vit-b-32.safetensors"

    @property
    def huggingface(self) -> Path:
        """The same weights, with a tokenizer, as a model folder of transformers."""
        return self.folder / "weights" / "huggingface"

    @property
    def pictures(self) -> Path:
        """The gallery: a folder of JPEGs."""
        return self.folder / "pictures"

    @property
    def indices(self) -> Path:
        """The file that tells clip-retrieval where its indices are."""
        return self.folder / "indices" / "indices.json"

    def find_program(self, peer: str, name: str) -> Path:
        """Return a program in the environment of a peer."""
        return self.folder / "environments" / peer / "bin" / name

    def is_made(self, made: dict[str, Any]) -> None:
        """Keep what `make` found; from then on `load_made` returns it."""
        content = {"format": FORMAT, **made}
        (self.folder / _MADE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def load_made(self) -> dict[str, Any]:
        """Return what `make` found; raises `SystemExit` with one sentence if it has not run, or ran elsewhere."""
        command = f"`python -m benchmarks.peers make --home {self.folder}`"
        try:
            content: dict[str, Any] = json.loads((self.folder / _MADE).read_bytes())
        except FileNotFoundError:
            raise SystemExit(f"The peers are not made yet: run {command} first.") from None
        if content["format"] != FORMAT:
            raise SystemExit(f"The peers were made by another release of this benchmark: run {command} again.")
        return content
