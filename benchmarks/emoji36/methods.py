"""The table's rows, as data: how a language is trained, on top of what, and which version reads it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from benchmarks.emoji36.tokenizers import BytesFirst, BytesLast, MarksCut, Published, RunsWhole
from benchmarks.emoji36.trainer import ALIGNED, CLL_CLIP, PRODUCT, TEIR, TEIR_INIT, TEIR_REG, Method
from model.tokenizer import Tokenizer
from model.training import LearnSettings

Overrides = Mapping[str, Any]  # names of `LearnSettings` to values, as `--set` gives them
NOTHING: Overrides = {}


@dataclass(frozen=True)
class Training:
    """A way to train all languages; several rows of the table may read the same one.

    `onto`: each language on top of the one before ("chain"), each on the base ("base"), each on the base's rows with
    the tokenizer of the one before ("tokens"), or all at once ("joint"). `tokenizer`: the one that languages grow.
    `settings`: what differs from the product, or must stay as it is.
    """

    method: Method
    onto: Literal["chain", "base", "tokens", "joint"]
    tokenizer: type[Tokenizer] = Tokenizer
    settings: Mapping[str, Any] = field(default_factory=dict)

    def settle_settings(self, settings: LearnSettings, overrides: Overrides = NOTHING) -> LearnSettings:
        """Return the settings in a run of `settings`; `overrides`, from `--set`, come before the training's own."""
        return replace(settings, **{**self.settings, **overrides})

    def described(self, settings: LearnSettings, overrides: Overrides = NOTHING) -> dict[str, Any]:
        """Return what distinguishes it from other trainings, for a file beside its results."""
        made = {
            "onto": self.onto,
            "tokenizer": self.tokenizer.__name__,
            "method": self.method.key(),
        }
        return {**made, "settings": asdict(self.settle_settings(settings, overrides))}


@dataclass(frozen=True)
class Row:
    """One row of the table: a training, and the version that reads a text.

    `read`: the newest ("shared"), the one that learned the text's language ("own"), or that of the detected
    language ("detected"). Without a training the base reads everything.
    """

    training: str | None
    read: Literal["shared", "own", "detected"] = "shared"


_FREE, _STEP = replace(PRODUCT, scale="none"), replace(PRODUCT, scale="step")
_PLAIN = replace(CLL_CLIP, losses="balanced")  # dense AdamW, with the product's losses
# The paper's batch, and for all seeds alike float32 and this rate, whatever the product's defaults become.
_FAST = 4e-3
_PAPER: Mapping[str, Any] = {"batch_size": 128, "learning_rate": _FAST, "mixed_precision": False}
# As much wider than the rows of the bundled base as N(0, 0.02²) is than CLIP's, and a rate whose noise moves a row by
# as large a part of that as the paper's does.
_SPREAD, _SLOW = 0.031, 1e-3


def _make_published(method: Method, rate: float = _SLOW) -> Training:
    """Return the paper's tokenizer, its batch, and a learning rate that does not fall."""
    return Training(method, "chain", Published, {**_PAPER, "cooldown": 0.0, "learning_rate": rate})


