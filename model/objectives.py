"""What moves token-embedding rows, and whence: corpora, losses (one small class each), and how rows start and step.

Losses: CLL-CLIP, section "objectives" (yangbang18/CLFM, clfm/losses/CLLoss.py). Start and step: TEIR (CLL-CLIP + TEIR,
AAAI 2024). Which English tokens a token stands for, two IBM models 1 say that have to agree, over caption pairs: P. F.
Brown et al., "The mathematics of statistical machine translation", 1993; P. Liang, B. Taskar, D. Klein, "Alignment by
agreement", 2006. Counts alone; no weights of any model.
"""

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from model.checkpoint import CachedResult, load_result, save_result
from model.text import is_word
from model.tokenizer import Tokenizer

_SHARE = 0.1  # of the features' mean square that the cross-modal loss weighs (docs/decisions/0048)
NO_PICTURE = -1  # in `Corpus.picture_rows`: this caption has no picture
_BLOCK = 8_192  # captions whose features are read, and rows of the table that are weighed, at a time
_ROUNDS = 8  # of expectation and maximisation
_MOST = 2_000_000  # pairs of tokens; beyond, captions are counted that have so many, from all parts of the corpus
TokenIds = NDArray[np.int64]
Shares = NDArray[np.float64]
Entry = tuple[str, str | None, bool]  # a caption, the text beside it, and whether a dictionary lists them


@dataclass(frozen=True)
class Corpus:
    """Cleaned captions, features of their pivots and of their pictures.

    `pivot_features` (n, dimension) are those of the texts that the captions are paired with, in English or another
    served language, a row of NaN where a caption has none; `pictures` (m, dimension); `picture_rows` (n,) the row in
    `pictures` of each caption, `NO_PICTURE` where it has none. All float32, not normalised or normalised alike.
    `pivot_texts` (n,) are those texts, None where a caption has none that the base reads; empty where only their
    features are known. `listed` are captions of one word: of a dictionary, or beside one in a language that the base
    does not read. `others` the tokenizer is to know, too; they teach nothing.
    """

    language: str
    captions: Sequence[str]
    pivot_features: Tensor
    pictures: Tensor
    picture_rows: Tensor
    pivot_texts: Sequence[str | None] = ()
    listed: Collection[str] = frozenset()
    others: Sequence[Entry] = ()

    @property
    def entries(self) -> list[Entry]:
        """Return the captions with those of their texts that are known."""
        texts = self.pivot_texts or [None] * len(self.captions)
        return [(caption, text, caption in self.listed) for caption, text in zip(self.captions, texts, strict=True)]

    def compute_sha256(self) -> str:
        """Return a name of captions, pivots and features; part of what a checkpoint was made from."""
        texts = [[*self.captions], [*self.pivot_texts], [caption for caption, *_ in self.others]]
        digest = hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode())
        for tensor in (self.pivot_features, self.pictures, self.picture_rows):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class CorpusTokens:
    """The `tokenizer` grown on the captions, and each caption's token `ids` (n,) int32, without begin and end."""

    tokenizer: Tokenizer
    ids: Sequence[NDArray[np.int32]]


def tokenize_corpus(parent: Tokenizer, entries: Sequence[Entry], vocabulary: int, folder: Path) -> CorpusTokens:
    """Return the tokens that `folder` keeps of these captions on this parent, or make them now and keep them there."""
    captions, names = [entry[0] for entry in entries], [entry[0] for entry in entries if is_word(*entry)]
    key = [parent.sha256, vocabulary, captions, names]
    cached = load_result(folder, key)
    if cached is not None:
        merges = [(left, right) for left, right in cached.facts["merges"]]
        ids = np.split(cached.tensors["ids"].numpy(), cached.tensors["ends"].numpy()[:-1])
        return CorpusTokens(parent.extend(merges, cached.facts["words"]), ids)
    grown = parent.grow(captions, vocabulary, names)
    ids = [np.asarray(line, dtype=np.int32) for line in grown.encode(captions)]
    tensors = {"ids": np.concatenate(ids), "ends": np.cumsum([len(line) for line in ids])}
    facts = {"merges": grown.merges[len(parent.merges) :], "words": grown.words[len(parent.words) :]}
    save_result(folder, key, CachedResult({name: torch.from_numpy(values) for name, values in tensors.items()}, facts))
    return CorpusTokens(grown, ids)


