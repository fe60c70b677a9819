"""An adapter of a language's own beside its rows: both taught on the base by the product's settings, both read.

To be compared with rows alone, which the product teaches. The language of a text has to be known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.emoji36.trainer import ALIGNED, PRODUCT
from benchmarks.methods.adapted import Adapted
from benchmarks.methods.bench import open_reader
from benchmarks.methods.lora import LoRA
from benchmarks.methods.mla import MLA
from model.checkpoint import CachedResult
from model.encoder import Encoder, View
from model.objectives import Corpus
from model.training import LearnSettings
from store import files

KINDS: Mapping[str, type[Adapted]] = {"mla": MLA, "lora": LoRA}


@dataclass(frozen=True)
class Adapter:
    """One of `KINDS`; `pace` is its learning rate over that of the rows."""

    kind: str
    pace: float

    def __str__(self) -> str:
        return f"{self.kind} at {self.pace:g}"


@dataclass(frozen=True)
class Taught:
    """`reader` reads texts by `view` with the adapter, in float32."""

    view: View
    reader: Encoder
    steps: int


def teach(encoder: Encoder, corpus: Corpus, folder: Path, settings: LearnSettings, adapter: Adapter) -> Taught:
    """Return the language of the corpus, on the base; `folder` is used meanwhile."""
    base, kind = encoder.base_view, KINDS[adapter.kind]
    settled = settings.resolve(corpus.entries, base.tokenizer.new_row_kind)
    method = replace(ALIGNED if settled.start == "aligned" else PRODUCT, kind=kind)
    files.remove(folder)
    trainer = method.trainer(encoder, base, corpus, folder, settled)
    assert isinstance(trainer, Adapted)
    trainer.pace = adapter.pace
    view = encoder.extend(base, 1, corpus.language, trainer.learn(lambda _: False))
    files.remove(folder)
    features = kind.reads(encoder.base, CachedResult(trainer.leaves()), corpus.language, half=False)
    return Taught(view, open_reader(encoder, features), trainer.steps)
