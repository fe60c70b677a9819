"""CLIP's byte-level BPE and its growth: train merges on a language, append them, serialise, prove identical. No rows.

Ids of older tokens never change and older merges keep their rank (learning.md section 1, "intended merge"); only merges
that some caption of the language really uses are appended, so that no row is allocated which nothing can reach.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from open_clip.tokenizer import bytes_to_unicode, default_bpe
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from model.base import VOCABULARY

Merge = tuple[str, str]
_SUFFIX = "</w>"  # marks a token that ends a word
_CLITICS = r"'s|'t|'re|'ve|'m|'ll|'d"
# CLIP's own rule cuts a word at every combining mark: \p{M} is not \p{L}
_CLIP_RULE = rf"{_CLITICS}|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"
# Learned languages keep marks, and joiners between letters, inside the word; text without them is cut as by CLIP
_WORD = r"\p{L}[\p{L}\p{M}]*"
_MARKS_RULE = rf"{_CLITICS}|{_WORD}(?:[\u200c\u200d]+{_WORD})*|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"


@dataclass(frozen=True)
class Tokenizer:
    """An immutable tokenizer: CLIP's merges followed by `added`, in rank order. Without `added` it is CLIP's own."""

    added: tuple[Merge, ...] = ()

    def extend(self, merges: Iterable[Merge]) -> "Tokenizer":
        """This tokenizer with further merges ranked last; those it has already are passed over."""
        known = self._known
        return Tokenizer(self.added + tuple(merge for merge in dict.fromkeys(merges) if merge not in known))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned texts, without begin and end of text; nothing in a text is taken for a special token."""
        return [encoding.ids for encoding in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]

    @cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return VOCABULARY + len(self._new_ids)

    @cached_property
    def sha256(self) -> str:
        """Names every merge, in order, and the cutting rule: equal exactly when all texts tokenise identically."""
        return hashlib.sha256(json.dumps([self._rule, self.added], ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def parts(self) -> dict[int, tuple[int, int]]:
        """For each id above CLIP's: the two ids it was merged from."""
        vocabulary = self._vocabulary
        return {
            vocabulary[left + right]: (vocabulary[left], vocabulary[right])
            for left, right in reversed(self.added)  # the earliest merge of a string decides
            if left + right in self._new_ids
        }

    @property
    def _rule(self) -> str:
        return _MARKS_RULE if self.added else _CLIP_RULE

    @cached_property
    def _known(self) -> frozenset[Merge]:
        return frozenset(clip_merges()) | frozenset(self.added)

    @cached_property
    def _new_ids(self) -> dict[str, int]:
        clip = _clip_vocabulary()
        new = dict.fromkeys(left + right for left, right in self.added if left + right not in clip)
        return {token: VOCABULARY + offset for offset, token in enumerate(new)}

    @property
    def _vocabulary(self) -> dict[str, int]:
        return {**_clip_vocabulary(), **self._new_ids}

    @cached_property
    def _engine(self) -> Engine:
        merges = [*clip_merges(), *self.added]
        return _engine(models.BPE(vocab=self._vocabulary, merges=merges, end_of_word_suffix=_SUFFIX), self._rule)


def train(tokenizer: Tokenizer, corpus: Sequence[str], size: int) -> Tokenizer:
    """`tokenizer` extended by the merges of a byte-level BPE of at most `size` tokens learned from `corpus`.

    Deterministic. The result tokenises `corpus` exactly as if every learned merge had been appended, but holds only
    those on the way to a token that occurs.
    """
    learner = _engine(models.BPE(end_of_word_suffix=_SUFFIX), _MARKS_RULE)
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix=_SUFFIX, show_progress=False, special_tokens=[])
    learner.train_from_iterator(iter(corpus), trainer)
    learned = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    whole = tokenizer.extend(learned)
    return Tokenizer(tokenizer.added + _reached(whole, corpus, learned=whole.added[len(tokenizer.added) :]))


def _reached(whole: Tokenizer, corpus: Sequence[str], learned: Sequence[Merge]) -> tuple[Merge, ...]:
    """The part of `learned` that lies on the way to some token of `corpus`."""
    names = {number: token for token, number in whole._vocabulary.items()}
    needed = {names[number] for ids in whole.encode(corpus) for number in ids}
    kept: list[Merge] = []
    for left, right in reversed(learned):  # a token's parts were merged before it
        if left + right in needed:
            needed.update((left, right))
            kept.append((left, right))
    return tuple(reversed(kept))


@cache
def clip_merges() -> tuple[Merge, ...]:
    """CLIP's 48,894 merges in rank order, from the file that open_clip ships."""
    lines = gzip.decompress(open(default_bpe(), "rb").read()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return tuple((left, right) for left, right in (line.split() for line in lines))


@cache
def _clip_vocabulary() -> dict[str, int]:
    """CLIP's tokens and ids without the two specials, which no text may produce."""
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(symbol + _SUFFIX for symbol in symbols), *(a + b for a, b in clip_merges())]
    return {token: number for number, token in enumerate(tokens)}


def _engine(model: models.BPE, rule: str) -> Engine:
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex("[\u2018-\u201b]"), "'"),  # as CLIP's own cleaning does: ’s is the clitic 's
            normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
            normalizers.Lowercase(),
        ]
    )
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rule), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return engine
