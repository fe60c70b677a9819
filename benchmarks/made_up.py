"""Made-up languages on a text tower of random weights: any number, with any number of rows.

A word is two of CLIP's tokens that CLIP does not merge, so each is one merge, one token and one row. Deterministic.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice

import numpy as np
import torch
from open_clip.transformer import TextTransformer

from model.base import Base
from model.encoder import Encoder, View
from model.lexicon import count_ngrams
from model.objectives import Corpus
from model.pictures import Frame
from model.reading import make_reading
from model.tokenizer import BEGIN, CLIP_TOKENS, END, Merge, Tokenizer, build_clip_vocabulary
from model.towers import compute_text_features

_WORDS_A_CAPTION = 10
_CLIP = Tokenizer()


@dataclass(frozen=True)
class Sizes:
    """How large a world is: `rows` of the whole table, and the text tower (by default that of ViT-B/16)."""

    languages: int = 36
    rows: int = 250_000
    layers: int = 12
    width: int = 512
    heads: int = 8

    @property
    def words(self) -> int:
        """Words a language, each of which is a row."""
        return (self.rows - CLIP_TOKENS) // self.languages


def make_base(sizes: Sizes) -> Base:
    """Return a text tower without pictures and without training: the cost of a step does not depend on the weights."""
    torch.manual_seed(0)
    tower = TextTransformer(
        vocab_size=1, width=sizes.width, heads=sizes.heads, layers=sizes.layers, output_dim=sizes.width
    )
    tower.eval().requires_grad_(False)
    table = 0.02 * torch.randn(CLIP_TOKENS, sizes.width)
    read, device = partial(compute_text_features, tower), torch.device("cpu")
    reading = make_reading("made-up", {}, (BEGIN,), (END,), 0)
    rest = sizes.width, "", "made-up", device, read, Frame(224, 224)
    return Base("made-up", tower, _refuse_pictures, table, Tokenizer, reading, *rest)


def open_views(encoder: Encoder, sizes: Sizes, languages: int) -> list[View]:
    """Return the base's view and those of the first `languages`, each on top of the one before, with random rows."""
    return [encoder.base_view, *_open_chain(encoder, sizes, languages)]


def open_newest(encoder: Encoder, sizes: Sizes, languages: int) -> View:
    """Return the last of them alone, as a worker opens its parent version."""
    return deque(_open_chain(encoder, sizes, languages), maxlen=1).pop()


def _open_chain(encoder: Encoder, sizes: Sizes, languages: int) -> Iterator[View]:
    view = encoder.base_view
    for number in range(1, languages + 1):
        tokenizer = view.tokenizer.extend(_make_merges(number, sizes.words))
        ids = np.arange(view.tokenizer.size, tokenizer.size)
        rows = 0.02 * torch.randn(len(ids), sizes.width)
        ngrams = count_ngrams(draw_captions(number, sizes.words))
        view = view.extend(number, f"x-{number}", tokenizer, ids, encoder.table.append(rows), ngrams)
        yield view


def draw_captions(number: int, words: int, times: int = 2) -> list[str]:
    """Return captions of a language in which each of its words occurs `times` times."""
    draw = random.Random(number)
    written: list[str] = []
    for _ in range(times):
        spoken = [(left + right).removesuffix("</w>") for left, right in _make_merges(number, words)]
        draw.shuffle(spoken)
        starts = range(0, len(spoken), _WORDS_A_CAPTION)
        written += [" ".join(spoken[start : start + _WORDS_A_CAPTION]) for start in starts]
    return written


def draw_corpus(number: int, sizes: Sizes) -> Corpus:
    """Return the captions of a language, each with random features of an English text and of a picture of its own."""
    said = draw_captions(number, sizes.words)
    random_features = torch.Generator().manual_seed(number)
    english, pictures = torch.randn((2, len(said), sizes.width), generator=random_features)
    return Corpus(f"x-{number}", said, english, pictures, torch.arange(len(said)))


@cache
def _make_merges(number: int, words: int) -> tuple[Merge, ...]:
    """Return the words of one language; two languages share a word only by chance."""
    return tuple(islice(_list_words(random.Random(number)), words))


def _list_words(draw: random.Random) -> Iterator[Merge]:
    names = {number: token for token, number in build_clip_vocabulary().items()}
    stems = [token for token in names.values() if token.isascii() and token.isalpha() and 2 <= len(token) <= 5]
    clip, seen = _CLIP, set[str]()
    while True:
        drawn = [draw.choice(stems) + draw.choice(stems) for _ in range(1_000)]
        for word, ids in zip(drawn, clip.encode(drawn), strict=True):
            if len(ids) == 2 and word not in seen:
                seen.add(word)
                yield names[ids[0]], names[ids[1]]


def _refuse_pictures(_: object) -> torch.Tensor:
    raise NotImplementedError("a made-up base has no image tower")
