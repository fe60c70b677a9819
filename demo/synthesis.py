"""Composes batches of training pictures from cut-out drawings in torch, with strong style augmentation.

A *sprite* is a drawing as premultiplied RGBA in 0..1. No flips and no large rotations: "facing left" would be wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Change = Callable[[Tensor, torch.Generator], Tensor]

CANVAS = 64  # pixels a side of what the image tower reads
_LUMINANCE = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Layout:
    """Where sprites are: `centre` (n, 2) in -1..1, `side` (n,) in 0..1, and `canvas` (n,): the index of the picture."""

    centre: Tensor
    side: Tensor
    canvas: Tensor


def compose(sprites: Tensor, layout: Layout, pictures: int, wildness: float, random: torch.Generator) -> Tensor:
    """Return pictures (pictures, 3, 64, 64) in 0..1: sprites (n, 4, s, s) on random backgrounds; `wildness` 0..1."""
    painted = torch.empty(len(sprites), 4, CANVAS, CANVAS)
    small = layout.side < 0.5
    for halve, rows in ((True, torch.nonzero(small)), (False, torch.nonzero(~small))):
        rows = rows.squeeze(1)
        if len(rows):
            # Half the size for small ones: less to compute, and no aliasing.
            styled = restyle(F.avg_pool2d(sprites[rows], 2) if halve else sprites[rows], wildness, random)
            painted[rows] = _place(styled, layout.centre[rows], layout.side[rows], wildness, random)
    canvas = draw_grounds(pictures, random)
    for order in range(int(torch.bincount(layout.canvas).max())):
        chosen = _find_nth_of_each(layout.canvas, order)
        over = painted[chosen]
        canvas[layout.canvas[chosen]] = over[:, :3] + canvas[layout.canvas[chosen]] * (1 - over[:, 3:])
    return _degrade(canvas, wildness, random)


def restyle(sprites: Tensor, wildness: float, random: torch.Generator) -> Tensor:
    """Return sprites in other styles: colour, shading, outlines, line art; about a fifth stay as they are."""
    straight = torch.cat([sprites[:, :3] / sprites[:, 3:].clamp(min=1e-3), sprites[:, 3:]], 1)
    for share, change in (
        (0.15, _without_outlines),
        (0.06, _thicken),
        (0.60, _recolour),
        (0.40, _shade),
        (0.05, _posterise),
        (0.05, _draw_lines),
        (0.12, _outline),
    ):
        straight = _change_some(straight, share * wildness, change, random)
    return torch.cat([straight[:, :3].clamp(0, 1) * straight[:, 3:], straight[:, 3:]], 1)


def draw_grounds(pictures: int, random: torch.Generator) -> Tensor:
    """Return plain, graded, clouded and noisy backgrounds, mostly light, some dark: (pictures, 3, 64, 64)."""
    first, second = (_draw_ground_colour(pictures, random) for _ in range(2))
    ramp = _draw_ramp(pictures, random)
    clouds = F.interpolate(torch.rand(pictures, 1, 6, 6, generator=random), CANVAS, mode="bicubic").clamp(0, 1)
    kind = torch.rand(pictures, 1, 1, 1, generator=random)
    mix = torch.where(kind < 0.35, torch.zeros_like(ramp), torch.where(kind < 0.65, ramp, clouds))
    grain = torch.randn(pictures, 1, CANVAS, CANVAS, generator=random)
    return (first + (second - first) * mix + grain * 0.04 * (kind > 0.85)).clamp(0, 1)


def _place(sprites: Tensor, centre: Tensor, side: Tensor, wildness: float, random: torch.Generator) -> Tensor:
    """Return each sprite (n, 4, s, s) on a transparent canvas, slightly rotated, sheared and warped: (n, 4, 64, 64)."""
    n = len(sprites)
    angle = _draw_uniform(n, -0.14, 0.14, random) * wildness
    shear = _draw_uniform(n, -0.12, 0.12, random) * wildness
    stretch = 1 + _draw_uniform(n, -0.12, 0.14, random) * wildness
    cosine, sine = angle.cos() / side, angle.sin() / side
    across = torch.stack([cosine * stretch, shear * cosine - sine], 1)
    down = torch.stack([sine * stretch, shear * sine + cosine], 1)
    rows = torch.stack([across, down], 1)  # (n, 2, 2)
    offset = -(rows @ centre.unsqueeze(2))  # (n, 2, 1)
    grid = F.affine_grid(torch.cat([rows, offset], 2), [n, 1, CANVAS, CANVAS], align_corners=False)
    bend = (
        torch.randn(n, 2, 5, 5, generator=random)
        * _draw_uniform(n, -0.08, 0.10, random).clamp(min=0).view(n, 1, 1, 1)
        * wildness
    )
    bend = F.interpolate(bend, CANVAS, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(sprites, grid + bend, align_corners=False)


def _degrade(pictures: Tensor, wildness: float, random: torch.Generator) -> Tensor:
    """Return changes of the whole picture: blur, sharpening, contrast, grey, noise."""
    for share, change in ((0.5, _refocus), (0.05, _grey), (0.3, _change_contrast), (0.15, _add_noise)):
        pictures = _change_some(pictures, share * wildness, change, random)
    return pictures.clamp(0, 1)


def _refocus(pictures: Tensor, random: torch.Generator) -> Tensor:
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.lerp(pictures, blurred, _draw_uniform(len(pictures), -0.9, 0.9, random).view(-1, 1, 1, 1))


def _grey(pictures: Tensor, _: torch.Generator) -> Tensor:
    return (pictures * _LUMINANCE).sum(1, keepdim=True).expand_as(pictures)


def _change_contrast(pictures: Tensor, random: torch.Generator) -> Tensor:
    return (pictures - 0.5) * _draw_uniform(len(pictures), 0.75, 1.25, random).view(-1, 1, 1, 1) + 0.5


def _add_noise(pictures: Tensor, random: torch.Generator) -> Tensor:
    return pictures + torch.randn(pictures.shape, generator=random) * 0.04


# The functions below take and return sprites with straight alpha (n, 4, s, s).


def _recolour(sprites: Tensor, random: torch.Generator) -> Tensor:
    """Change hue, saturation, brightness and gamma, and mix the channels a little."""
    n = len(sprites)
    turn = _draw_uniform(n, -0.6, 0.6, random) * (torch.rand(n, generator=random) < 0.6)
    saturation = _draw_uniform(n, 0.4, 1.6, random)
    matrix = _build_hue_rotation(turn) + 0.08 * torch.randn(n, 3, 3, generator=random)
    matrix = torch.lerp(_LUMINANCE.view(1, 1, 3).expand(n, 3, 3), matrix, saturation.view(n, 1, 1))  # (n, 3, 3)
    mixed = (matrix @ sprites[:, :3].flatten(2)).view(n, 3, *sprites.shape[2:])
    mixed = mixed + _draw_uniform(n, -0.12, 0.12, random).view(n, 1, 1, 1)
    gamma = _draw_uniform(n, -0.5, 0.5, random).exp().view(n, 1, 1, 1)
    return torch.cat([mixed.clamp(1e-3, 1) ** gamma, sprites[:, 3:]], 1)


def _build_hue_rotation(turn: Tensor) -> Tensor:
    """Return rotations (n, 3, 3) of RGB about the grey axis by `turn` radians."""
    cosine, sine = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    third = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cosine * torch.eye(3) + (1 - cosine) * third + sine * cross


def _shade(sprites: Tensor, random: torch.Generator) -> Tensor:
    """Return a smooth change of brightness across each sprite, as in painted sets."""
    light = torch.rand(len(sprites), 1, 3, 3, generator=random) * 0.9 + 0.5
    light = F.interpolate(light, sprites.shape[-1], mode="bilinear", align_corners=True)
    return torch.cat([sprites[:, :3] * light, sprites[:, 3:]], 1)


def _without_outlines(sprites: Tensor, _: torch.Generator) -> Tensor:
    """Replace thin dark lines by the lighter colour beside them."""
    inside = sprites[:, :3] * (sprites[:, 3:] > 0.5)
    return torch.cat([F.max_pool2d(inside, 3, 1, 1), sprites[:, 3:]], 1)


def _thicken(sprites: Tensor, _: torch.Generator) -> Tensor:
    """Make dark lines wider."""
    return torch.cat([-F.max_pool2d(-sprites[:, :3], 3, 1, 1), sprites[:, 3:]], 1)


def _posterise(sprites: Tensor, _: torch.Generator) -> Tensor:
    return torch.cat([(sprites[:, :3] * 4).round() / 4, sprites[:, 3:]], 1)


def _draw_lines(sprites: Tensor, _: torch.Generator) -> Tensor:
    """Return dark lines where the luminance changes, on white."""
    grey = (sprites[:, :3] * _LUMINANCE).sum(1, keepdim=True)
    edge = F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)
    return torch.cat([(1 - 2 * edge).clamp(0, 1).expand(-1, 3, -1, -1), sprites[:, 3:]], 1)


def _outline(sprites: Tensor, random: torch.Generator) -> Tensor:
    """Add a dark or light outline around each sprite."""
    colour, alpha = sprites[:, :3], sprites[:, 3:]
    wide = F.max_pool2d(alpha, 3, 1, 1)
    rim = (torch.rand(len(sprites), 1, 1, 1, generator=random) > 0.6).float() * 0.9 + 0.05
    covered = alpha / wide.clamp(min=1e-3)
    return torch.cat([colour * covered + rim * (1 - covered), wide], 1)


def _draw_ground_colour(pictures: int, random: torch.Generator) -> Tensor:
    """Return a light pastel in four of five cases, otherwise any colour: (pictures, 3, 1, 1)."""
    anything = torch.rand(pictures, 3, 1, 1, generator=random)
    pastel = 0.72 + 0.28 * anything
    return torch.where(torch.rand(pictures, 1, 1, 1, generator=random) < 0.2, anything, pastel)


def _draw_ramp(pictures: int, random: torch.Generator) -> Tensor:
    """Return a straight gradient 0..1 in a random direction: (pictures, 1, 64, 64)."""
    line = torch.linspace(-0.5, 0.5, CANVAS)
    angle = _draw_uniform(pictures, 0, 2 * math.pi, random).view(-1, 1, 1, 1)
    return (angle.cos() * line.view(1, 1, 1, -1) + angle.sin() * line.view(1, 1, -1, 1) + 0.5).clamp(0, 1)


def _find_nth_of_each(canvas: Tensor, order: int) -> Tensor:
    """Return indices of the `order`-th sprite of each picture that has one; sprites of one picture are neighbours."""
    start = torch.cumsum(torch.bincount(canvas), 0) - torch.bincount(canvas)
    return torch.nonzero(torch.arange(len(canvas)) - start[canvas] == order).squeeze(1)


def _change_some(all_: Tensor, share: float, change: Change, random: torch.Generator) -> Tensor:
    """Change a random part of the first dimension; the rest is not computed."""
    chosen = torch.nonzero(torch.rand(len(all_), generator=random) < share).squeeze(1)
    if not len(chosen):
        return all_
    return all_.index_copy(0, chosen, change(all_[chosen], random))


def _draw_uniform(n: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return torch.rand(n, generator=random) * (high - low) + low