TRAININGS = {
    "cll-clip": _make_published(replace(CLL_CLIP, spread=_SPREAD)),
    "teir-init": _make_published(TEIR_INIT),
    "teir-reg": _make_published(replace(TEIR_REG, spread=_SPREAD)),
    "teir": _make_published(TEIR),
    "cll-clip-narrow": _make_published(CLL_CLIP),
    "cll-clip-fast": _make_published(replace(CLL_CLIP, spread=_SPREAD), _FAST),
    "cll-clip-narrow-fast": _make_published(CLL_CLIP, _FAST),
    "teir-init-fast": _make_published(TEIR_INIT, _FAST),
    "teir-fast": _make_published(TEIR, _FAST),
    "teir-step": _make_published(Method(scale="step")),
    "teir-pieces": replace(_make_published(TEIR), tokenizer=Tokenizer),
    "joint": Training(CLL_CLIP, "joint", settings={**_PAPER, "vocabulary": 200_000}),
    "joint-alike": Training(_PLAIN, "joint", settings={"vocabulary": 200_000}),
    "shared": Training(PRODUCT, "chain"),
    "shared-step": Training(_STEP, "chain"),
    "shared-plain": Training(_PLAIN, "chain"),
    "free-base": Training(_FREE, "base"),
    "teir-base": Training(PRODUCT, "base"),
    "step-base": Training(_STEP, "base"),
    "free-chain": Training(_FREE, "chain"),
    "free-tokens": Training(_FREE, "tokens"),
    "bytes-last": Training(_FREE, "base", BytesLast),
    "bytes-first": Training(_FREE, "base", BytesFirst),
    "marks-cut": Training(_FREE, "base", MarksCut),
    "runs-whole": Training(_FREE, "base", RunsWhole),
    "paper-base": Training(Method(scale="none"), "base", settings=_PAPER),
    "light-base": Training(replace(_FREE, losses="published"), "base"),
    "large-base": Training(_FREE, "base", settings={"batch_size": 128}),
    "exact-base": Training(_FREE, "base", settings={"mixed_precision": False}),
    "aligned-chain": Training(ALIGNED, "chain"),
    "aligned-base": Training(replace(ALIGNED, scale="none"), "base"),
    "ends-base": Training(replace(_FREE, ends=True), "base"),
}

# What `auto` falls back to where detection is unsure.
FALLBACK = "shared"

ROWS = {
    "zero-shot": Row(None),
    "cll-clip": Row("cll-clip"),
    "teir-init": Row("teir-init"),
    "teir-reg": Row("teir-reg"),
    "teir": Row("teir"),
    "cll-clip-narrow": Row("cll-clip-narrow"),
    "cll-clip-fast": Row("cll-clip-fast"),
    "cll-clip-narrow-fast": Row("cll-clip-narrow-fast"),
    "teir-init-fast": Row("teir-init-fast"),
    "teir-fast": Row("teir-fast"),
    "teir-step": Row("teir-step"),
    "teir-pieces": Row("teir-pieces"),
    "joint": Row("joint"),
    "joint-alike": Row("joint-alike"),
    "shared": Row("shared"),
    "shared-step": Row("shared-step"),
    "shared-free": Row("free-chain"),
    "shared-plain": Row("shared-plain"),
    "addressed": Row("free-base", "own"),
    "auto": Row("free-base", "detected"),
    "addressed-teir": Row("teir-base", "own"),
    "addressed-step": Row("step-base", "own"),
    "addressed-chain": Row("shared", "own"),
    "auto-chain": Row("shared", "detected"),
    "addressed-free-chain": Row("free-chain", "own"),
    "addressed-free-tokens": Row("free-tokens", "own"),
    "addressed-bytes-last": Row("bytes-last", "own"),
    "addressed-bytes-first": Row("bytes-first", "own"),
    "addressed-marks-cut": Row("marks-cut", "own"),
    "addressed-runs-whole": Row("runs-whole", "own"),
    "addressed-paper": Row("paper-base", "own"),
    "addressed-light": Row("light-base", "own"),
    "addressed-large": Row("large-base", "own"),
    "addressed-exact": Row("exact-base", "own"),
    "shared-aligned": Row("aligned-chain"),
    "addressed-aligned": Row("aligned-base", "own"),
    "addressed-chain-aligned": Row("aligned-chain", "own"),
    "addressed-ends": Row("ends-base", "own"),
}

MAIN = (
    "zero-shot",
    "cll-clip",
    "teir-init",
    "teir-reg",
    "teir",
    "joint",
    "joint-alike",
    "shared",
    "addressed",
    "auto",
    "addressed-chain",
    "auto-chain",
)


def describe_row(name: str, settings: LearnSettings, overrides: Overrides = NOTHING) -> dict[str, Any]:
    """Return all that a row's scores depend on except the data, for a file beside them."""
    row = ROWS[name]
    read = [row.training, FALLBACK] if row.read == "detected" else [row.training]
    return {"read": row.read, "taught": [TRAININGS[each].described(settings, overrides) for each in read if each]}


def order_rows(results: dict[str, Any]) -> list[str]:
    """Return the rows that a results file has, in the table's order."""
    return [name for name in ROWS if name in results["methods"]]