class Objective(nn.Module):
    """One term of the loss. Its parameters, if it has any, are trained beside the rows."""

    @abstractmethod
    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        """Return the weighted loss of the student's `features` (n, dimension) of the captions `batch` (n,).

        None where it does not apply to any of them.
        """


class CrossLingual(Objective):
    """Mean squared error between a caption's feature and the teacher's feature of its pivot, un-normalised."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over captions and dimensions; both (n, dimension)."""
        return F.mse_loss(student, teacher)

    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        english = corpus.pivot_features[batch].to(features.device)
        translated = ~english.isnan().any(dim=1)
        return self(features[translated], english[translated]) if bool(translated.any()) else None


class CrossModal(Objective):
    """Symmetric contrastive loss: pulls a caption to its picture and away from the batch's other pictures.

    Captions of one picture share its target mass. `temperature` divides the cosines; it is learned, starts at 0.07 for
    every language and is held within 0.001..0.5 before each use.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def forward(self, student: Tensor, pictures: Tensor, owner: Tensor) -> Tensor:
        """Compare captions `student` (n, dimension) with their `pictures`; `owner` (n,) numbers the pictures."""
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
        logits = F.normalize(student, dim=-1) @ F.normalize(pictures, dim=-1).T / self.temperature  # (n, n)
        same = (owner[:, None] == owner[None, :]).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        owner = corpus.picture_rows[batch].to(features.device)
        pictured = owner != NO_PICTURE
        if int(pictured.sum()) < 2:
            return None
        pictures = corpus.pictures[owner[pictured].cpu()].to(features.device)
        loss: Tensor = self(features[pictured], pictures, owner[pictured])
        return self.weight * loss


def make_objectives(corpus: Corpus) -> list[Objective]:
    """Return both losses; the cross-modal one weighs a tenth of the mean square of the teacher's pivot features.

    The cross-lingual loss grows with that square, the cross-modal one does not: weighed like this, their proportion
    does not depend on how large the features of a base are. For a corpus without any pivot the weight is 1.
    """
    squares = [block.square().mean(dim=1) for block in torch.split(corpus.pivot_features, _BLOCK)]
    weight = _SHARE * float(torch.cat(squares).nanmean())
    return [CrossLingual(), CrossModal(1.0 if bool(corpus.pivot_features.isnan().all()) else weight)]


def draw_rows(count: int, existing: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """Draw rows (count, width) from N(mean, std²) of all elements of the table, which comes in blocks (rows, width).

    Scalars over all elements, std unbiased: the published choice. In blocks, since the table may fill the memory.
    """
    elements, total, squares, width = 0, 0.0, 0.0, 0
    for block in existing:
        exact, width = block.double(), block.shape[1]
        elements, total = elements + block.numel(), total + exact.sum().item()
        squares += exact.square().sum().item()
    mean = total / elements
    std = math.sqrt(max(0.0, squares - elements * mean**2) / (elements - 1))
    return torch.randn((count, width), generator=generator) * std + mean


def average_english_rows(
    tokens: TokenIds, english_tokens: TokenIds, probability: Shares, table: Tensor, drawn: Tensor
) -> Tensor:
    """Return rows (k, width) of the k ids in `tokens` (m,), ascending: means of rows of `table`, their English.

    `english_tokens` (m,) are these rows, and `probability` (m,) sums to 1 over each token. A mean of many rows is
    smaller than one row. What it lacks comes from `drawn` (k, width), the rows as they would start otherwise: nothing
    where one meaning is sure, nearly all where none is. Not published, but measured (docs/decisions/0048).
    """
    each, place = np.unique(tokens, return_inverse=True)
    rows = torch.zeros((len(each), table.shape[1]), dtype=torch.float64)
    for start in range(0, len(tokens), _BLOCK):
        block = slice(start, start + _BLOCK)
        weighted = torch.from_numpy(probability[block])[:, None] * table[torch.from_numpy(english_tokens[block])]
        rows.index_add_(0, torch.from_numpy(place[block]), weighted)
    sure = np.bincount(place, probability**2)  # the variance of such a mean over that of one row
    lacking = torch.from_numpy(np.sqrt(np.maximum(0.0, 1.0 - sure)))[:, None]
    return (rows + lacking * drawn).float()


def compute_row_scale(frequency: NDArray[np.int64]) -> Tensor:
    """Return 1 / f per row, (n, 1) float32: the more languages trained a row, the less this one may move it."""
    return torch.from_numpy((1.0 / frequency).astype(np.float32)).unsqueeze(1)


class ScaledAdamW:
    """AdamW over a table whose gradient and decay are scaled per row, and over `others` without scale and decay.

    Order of one step as published: decay W *= 1 - lr * decay * scale, then gradient *= scale, then Adam. A row of scale
    0 keeps every bit.
    """

    def __init__(self, table: nn.Parameter, scale: Tensor, others: list[nn.Parameter], decay: float) -> None:
        self.table, self.scale, self.decay = table, scale, decay
        self.adam = torch.optim.Adam([table, *others], lr=0.0, betas=(0.9, 0.999), eps=1e-6, fused=True)

    @torch.no_grad()
    def step(self, learning_rate: float, clip: float) -> None:
        """Move after clipping the global gradient norm, which is before scaling; clear the gradients."""
        (group,) = self.adam.param_groups
        group["lr"] = learning_rate
        torch.nn.utils.clip_grad_norm_(group["params"], clip)
        self.table.mul_(1 - learning_rate * self.decay * self.scale)
        self.move()
        self.adam.zero_grad(set_to_none=True)

    def move(self) -> None:
        """Move by Adam's step, on scaled gradients."""
        if self.table.grad is not None:
            self.table.grad.mul_(self.scale)
        self.adam.step()


