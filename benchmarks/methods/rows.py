"""The rows of the suite's table, and how they are trained: all alike, but for the method."""

from dataclasses import replace
from typing import Any

from benchmarks.emoji36.tokenizers import Published
from benchmarks.emoji36.trainer import CLL_CLIP, TEIR, Method
from benchmarks.methods.codaprompt import CodaPrompt, Untrained
from benchmarks.methods.der import DER
from benchmarks.methods.dualprompt import DualPrompt
from benchmarks.methods.er import ER
from benchmarks.methods.lora import LoRA
from benchmarks.methods.mla import MLA
from benchmarks.methods.oewc import OEWC
from benchmarks.methods.p_tuning import PTuning
from benchmarks.methods.trainer import SuiteTrainer

TOKENIZER = Published
SETTINGS: dict[str, Any] = {"batch_size": 64, "learning_rate": 2e-3, "cooldown": 0.0, "epochs": 3, "start": "drawn"}
_KINDS: dict[str, type[SuiteTrainer]] = {
    "cll-clip": SuiteTrainer,
    "oewc": OEWC,
    "er": ER,
    "der": DER,
    "mla": MLA,
    "p-tuning": PTuning,
    "lora": LoRA,
    "dualprompt": DualPrompt,
    "codaprompt": CodaPrompt,
    "codaprompt-untrained": Untrained,
}
# the paper's two, in its own proportions
_WITHOUT, _WITH = (replace(method, proportion=True) for method in (CLL_CLIP, TEIR))
BASELINE, PROPOSAL = "cll-clip", "teir"


def with_teir(name: str) -> str:
    """The row of the same method with TEIR."""
    return PROPOSAL if name == BASELINE else f"{name}+teir"


ROWS: dict[str, Method] = {
    row: replace(method, kind=kind)
    for name, kind in _KINDS.items()
    for row, method in ((name, _WITHOUT), (with_teir(name), _WITH))
}
PAIRS = tuple((name, with_teir(name)) for name in _KINDS)
