"""CLIP's byte-level BPE and its growth: merges are trained on a language and appended. Knows no rows.

Ids of older tokens never change and older merges keep their rank; only merges that some caption of the language really
uses are appended, so that every row can be reached.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import ClassVar, Literal, NamedTuple

from open_clip.tokenizer import bytes_to_unicode
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

from model.growth import Word, learn, reached
from model.merges import CLIP_TOKENS, SUFFIX, BytePairs, Merge, SharedBPE, clip_merges, new_tokens, vocabulary
from model.segmentation import pattern, standalone_words

BEGIN, END = CLIP_TOKENS - 2, CLIP_TOKENS - 1  # of text
_BYTES = {symbol: byte for byte, symbol in bytes_to_unicode().items()}


class Rule(NamedTuple):
    """How texts are cut: regular expressions of a word, and of a character that is read as an apostrophe."""

    word: str
    apostrophe: str


_CLITICS = r"'s|'t|'re|'ve|'m|'ll|'d"
# CLIP's own rule cuts a word at every combining mark: \p{M} is not \p{L}. ’s is the clitic 's, as by its cleaning
CLIP_RULE = Rule(rf"{_CLITICS}|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", "[\u2018-\u201b]")
# That of languages keeps marks, and joiners between letters, inside the word, and cuts text without them as CLIP does;
# apostrophes are also what keyboards give in their place: letters such as ʼ and ʻ, accents that stand alone, primes
_WORD = r"\p{L}[\p{L}\p{M}]*"
LANGUAGE_RULE = Rule(
    rf"{_CLITICS}|{_WORD}(?:[\u200c\u200d]+{_WORD})*|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    "[`\u00b4\u02b9\u02bb-\u02bf\u05f3\u2018-\u201b\u2032\uff07]",
)


@dataclass(frozen=True)
class ClipTokenizer:
    """An immutable tokenizer: CLIP's merges followed by `added`, in rank order.

    `words` are cut out of text in scripts without spaces before merges apply. `rule` cuts the rest: the base's own
    tokenizer has CLIP's, one that a language extended that of languages (decision 7). Tokenizers of one line of
    versions share one `bpe`.
    """

    added: tuple[Merge, ...] = ()
    words: tuple[str, ...] = ()
    rule: Rule = CLIP_RULE
    bpe: SharedBPE = field(default_factory=SharedBPE, repr=False, compare=False)
    begins: ClassVar[Literal["drawn"]] = "drawn"
    grows_by: ClassVar[Rule] = LANGUAGE_RULE

    def __post_init__(self) -> None:
        object.__setattr__(self, "bpe", self.bpe.holding(self.added))

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> "ClipTokenizer":
        """This tokenizer with further words, and merges ranked last; those it has already are skipped."""
        known, all_words = {*clip_merges(), *self.added}, dict.fromkeys((*self.words, *words))
        added = self.added + tuple(merge for merge in dict.fromkeys(merges) if merge not in known)
        return replace(self, added=added, words=tuple(all_words), rule=self.grows_by)

    def grown(self, corpus: Sequence[str], size: int) -> "ClipTokenizer":
        """This one extended by at most `size` merges that a byte-level BPE learns from `corpus`; deterministic.

        The learner starts from the pieces that this tokenizer leaves, not from bytes: older merges are always applied
        first, so many merges learned from bytes could never be reached. Only merges on the way to a token that occurs
        are kept; the corpus is tokenised the same without the others.
        """
        words = self.extend([], standalone_words(corpus)).words
        # with a BPE of its own: most of what is learned is dropped
        start = replace(self, words=words, rule=self.grows_by, bpe=type(self.bpe)())
        whole = start.extend(start.learned(corpus, size))
        return self.extend(_reached(whole, corpus, whole.added[len(self.added) :]), words)

    def learned(self, corpus: Sequence[str], size: int) -> list[Merge]:
        """The merges that a BPE learner makes of the pieces that this tokenizer leaves of `corpus`, in rank order."""
        names = {number: token for token, number in self.vocabulary.items()}
        encodings = self._reader.engine.encode_batch([*corpus], add_special_tokens=False)
        return learn([_words(each.ids, each.word_ids) for each in encodings], names.__getitem__, size)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned texts, without begin and end of text; no part of a text becomes a special token."""
        return self._reader.encode(texts)

    def decode(self, number: int) -> str:
        """The token with this id as a piece of text, with a space where a word ends; U+FFFD for part of a letter."""
        token = self.bpe.pairs(len(self.added)).model.id_to_token(number) or ""
        letters = bytes(_BYTES[symbol] for symbol in token.removesuffix(SUFFIX)).decode("utf-8", errors="replace")
        return letters + " " * token.endswith(SUFFIX)

    def parts(self, number: int) -> tuple[int, int]:
        """The two ids that one above CLIP's was merged from; the earliest merge of a string decides."""
        return self.bpe.pairs(len(self.added)).parts(number)

    @cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return CLIP_TOKENS + len(new_tokens(self.added))

    @cached_property
    def sha256(self) -> str:
        """Of merges, in order, words and cutting rule: equal if and only if all texts are tokenised identically."""
        described = json.dumps([self.rule, self.words, self.added], ensure_ascii=False)
        return hashlib.sha256(described.encode()).hexdigest()

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token with its id."""
        return vocabulary([*new_tokens(self.added)])

    @property
    def _reader(self) -> "_Reader":
        """A reader with the newest shared BPE."""
        pairs = self.bpe.pairs(len(self.added))
        reader: _Reader | None = self.__dict__.get("_held")
        if reader is None or reader.pairs is not pairs:
            reader = self.__dict__["_held"] = _Reader(pairs, len(self.added), self.rule, self.words)
        return reader


class _Reader:
    """A tokenizer's own rule and words over a BPE that may have more merges than its first `count` appended ones."""

    def __init__(self, pairs: BytePairs, count: int, rule: Rule, words: Sequence[str]) -> None:
        self.pairs, self._count = pairs, count
        self.engine = _engine(pairs.model, rule, words)
        self._whole = bytearray(pairs.size)  # 1: seen already, and a token of this tokenizer too
        self._cut: dict[int, tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = [encoding.ids for encoding in self.engine.encode_batch_fast(list(texts), add_special_tokens=False)]
        if self.pairs.count == self._count:
            return encoded
        whole = self._whole
        return [[piece for n in ids for piece in ((n,) if whole[n] else self._pieces(n))] for ids in encoded]

    def _pieces(self, number: int) -> tuple[int, ...]:
        pieces = self._cut.get(number) or self.pairs.cut(number, self._count)
        if pieces == (number,):
            self._whole[number] = 1
        else:
            self._cut[number] = pieces
        return pieces


def _words(ids: Sequence[int], word_ids: Sequence[int | None]) -> list[Word]:
    """A text's pieces by word."""
    words: dict[int | None, list[int]] = {}
    for number, word in zip(ids, word_ids, strict=True):
        words.setdefault(word, []).append(number)
    return [tuple(word) for word in words.values()]


def _reached(whole: ClipTokenizer, corpus: Sequence[str], learned: Sequence[Merge]) -> tuple[Merge, ...]:
    """The merges of `learned` that some token of `corpus` needs."""
    names = {number: token for token, number in whole.vocabulary.items()}
    return reached(learned, {names[number] for ids in whole.encode(corpus) for number in ids})


def english_words() -> list[str]:
    """The 2,000 words that CLIP's merges make first: English for language identification without captions."""
    words = (left + right for left, right in clip_merges())
    letters = (word.removesuffix(SUFFIX) for word in words if word.endswith(SUFFIX))
    return list(islice((word for word in letters if word.isascii() and word.isalpha()), 2_000))


def _engine(model: models.BPE, rule: Rule, words: Sequence[str]) -> Engine:
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(rule.apostrophe), "'"),
            normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
            normalizers.Lowercase(),
        ]
    )
    cuts: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Split(Regex(rule.word), behavior="removed", invert=True)]
    if words:
        cuts.append(pre_tokenizers.Split(Regex(pattern(words)), behavior="isolated"))
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    engine.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    return engine
