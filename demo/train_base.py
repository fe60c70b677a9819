"""Trains the bundled base on the drawings of both sets; stopped at any moment, it goes on where it was.

`python -m demo.train_base` writes `model/bundled/pictoglot-emoji.safetensors` every few hundred steps and at the end.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import open_clip
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from demo.batches import Batch, Batches
from demo.drawings import SETS, drawing
from demo.emojis import catalogue

NAME = "pictoglot-emoji"
BUNDLE = Path(__file__).parent.parent / "model" / "bundled"
BATCH = 256
LEARNING_RATE = 1e-3
ROW_LEARNING_RATE = 5e-4  # rows stay nearer to the scale of rows never trained, N(0, 0.02²)
PROTOTYPE_LEARNING_RATE = 1e-2  # they are normalised, so only their direction moves
PROTOTYPE_SCALE, PROTOTYPE_WEIGHT = 20.0, 1.0
WEIGHT_DECAY = 0.05
CALM = 0.25  # wildness of the last steps
TEXT_CHUNKS = 4  # captions of like length are encoded together
WARMUP = 100  # steps
SPRITE_SIDE = 64
_CONSOLE = Console()


def main(
    steps: Annotated[int, typer.Option(help="Optimizer steps in all; the learning rate falls to 0 at the last")] = 3000,
    seed: int = 0,
    text_steps: Annotated[
        int, typer.Option(help="Steps in which the text tower learns too; then pictures alone")
    ] = 900,
    wild_steps: Annotated[int, typer.Option(help="Steps in all the styles; then mostly in the two sets' own")] = 1600,
    every: Annotated[int, typer.Option(help="Steps between checkpoints")] = 100,
    work: Annotated[Path, typer.Option(help="Sprites and checkpoints")] = Path(".cache/base"),
    out: Annotated[Path, typer.Option(help="The weights, fp16")] = BUNDLE / f"{NAME}.safetensors",
) -> None:
    """Train the bundled base, or go on training it."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # one core steps, one draws: threads that wait for each other lose most on a busy machine
    learner = Learner()
    optimizer = _optimizer(learner)
    batches = Batches(catalogue(), sprites(work / "sprites.safetensors"), seed)
    checkpoint = work / "checkpoint.safetensors"
    first = _resume(checkpoint, learner, optimizer) if checkpoint.is_file() else 0
    started = time.monotonic()
    for step, batch in zip(range(first, steps), _ahead(batches, first, wild_steps), strict=False):
        _set_rate(optimizer, step, steps)
        loss = learner(batch, text_learns=step < text_steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        learner.clip.logit_scale.data.clamp_(max=math.log(100))
        if (step + 1) % 20 == 0:
            pace = (time.monotonic() - started) / (step + 1 - first)
            _CONSOLE.print(f"step {step + 1}/{steps}  loss {loss.item():.3f}  {pace:.2f} s/step")
        if (step + 1) % every == 0 or step + 1 == steps:
            _save(checkpoint, learner, optimizer, step + 1)
            export(learner.clip, out)


def _ahead(batches: Batches, first: int, wild_steps: int) -> Iterator[Batch]:
    """Batch after batch, the next one drawn on the other core meanwhile."""
    with ThreadPoolExecutor(1) as drawer:
        coming: Future[Batch] | None = None
        for step in count(first):
            ready, coming = coming, drawer.submit(batches.draw, step, BATCH, 1.0 if step < wild_steps else CALM)
            if ready is not None:
                yield ready.result()


class Learner(nn.Module):
    """The base while it learns: CLIP and one prototype an emoji, which both towers point at; only CLIP is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = new_model()
        self.clip.visual.to(memory_format=torch.channels_last)  # a fifth off the image tower's time on two cores
        self.prototypes = nn.Parameter(0.25 * torch.randn(len(catalogue()), self.clip.text_projection.shape[1]))
        for module in self.clip.visual.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels >= 256:
                module.forward = partial(_convolved, module)  # type: ignore[method-assign]
        cfg = self.clip.visual.preprocess_cfg
        self._mean, self._std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    def forward(self, batch: Batch, text_learns: bool) -> Tensor:
        """CLIP's loss, and one for telling each emoji from all others, in pictures and in captions.

        Captions are learned long before pictures are: measured after 900 steps, a name's nearest prototype was its own
        for 95 % of the texts and 38 % of the pictures. From then on steps without the text's backward pass are cheaper.
        """
        with torch.autocast("cpu", torch.bfloat16):
            shown = ((batch.pictures - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
            pictures = self.clip.encode_image(shown)
            with torch.set_grad_enabled(text_learns):
                texts = encode_texts(self.clip, batch.captions)
        pictures, texts = (F.normalize(features.float(), dim=-1) for features in (pictures, texts))
        prototypes = F.normalize(self.prototypes, dim=-1).T * PROTOTYPE_SCALE
        told = [F.cross_entropy(features @ prototypes, batch.shares) for features in (pictures, texts)]
        return self._contrast(pictures, texts, batch.same) + PROTOTYPE_WEIGHT * torch.stack(told).mean()

    def _contrast(self, pictures: Tensor, texts: Tensor, same: Tensor) -> Tensor:
        """Symmetric cross-entropy; examples that show or say the same are no negatives of each other."""
        logits = self.clip.logit_scale.exp() * pictures @ texts.T  # (n, n)
        logits = logits.masked_fill(same & ~torch.eye(len(logits), dtype=torch.bool), -math.inf)
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3x3 convolution as one matrix product: on maps of 4x4 and below its backward pass takes half the time."""
    stride = layer.stride[0]
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (n, h + 2, w + 2, c)
    height, width = ((side - 1) // stride * stride + 1 for side in x.shape[2:])
    shifted = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    patches = torch.stack(shifted, 3).flatten(3)  # (n, height, width, 9 c)
    return (patches @ layer.weight.permute(0, 2, 3, 1).flatten(1).T).permute(0, 3, 1, 2)


def new_model() -> Any:
    """The bundled architecture, through open_clip, with fresh weights."""
    open_clip.add_model_config(BUNDLE / f"{NAME}.json")
    return open_clip.create_model(NAME)


def sprites(cache: Path) -> Tensor:
    """Both sets' drawings, premultiplied, as uint8 (sets, emojis, 4, side, side); kept in `cache`."""
    if not cache.is_file():
        rows = [torch.stack([_sprite(each.characters, which) for each in catalogue()]) for which in SETS]
        save_file({"sprites": torch.stack(rows)}, cache)
    return load_file(cache)["sprites"]


def _sprite(characters: str, drawing_set: str) -> Tensor:
    cut = drawing(characters, drawing_set, SPRITE_SIDE)
    square = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE))
    square.paste(cut, ((SPRITE_SIDE - cut.width) // 2, (SPRITE_SIDE - cut.height) // 2))
    pixels: Tensor = pil_to_tensor(square).float()
    pixels[:3] *= pixels[3:] / 255
    return pixels.round().to(torch.uint8)


def encode_texts(model: Any, captions: list[str]) -> Tensor:
    """As `encode_text`, without the padding: the mask is causal, so what follows the end of text changes nothing."""
    tokens = open_clip.get_tokenizer(NAME)(captions)  # (n, 77)
    last = tokens.argmax(1)
    by_length = last.argsort()
    parts = [_encode_cut(model, tokens[rows], last[rows]) for rows in by_length.chunk(TEXT_CHUNKS)]
    return torch.cat(parts)[by_length.argsort()]


def _encode_cut(model: Any, tokens: Tensor, last: Tensor) -> Tensor:
    """Features of tokens (n, 77) read off at `last` (n,), encoded no further than the longest of them."""
    length = int(last.max()) + 1
    hidden = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    return hidden[torch.arange(len(last)), last] @ model.text_projection  # type: ignore[no-any-return]


def _optimizer(learner: Learner) -> torch.optim.AdamW:
    rows, plain, decayed = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in learner.clip.named_parameters():
        if name == "token_embedding.weight":
            rows.append(parameter)  # no decay: it would shrink the rows of tokens that no caption holds
        else:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": rows, "weight_decay": 0.0, "peak": ROW_LEARNING_RATE},
        {"params": plain, "weight_decay": 0.0, "peak": LEARNING_RATE},
        {"params": decayed, "weight_decay": WEIGHT_DECAY, "peak": LEARNING_RATE},
        {"params": [learner.prototypes], "weight_decay": 0.0, "peak": PROTOTYPE_LEARNING_RATE},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Linear warm-up, then half a cosine down to 0."""
    share = min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """All that a resume needs in one file, replaced in one step; randomness needs nothing: it hangs on the step."""
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    _replace(tensors, path, {"step": str(step)})


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load model and optimizer; the number of steps already done."""
    tensors = load_file(path)
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model/")})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            # The fused step walks memory, so moments must lie as their parameters do (channels last), or they mix.
            like = torch.empty_like(parameters[int(index)]) if value.ndim else value
            state.setdefault(int(index), {})[name] = like.copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def export(model: nn.Module, out: Path) -> None:
    """The weights as open_clip loads them, halved to fp16."""
    weights = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    _replace(weights, out, {"format": "pt"})


def _replace(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    save_file({key: value.contiguous() for key, value in tensors.items()}, new, metadata)
    new.chmod(0o644)
    new.replace(path)


if __name__ == "__main__":
    typer.run(main)
