"""The rows of the suite's tables, and how they are trained: all alike, but for the method."""

import math
from dataclasses import replace

from benchmarks.emoji36.tokenizers import Oracle, Published
from benchmarks.emoji36.trainer import CLL_CLIP, TEIR, TEIR_INIT, TEIR_REG, Method
from benchmarks.methods.codaprompt import CodaPrompt, Untrained
from benchmarks.methods.der import DER
from benchmarks.methods.dualprompt import DualPrompt
from benchmarks.methods.er import ER
from benchmarks.methods.lora import LoRA
from benchmarks.methods.mla import MLA
from benchmarks.methods.oewc import OEWC
from benchmarks.methods.p_tuning import PTuning
from benchmarks.methods.trainer import SuiteTrainer
from benchmarks.methods.whole import Whole
from model.training import LearnSettings

_EPOCHS, _BATCH = 3, 64
_RATE, _STEPS = 2e-3, 48  # of 1,000 pairs
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
    """Return the row of the same method with TEIR."""
    return PROPOSAL if name == BASELINE else f"{name}+teir"


SUITE: dict[str, Method] = {
    row: replace(method, kind=kind)
    for name, kind in _KINDS.items()
    for row, method in ((name, _WITHOUT), (with_teir(name), _WITH))
}
PAIRS = tuple((name, with_teir(name)) for name in _KINDS)
ORACLE = "teir-oracle"  # one vocabulary of all languages from the start
# what TEIR is made of, and what it is put into: one thing changed in each
ABLATIONS: dict[str, Method] = {
    "teir-init": replace(_WITHOUT, kind=SuiteTrainer, start=TEIR_INIT.start),
    "teir-reg": replace(_WITH, kind=SuiteTrainer, start=TEIR_REG.start),
    "teir-reg-gradient": replace(_WITHOUT, kind=SuiteTrainer, scale="gradient", scales="gradient"),
    "teir-reg-decay": replace(_WITH, kind=SuiteTrainer, start=TEIR_REG.start, scales="decay"),
    "teir-lingual": replace(_WITH, kind=SuiteTrainer, losses="lingual"),
    "teir-modal": replace(_WITH, kind=SuiteTrainer, losses="modal"),
    ORACLE: replace(_WITH, kind=SuiteTrainer),
    "teir-whole": replace(_WITH, kind=Whole),
}
ROWS = SUITE | ABLATIONS


def choose_tokenizer(name: str) -> type[Published]:
    """Return what grows from language to language in this row."""
    return Oracle if name == ORACLE else Published


def choose_settings(pairs: int, seed: int) -> LearnSettings:
    """Return the settings of a training on so many pairs, the same in all rows.

    The rate falls with the root of the steps, so the noise of all steps moves a row as far, whatever their number.
    """
    steps = _EPOCHS * math.ceil(pairs / _BATCH)
    return LearnSettings(
        epochs=_EPOCHS,
        batch_size=_BATCH,
        learning_rate=_RATE * math.sqrt(_STEPS / steps),
        cooldown=0.0,
        start="drawn",
        seed=seed,
        checkpoint_every=1_000,
    )
