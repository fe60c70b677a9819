"""Trains a base on emoji; after an interruption it resumes from its checkpoint.

`python -m demo.train_base` writes `model/bundled/pictoglot-emoji.safetensors` every few hundred steps and at the end,
with `--foreign` the base of `demo/foreign_base.py`, for measurements, into the cache.
"""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from demo import checkpoints
from demo.base_learner import BUNDLE, NAME, Learner
from demo.batches import Batch, Batches
from demo.drawings import SETS, load_drawing
from demo.emojis import load_catalogue
from demo.foreign_base import FOREIGN, SIX, ForeignLearner, prepare
from model.languages import ENGLISH

LEARNING_RATE = 1e-3
ROW_LEARNING_RATE = 5e-4  # rows stay nearer to the scale of rows never trained, N(0, 0.02²)
PROTOTYPE_LEARNING_RATE = 1e-2  # they are normalised, so only their direction moves
WEIGHT_DECAY = 0.05
WARMUP = 50  # steps, of each phase
SPRITE_SIDE = 64
_CONSOLE = Console()


@dataclass(frozen=True)
class Phase:
    """Steps with one loss, a method of `Learner`; the learning rate warms up, then falls linearly to 0.

    `wild`: strength of the style augmentation at the first and at the last step; None draws no pictures.
    """

    loss: str
    steps: int
    examples: int  # a step
    rate: float  # factor for the learning rates above
    wild: tuple[float, float] | None

    def share(self, step: int) -> float:
        """Return learning rate at a step of this phase, as a fraction of the peak."""
        return self.rate * min((step + 1) / WARMUP, 1 - step / self.steps)


def list_phases(steps: tuple[int, int, int, int]) -> tuple[Phase, ...]:
    """Return first both towers learn the prototypes together, then each tower is trained alone towards them.

    Text needs no pictures and trains fast; pictures train fast once their targets no longer move.
    """
    return (
        Phase("compute_joint_loss", steps[0], 256, 1.0, (0.5, 0.5)),
        Phase("compute_caption_loss", steps[1], 512, 1.5, None),
        Phase("compute_picture_loss", steps[2], 256, 1.0, (1.0, 0.1)),
        Phase("compute_picture_loss_beside_parts", steps[3], 256, 0.4, (0.1, 0.1)),
    )


FOREIGN_PHASES = (
    Phase("compute_loss_in_few_places", 7_000, 128, 1.0, None),
    Phase("compute_loss_in_all_places", 500, 128, 0.3, None),
)


def main(
    steps: Annotated[tuple[int, int, int, int], typer.Option(help="Steps of the four phases")] = (900, 1200, 2200, 700),
    seed: int = 0,
    every: Annotated[int, typer.Option(help="Steps between checkpoints")] = 100,
    foreign: Annotated[bool, typer.Option("--foreign", help="The base that reads six languages, for figures")] = False,
    work: Annotated[Path | None, typer.Option(help="Sprites and checkpoints; .cache/base or .cache/foreign")] = None,
    out: Annotated[Path | None, typer.Option(help="The weights, fp16; the bundle, or `work`")] = None,
) -> None:
    """Train the bundled base, or the foreign one, or resume its training."""
    folder = work or Path(".cache/foreign" if foreign else ".cache/base")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if foreign:
        prepare(folder)
        learner: Learner = ForeignLearner(folder)
        plan: Sequence[Phase] = FOREIGN_PHASES
        batches = Batches(load_catalogue(), torch.empty(0), seed, (ENGLISH, *SIX))  # two captions of seven
        target = out or folder / f"{FOREIGN}.safetensors"
    else:
        learner, plan, target = Learner(), list_phases(steps), out or BUNDLE / f"{NAME}.safetensors"
        batches = Batches(load_catalogue(), load_sprites(folder / "sprites.safetensors"), seed)
    _train(learner, batches, plan, every, folder / "checkpoint.safetensors", target)


