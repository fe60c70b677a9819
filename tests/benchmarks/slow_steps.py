"""The step of every method of the suite, slowly and obviously: `SLOW` has for each in what it differs from CLL-CLIP's.

A further method is one more entry, with a function for each of its differences.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.methods.trainer import NOTHING, SuiteTrainer
from model.checkpoint import CachedResult
from model.encoder import Encoder
from model.objectives import Corpus
from tests.benchmarks.slow_methods import PLAIN, ByHand, Changed, contrastive, feature, mean_square
from tests.model.toy import CAPTIONS

IDLE = [1_000, 1_001, 1_002]  # tokens that no caption has
Parts = dict[str, Tensor]  # parameters beside the rows, or what an earlier language left, by name


@dataclass(frozen=True)
class Step:
    """What a step has at hand: the rows (m, width) now and `before` the first step, and each text's query."""

    trainer: SuiteTrainer
    rows: Tensor
    before: Tensor
    parts: Parts
    left: Parts
    query: list[Tensor]


def nothing_left(encoder: Encoder) -> CachedResult:
    return NOTHING


def unchanged(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    return [PLAIN, PLAIN]


def no_more(step: Step) -> Tensor:
    return torch.zeros(())


@dataclass(frozen=True)
class Slow:
    """In what a method differs.

    `left`: what an earlier language may have left. `changes`: what it puts into each of the two blocks for a text with
    this query. `more`: a further term of the loss. `still`: its parameters count in the norm of the gradients and
    never move. `whole`: the tower is trained.
    """

    left: Callable[[Encoder], CachedResult] = nothing_left
    changes: Callable[[Parts, Parts, Tensor], list[Changed]] = unchanged
    more: Callable[[Step], Tensor] = no_more
    still: bool = False
    whole: bool = False


def by_hand(
    name: str, trainer: SuiteTrainer, said: Corpus, rows: Tensor, parts: Parts, settings: tuple[float, float]
) -> None:
    """Move `rows` and `parts` as the method would on what is `said`; `settings` are rate and decay.

    The first step has the rate 0.
    """
    tower: Any = copy.deepcopy(trainer.encoder.base.model).double()
    slow, before, (rate, decay) = slow_of(name), rows.detach().clone(), settings
    if slow.whole:
        parts |= {key: moved(tower, key) for key in parts if "temperature" not in key}
    left = {key: value.double() for key, value in trainer.left.tensors.items()}
    scale = row_factors(trainer, teir="teir" in name)
    still = [key for key in parts if slow.still and "/" in key]
    others = [key for key in parts if key not in still]
    decays: list[Tensor | float] = [scale, *(1.0 if parts[key].ndim > 1 else 0.0 for key in others)]
    optimizer = ByHand([rows, *(parts[key] for key in others)], decays, [scale, *(1.0 for _ in others)], decay)
    summed = [torch.zeros_like(parts[key]) for key in still]
    for step, batch in trainer.make_batches(0):
        texts = [rows[trainer.sequences[place]] for place in batch]
        query = [feature(tower, text, [PLAIN] * 2).detach() for text in texts]
        found = [feature(tower, text, slow.changes(parts, left, each)) for text, each in zip(texts, query, strict=True)]
        loss = published(said, batch, found, parts, left) + slow.more(Step(trainer, rows, before, parts, left, query))
        if still:  # summed over the epoch, 65,536 times
            gradients = torch.autograd.grad(loss, [parts[key] for key in still], retain_graph=True)
            summed = [total + 65_536 * gradient for total, gradient in zip(summed, gradients, strict=True)]
        optimizer.step(loss, 0.0 if step == 1 else rate, summed)


def published(said: Corpus, batch: NDArray[np.int64], found: list[Tensor], parts: Parts, left: Parts) -> Tensor:
    """Return both losses; what is remembered stands behind what is `said` and has one mean of its own."""
    target = said.pivot_features.double()
    target = torch.cat([target, left.get("targets", torch.empty(0, target.shape[1]))])
    owner = [*said.picture_rows.tolist(), *left.get("owner", torch.empty(0)).long().tolist()]
    owners = [owner[place] for place in batch]
    (temperature,) = (value for key, value in parts.items() if key.endswith("temperature"))
    loss = 0.01 * contrastive(found, [said.pictures.double()[each] for each in owners], owners, temperature)
    new = [k for k, place in enumerate(batch) if place < len(said.captions)]
    for some in (new, [k for k in range(len(batch)) if k not in new]):
        if some:
            loss = loss + mean_square([found[k] for k in some], [target[batch[k]] for k in some])
    return loss


def moved(tower: Any, key: str) -> nn.Parameter:
    """Return the weight of the whole tower that the trainer calls so."""
    own = re.sub(r"^block(\d+)\.", r"transformer.resblocks.\1.", key).replace("mlp.module.", "mlp.")
    found: nn.Parameter = tower.get_parameter(own.replace("attn.projections.", "attn."))
    found.requires_grad_(True)
    return found


def row_factors(trainer: SuiteTrainer, teir: bool) -> Tensor:
    """Return with TEIR 1 for a new token, 1/2 for one of the base's, 0 for begin and end; without it 1."""
    factors = [1.0 if number >= 49_408 else 0.5 for number in trainer.used.tolist()]
    return torch.tensor([[each] for each in [*factors, 0.0, 0.0]] if teir else [[1.0]] * len(trainer.ids))


# In what each of them differs.


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def left_by_oewc(encoder: Encoder) -> CachedResult:
    own = encoder.base_view.tokenizer.encode(CAPTIONS[:2])
    ids = np.unique([*IDLE, *(number for line in own for number in line)])
    fisher = 1e-3 * drawn(len(ids), encoder.base.table.shape[1]) ** 2
    return CachedResult({"ids": torch.from_numpy(ids), "fisher": fisher}, {})


def oewc(step: Step) -> Tensor:
    fisher, total = dict(zip(step.left["ids"].tolist(), step.left["fisher"], strict=True)), torch.zeros(())
    for place, number in enumerate(step.trainer.ids.tolist()):
        if number in fisher:
            total = total + 1_000 * (fisher[number] * (step.rows[place] - step.before[place]) ** 2).sum()
    return total


def memory(encoder: Encoder) -> CachedResult:
    tensors = {"targets": drawn(6, encoder.dimension, seed=3), "owner": torch.tensor([0, 1, 7, 8, 9, 9])}
    return CachedResult(tensors, {"captions": CAPTIONS[-6:], "seen": 40})


def part(parts: Parts, block: int, name: str) -> Tensor:
    (found,) = (value for key, value in parts.items() if key.endswith(f"{block}.{name}"))
    return found


def mla(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    def bottleneck(block: int, hidden: Tensor) -> Tensor:
        inner = (part(parts, block, "down.weight") @ hidden + part(parts, block, "down.bias")).clamp(min=0)
        return part(parts, block, "up.weight") @ inner + part(parts, block, "up.bias")

    return [Changed(behind=partial(bottleneck, block)) for block in range(2)]


def lora(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    def thin(block: int, which: int, hidden: Tensor) -> Tensor:
        return part(parts, block, f"{which}.up") @ (part(parts, block, f"{which}.down") @ hidden)

    return [Changed(queries=partial(thin, block, 0), values=partial(thin, block, 1)) for block in range(2)]


def p_tuning(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    places, *layers = (
        parts[f"part.{key}"] for key in ("places", "deep.0.weight", "deep.0.bias", "deep.2.weight", "deep.2.bias")
    )
    deep = [layers[2] @ torch.tanh(layers[0] @ place + layers[1]) + layers[3] for place in places]
    width = places.shape[1]
    cut = [[each[k * width : (k + 1) * width] for each in deep] for k in range(4)]
    return [Changed(seen=[*zip(cut[0], cut[1], strict=True)]), Changed(seen=[*zip(cut[2], cut[3], strict=True)])]


def left_of_shapes(encoder: Encoder, shapes: Mapping[str, tuple[int, ...]]) -> CachedResult:
    return CachedResult({key: drawn(*shape, seed=len(key)) for key, shape in shapes.items()}, {})


def left_by_dualprompt(encoder: Encoder) -> CachedResult:
    width, dimension = encoder.base.table.shape[1], encoder.dimension
    shapes = {"general": (1, 2, width), "expert/br": (1, 16, width), "key/br": (1, dimension)}
    return left_of_shapes(encoder, shapes)


def dualprompt(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    (general,), (expert,) = parts["general"], parts["expert/cy"]
    return [
        Changed(seen=[(general[0], general[1])]),
        Changed(seen=[(expert[k], expert[8 + k]) for k in range(8)]),
    ]


def pull(step: Step) -> Tensor:
    (key,) = step.parts["key/cy"]  # one block has experts
    return torch.stack([1 - each @ key / (each.norm() * key.norm()) for each in step.query]).mean()


def left_by_codaprompt(encoder: Encoder) -> CachedResult:
    width, dimension = encoder.base.table.shape[1], encoder.dimension
    shapes = {"0/key/br": (5, dimension), "0/attention/br": (5, dimension), "0/prompt/br": (5, 2 * width)}
    return left_of_shapes(encoder, shapes)


def codaprompt(parts: Parts, left: Parts, query: Tensor) -> list[Changed]:
    every, total = {**left, **parts}, torch.zeros(())
    for tag in ("br", "cy"):
        for k in range(5):
            asked, key = query * every[f"0/attention/{tag}"][k], every[f"0/key/{tag}"][k]
            total = total + asked @ key / (asked.norm() * key.norm()) * every[f"0/prompt/{tag}"][k]
    keys, values = total.chunk(2)
    return [Changed(seen=[(keys, values)]), PLAIN]


SLOW = {
    "cll-clip": Slow(),
    "teir": Slow(),
    "teir-whole": Slow(whole=True),
    "oewc": Slow(left_by_oewc, more=oewc),
    "er": Slow(memory),
    "der": Slow(memory),
    "mla": Slow(changes=mla),
    "p-tuning": Slow(changes=p_tuning),
    "lora": Slow(changes=lora),
    "dualprompt": Slow(left_by_dualprompt, dualprompt, pull),
    "codaprompt": Slow(left_by_codaprompt, codaprompt),
    "codaprompt-untrained": Slow(left_by_codaprompt, codaprompt, still=True),
}


def slow_of(row: str) -> Slow:
    """Return that of a row of the suite, with TEIR or without."""
    return SLOW[row.removesuffix("+teir")]
