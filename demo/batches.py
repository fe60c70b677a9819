"""Draws the training examples of one step: which objects, where, in which drawings, with which caption."""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from demo.emojis import Emoji
from demo.scenes import draw_places, is_held_out, join_names, sort_names
from demo.synthesis import CANVAS, Layout, compose
from model.languages import ENGLISH

_COUNTS, _COUNT_WEIGHTS = (1, 2, 3), (40, 38, 22)  # objects per picture
_KEYWORD_SHARE = 0.25  # captions that call one object by a keyword
_RARE = 12  # a keyword of more emoji than this is too general
_BLENDED_SHARE = 0.12  # sprites mixed of both sets
_RUNS, _RUN_LENGTH = 16, 8  # neighbours in the catalogue: similar emoji meet in one step
_STRAYS = 128


@dataclass(frozen=True)
class Batch:
    """Pictures (n, 3, 64, 64) in 0..1, their objects and captions; `same` (n, n): pairs that are not negatives;
    `shares` (n, emojis): the part of each emoji in a picture, 1/2 for one of two."""

    pictures: Tensor
    objects: list[tuple[Emoji, ...]]
    captions: list[str]
    same: Tensor
    shares: Tensor


class Batches:
    """Batch number `step` depends only on the seed and `step`, so that a resumed training sees the same batches."""

    def __init__(
        self, emojis: tuple[Emoji, ...], sprites: Tensor, seed: int, languages: tuple[str, ...] = (ENGLISH,)
    ) -> None:
        """`sprites` (sets, emojis, 4, s, s) uint8, premultiplied. Each caption is in one of `languages`."""
        self._emojis, self._sprites, self._seed, self._languages = emojis, sprites, seed, languages
        uses: dict[str, int] = {}
        for each in emojis:
            for keyword in each.keywords:
                uses[keyword] = uses.get(keyword, 0) + 1
        self._keywords = [[k for k in each.keywords if uses[k] <= _RARE] for each in emojis]

    def draw(self, step: int, size: int, wildness: float | None = 1.0) -> Batch:
        """Return the examples of one step; no scene is a held-out combination.

        `wildness` as in `synthesis.compose`; None draws no pictures.
        """
        random = Random(f"{self._seed} {step}")
        scenes = [self._draw_objects(pool, random) for pool in [self._pool(random)] for _ in range(size)]
        objects = [tuple(self._emojis[i] for i in scene) for scene in scenes]
        assert not any(len(shown) > 1 and is_held_out(shown) for shown in objects)
        captions = [self._draw_caption(objects, random) for objects in scenes]
        pictures = (
            torch.empty(0, 3, CANVAS, CANVAS) if wildness is None else self._draw_pictures(scenes, wildness, random)
        )
        return Batch(
            pictures,
            objects,
            captions,
            _match_examples([sort_names(shown) for shown in objects], captions),
            self._draw_shares(scenes),
        )

    def _pool(self, random: Random) -> list[int]:
        total = len(self._emojis)
        starts = [random.randrange(total - _RUN_LENGTH) for _ in range(_RUNS)]
        return [s + i for s in starts for i in range(_RUN_LENGTH)] + [random.randrange(total) for _ in range(_STRAYS)]

    def _draw_objects(self, pool: list[int], random: Random) -> list[int]:
        count = random.choices(_COUNTS, _COUNT_WEIGHTS)[0]
        while True:
            objects = random.sample(pool, count)
            shown = [self._emojis[i] for i in objects]
            if len({*objects}) == count and (count == 1 or not is_held_out(shown)):
                return objects

    def _draw_caption(self, objects: list[int], random: Random) -> str:
        language = random.choice(self._languages) if len(self._languages) > 1 else ENGLISH
        names = [self._emojis[i].names[language] for i in objects]
        random.shuffle(names)
        if language == ENGLISH and random.random() < _KEYWORD_SHARE:
            named = random.randrange(len(objects))
            keywords = self._keywords[objects[named]]
            if keywords:
                names[names.index(self._emojis[objects[named]].name)] = random.choice(keywords)
        between = (", ", " and ", " ") if language == ENGLISH else (", ", " ")
        return join_names(names, language) if random.random() < 0.9 else random.choice(between).join(names)

    def _draw_shares(self, scenes: list[list[int]]) -> Tensor:
        shares = torch.zeros(len(scenes), len(self._emojis))
        for row, scene in enumerate(scenes):
            shares[row, scene] = 1 / len(scene)
        return shares

    def _draw_pictures(self, scenes: list[list[int]], wildness: float, random: Random) -> Tensor:
        flat = torch.tensor([i for scene in scenes for i in scene])
        spots = [spot for scene in scenes for spot in draw_places(len(scene), random)]
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        chosen = torch.randint(2, (len(flat),), generator=generator)
        sprites = self._sprites[chosen, flat] / 255  # (objects, 4, s, s)
        mixed = torch.nonzero(torch.rand(len(flat), generator=generator) < _BLENDED_SHARE).squeeze(1)
        other = self._sprites[1 - chosen[mixed], flat[mixed]] / 255
        sprites[mixed] = torch.lerp(sprites[mixed], other, torch.rand(len(mixed), 1, 1, 1, generator=generator))
        shrink = 1.05 - (0.1 + 0.25 * wildness) * torch.rand(len(flat), generator=generator)
        layout = Layout(
            centre=torch.tensor([[2 * spot.x - 1, 2 * spot.y - 1] for spot in spots]),
            side=torch.tensor([spot.side for spot in spots]) * shrink,
            canvas=torch.tensor([row for row, scene in enumerate(scenes) for _ in scene]),
        )
        return compose(sprites, layout, len(scenes), wildness, generator)


def _match_examples(combinations: list[str], captions: list[str]) -> Tensor:
    """Return true where two examples show the same objects or have the same caption."""

    def compare(texts: list[str]) -> Tensor:
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        ids = torch.tensor([numbers[text] for text in texts])
        return ids[:, None] == ids[None, :]

    return compare(combinations) | compare(captions)
