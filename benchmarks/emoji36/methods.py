"""The table's rows, as data: how a language is taught, on top of what, and through which version it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.emoji36.tokenizers import BytesFirst, BytesLast, MarksCut, Published
from model.corpus import Corpus
from model.method import CLL_CLIP, TEIR, TEIR_INIT, TEIR_REG, Method
from model.objectives import MODAL_WEIGHT, Objective, published
from model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Training:
    """A way to teach all languages; several rows of the table may read the same one.

    `onto`: each language on top of the one before ("chain"), each on the base ("base"), each on the base's rows with
    the tokenizer of the one before ("tokens"), or all at once ("joint"). `tokenizer`: the one that languages grow.
    `settings`: what is set otherwise than in the product.
    """

    method: Method
    onto: Literal["chain", "base", "tokens", "joint"]
    tokenizer: type[Tokenizer] = Tokenizer
    settings: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """What tells it from other trainings, for a file beside what it taught."""
        made = {"onto": self.onto, "tokenizer": self.tokenizer.__name__, "settings": dict(self.settings)}
        return {**made, "method": self.method.key()}


@dataclass(frozen=True)
class Row:
    """One row of the table: a training, and the version that a text is read through.

    `read`: the newest ("shared"), the one that learned the text's language ("own"), or that of the language which
    the text seems to be in ("detected"). Without a training the base reads everything.
    """

    training: str | None
    read: Literal["shared", "own", "detected"] = "shared"


_FREE, _STEP = Method(scale="none"), Method(scale="step")


def _published(method: Method) -> Training:
    """The paper's tokenizer, and its learning rate that does not fall."""
    return Training(method, "chain", Published, {"cooldown": 0.0})


def more_modal(corpus: Corpus) -> list[Objective]:
    """Both losses, with ten times the published weight on pictures."""
    return published(corpus, 10 * MODAL_WEIGHT)


TRAININGS = {
    "cll-clip": _published(CLL_CLIP),
    "cll-clip-wide": _published(replace(CLL_CLIP, spread=0.031)),  # as much wider than the base's rows as in the paper
    "teir-init": _published(TEIR_INIT),
    "teir-reg": _published(TEIR_REG),
    "teir": _published(TEIR),
    "teir-step": _published(_STEP),
    "joint": Training(CLL_CLIP, "joint", settings={"vocabulary": 200_000}),
    "shared": Training(TEIR, "chain"),
    "shared-step": Training(_STEP, "chain"),
    "shared-plain": Training(CLL_CLIP, "chain"),
    "free-base": Training(_FREE, "base"),
    "teir-base": Training(TEIR, "base"),
    "step-base": Training(_STEP, "base"),
    "free-chain": Training(_FREE, "chain"),
    "free-tokens": Training(_FREE, "tokens"),
    "bytes-last": Training(_FREE, "base", BytesLast),
    "bytes-first": Training(_FREE, "base", BytesFirst),
    "ends-base": Training(Method(scale="none", ends=True), "base"),
    "modal-base": Training(Method(scale="none", objectives=more_modal), "base"),
    "fast-base": Training(_FREE, "base", settings={"learning_rate": 8e-3}),
    "marks-cut": Training(_FREE, "base", MarksCut),
}

# What `auto` falls back to where no language is sure, and what an untagged text of old was read through.
FALLBACK = "shared"

ROWS = {
    "zero-shot": Row(None),
    "cll-clip": Row("cll-clip"),
    "cll-clip-wide": Row("cll-clip-wide"),
    "teir-init": Row("teir-init"),
    "teir-reg": Row("teir-reg"),
    "teir": Row("teir"),
    "teir-step": Row("teir-step"),
    "joint": Row("joint"),
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
    "addressed-ends": Row("ends-base", "own"),
    "addressed-modal": Row("modal-base", "own"),
    "addressed-fast": Row("fast-base", "own"),
}

MAIN = (
    "zero-shot",
    "cll-clip",
    "teir-init",
    "teir-reg",
    "teir",
    "joint",
    "shared",
    "addressed",
    "auto",
    "addressed-chain",
    "auto-chain",
)


def ordered(results: dict[str, Any]) -> list[str]:
    """The rows that a results file has, in the table's order."""
    return [name for name in ROWS if name in results["methods"]]
