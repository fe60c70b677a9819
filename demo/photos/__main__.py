"""Makes the photo base: `python -m demo.photos` writes `model/bundled/pictoglot-photos.safetensors`.

It fetches the packages, then trains the text tower; stopped and started again, it goes on from its last checkpoint.
"""

import gzip
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor, nn

from demo import checkpoints
from demo.base_learner import BUNDLE
from demo.photos import drawings
from demo.photos.concepts import Concepts, read_classes
from demo.photos.packages import fetch
from demo.photos.phrases import Phrase, Phrases
from demo.photos.towers import NAME, Targets, create_model, start_rows
from demo.photos.wordnet import WordNet
from model.tokenizer import BEGIN, END, Tokenizer
from model.towers import compute_text_features

LEARNING_RATE, ROW_LEARNING_RATE, WEIGHT_DECAY = 1.5e-3, 1.5e-3, 0.02
WARMUP = 100
SCALE = 20.0  # of cosines, before a softmax
NEAR = 4.0  # weight of the distance to a phrase's own target
CHUNKS = 4  # texts of like length are encoded together
_CONSOLE = Console()


def main(
    steps: int = 1300,
    size: Annotated[int, typer.Option(help="Phrases a step")] = 256,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="Of torch")] = 1,
    every: Annotated[int, typer.Option(help="Steps between checkpoints")] = 100,
    work: Annotated[Path, typer.Option(help="Packages and checkpoints")] = Path(".cache/photos"),
    out: Annotated[Path, typer.Option(help="The weights, fp16; the list of what it knows goes beside")] = BUNDLE
    / f"{NAME}.safetensors",
) -> None:
    """Make the photo base, or go on with it."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    packages = fetch(work)
    wordnet, known = WordNet.read(packages), read_classes(packages)
    out.with_suffix(".things.gz").write_bytes(gzip.compress("\n".join(wordnet.list_things()).encode(), mtime=0))
    concepts = Concepts(wordnet, known)
    unseen = wordnet.list_unseen({each.synset for each in known})
    out.with_suffix(".unseen.gz").write_bytes(gzip.compress("\n".join(unseen).encode(), mtime=0))
    model, prototypes = create_model(packages)
    drawn = drawings.point_words(
        drawings.encode_drawings(model, work / "drawings.safetensors"), model.visual.head.proj.weight
    )
    phrases = Phrases(packages, wordnet, concepts, known, [*drawn], seed)
    targets = Targets(wordnet, concepts, prototypes, drawn)
    learner, optimizer = Learner(model, targets), _make_optimizer(model)
    checkpoint = work / "checkpoint.safetensors"
    if not checkpoint.is_file():
        start_rows(model, phrases, targets)
    first = checkpoints.resume(checkpoint, model, optimizer)
    started = time.monotonic()
    for step in range(first, steps):
        share = min((step + 1) / WARMUP, 1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        loss = learner.measure_loss(phrases.draw(step, size))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.trained, 1.0)
        optimizer.step()
        if (step + 1) % 20 == 0:
            pace = (time.monotonic() - started) / (step + 1 - first)
            _CONSOLE.print(f"step {step + 1}/{steps}  loss {loss.item():.3f}  {pace:.2f} s/step")
        if (step + 1) % every == 0 or step + 1 == steps:
            checkpoints.save(checkpoint, model, optimizer, step + 1)
            checkpoints.export(model, out)


class Learner:
    """The text tower, and the loss of phrases whose targets are fixed."""

    def __init__(self, model: Any, targets: Targets) -> None:
        self._model, self._targets = model, targets
        self._tokenizer = Tokenizer()
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def measure_loss(self, phrases: list[Phrase]) -> Tensor:
        """Return distance of each phrase to its target, and how differently it sees the other targets of the step."""
        targets = torch.from_numpy(np.stack([self._targets.combine(phrase.points) for phrase in phrases]))
        features = F.normalize(self._encode_features([phrase.text for phrase in phrases]), dim=-1)
        apart = 1 - (features * targets).sum(1).mean()
        wanted = (SCALE * targets @ targets.T).softmax(1)
        seen = (SCALE * features @ targets.T).log_softmax(1)
        return NEAR * apart + F.kl_div(seen, wanted, reduction="batchmean")

    def _encode_features(self, texts: list[str]) -> Tensor:
        most = self._model.positional_embedding.shape[0] - 2
        ids = [[BEGIN, *found[:most], END] for found in self._tokenizer.encode(texts)]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        parts = []
        for start in range(0, len(order), len(order) // CHUNKS or 1):
            rows = [ids[row] for row in order[start : start + (len(order) // CHUNKS or 1)]]
            length = len(rows[-1])
            numbers = torch.tensor([row + [0] * (length - len(row)) for row in rows])
            last = torch.tensor([len(row) - 1 for row in rows])
            parts.append(compute_text_features(self._model, self._model.token_embedding(numbers), last))
        return torch.cat(parts)[torch.tensor(order).argsort()]


def _make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    rows, plain, decayed = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
        if name == "token_embedding.weight":
            rows.append(parameter)  # no decay: it would shrink the rows of tokens that no phrase has
        elif parameter.requires_grad and name != "logit_scale":
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": rows, "weight_decay": 0.0, "peak": ROW_LEARNING_RATE},
        {"params": plain, "weight_decay": 0.0, "peak": LEARNING_RATE},
        {"params": decayed, "weight_decay": WEIGHT_DECAY, "peak": LEARNING_RATE},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)


if __name__ == "__main__":
    typer.run(main)