def _train(learner: Learner, batches: Batches, plan: Sequence[Phase], every: int, checkpoint: Path, out: Path) -> None:
    optimizer, total = _make_optimizer(learner), sum(phase.steps for phase in plan)
    first = checkpoints.resume(checkpoint, learner, optimizer)
    started = time.monotonic()
    for step, batch in zip(range(first, total), _draw_ahead(batches, first, plan), strict=False):
        loss = _step(learner, optimizer, batch, *_find_phase(step, plan))
        if (step + 1) % 20 == 0:
            pace = (time.monotonic() - started) / (step + 1 - first)
            _CONSOLE.print(f"step {step + 1}/{total}  loss {loss:.3f}  {pace:.2f} s/step")
        if (step + 1) % every == 0 or step + 1 == total:
            checkpoints.save(checkpoint, learner, optimizer, step + 1)
            checkpoints.export(learner.clip, out)


def _step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase, step: int) -> float:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * phase.share(step)
    loss: Tensor = getattr(learner, phase.loss)(batch)
    optimizer.zero_grad(set_to_none=True)  # so that a tower without a part in the loss stays as it is
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()
    learner.clip.logit_scale.data.clamp_(max=math.log(100))
    return loss.item()


def _find_phase(step: int, plan: Sequence[Phase]) -> tuple[Phase, int]:
    """Return the phase of a step and the step's number within it; past the end, the last step of the last phase."""
    for phase in plan:
        if step < phase.steps:
            return phase, step
        step -= phase.steps
    return phase, phase.steps - 1


def _draw_ahead(batches: Batches, first: int, plan: Sequence[Phase]) -> Iterator[Batch]:
    """Batch after batch; the next one is drawn in a thread meanwhile."""

    def draw(step: int) -> Batch:
        phase, within = _find_phase(step, plan)
        if phase.wild is None:
            return batches.draw(step, phase.examples, None)
        start, end = phase.wild
        return batches.draw(step, phase.examples, start + (end - start) * within / phase.steps)

    with ThreadPoolExecutor(1) as drawer:
        coming: Future[Batch] | None = None
        for step in count(first):
            ready, coming = coming, drawer.submit(draw, step)
            if ready is not None:
                yield ready.result()


def load_sprites(cache: Path) -> Tensor:
    """Return both sets' drawings, premultiplied, as uint8 (sets, emojis, 4, side, side); kept in `cache`."""
    if not cache.is_file():
        rows = [torch.stack([_load_sprite(each.characters, which) for each in load_catalogue()]) for which in SETS]
        save_file({"sprites": torch.stack(rows)}, cache)
    return load_file(cache)["sprites"]


def _load_sprite(characters: str, drawing_set: str) -> Tensor:
    cut = load_drawing(characters, drawing_set, SPRITE_SIDE)
    square = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE))
    square.paste(cut, ((SPRITE_SIDE - cut.width) // 2, (SPRITE_SIDE - cut.height) // 2))
    pixels: Tensor = pil_to_tensor(square).float()
    pixels[:3] *= pixels[3:] / 255
    return pixels.round().to(torch.uint8)


def _make_optimizer(learner: Learner) -> torch.optim.AdamW:
    rows, plain, decayed = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in learner.clip.named_parameters():
        if not parameter.requires_grad:
            continue  # the finished tower of the foreign base
        if name.endswith("token_embedding.weight"):
            rows.append(parameter)  # no decay: it would shrink the rows of tokens that no caption has
        else:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": rows, "weight_decay": 0.0, "peak": ROW_LEARNING_RATE},
        {"params": plain, "weight_decay": 0.0, "peak": LEARNING_RATE},
        {"params": decayed, "weight_decay": WEIGHT_DECAY, "peak": LEARNING_RATE},
        {
            "params": [learner.prototypes] if learner.prototypes.requires_grad else [],
            "weight_decay": 0.0,
            "peak": PROTOTYPE_LEARNING_RATE,
        },
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)


if __name__ == "__main__":
    typer.run(main)