def align_tokens(
    captions: Sequence[NDArray[np.int32]], english: Sequence[Sequence[int]]
) -> tuple[TokenIds, TokenIds, Shares]:
    """Return all pairs of tokens of a caption and its English text: both, and p(English token | caption's token).

    All (m,), by the first token; the same bits on every machine.
    """
    first, second, caption_places, text_places = [], [], [], []
    heard = read = 0  # tokens of captions and of English texts so far
    pairs = sum(len(caption) * len(text) for caption, text in zip(captions, english, strict=True))
    count = min(len(captions), -(-len(captions) * _MOST // max(1, pairs)))
    for place in range(count):
        caption, text = (each[place * len(captions) // count] for each in (captions, english))
        first.append(np.tile(caption, len(text)))
        second.append(np.repeat(text, len(caption)))
        caption_places.append(np.tile(np.arange(heard, heard + len(caption)), len(text)))
        text_places.append(np.repeat(np.arange(read, read + len(text)), len(caption)))
        heard, read = heard + len(caption), read + len(text)
    if not pairs:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    both = np.stack([np.concatenate(first), np.concatenate(second)]).astype(np.int64)
    (tokens, english_tokens), pair = np.unique(both, axis=1, return_inverse=True)
    by_token, by_english = (np.unique(each, return_inverse=True)[1] for each in (tokens, english_tokens))
    at_caption, at_text = np.concatenate(caption_places), np.concatenate(text_places)
    forth: Shares = np.ones(len(tokens))  # p(English token | caption's token), and the other way round:
    back = forth
    for _ in range(_ROUNDS):
        # an English token comes from one token of the caption, and that from one of the English: both at once, so that
        # a rare token does not take in what others leave unexplained
        weight = _compute_shares(forth[pair], at_text) * _compute_shares(back[pair], at_caption)
        counts: Shares = np.bincount(pair, weight).astype(np.float64)
        forth, back = _compute_shares(counts, by_token), _compute_shares(counts, by_english)
    return tokens, english_tokens, forth


def _compute_shares(weight: Shares, of: TokenIds) -> Shares:
    """Return each of the `weight` (n,) over the sum of all that have the same number in `of` (n,)."""
    shares: Shares = weight / np.bincount(of, weight)[of]
    return shares
