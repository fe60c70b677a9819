"""Tokenizers: the pieces that a base makes of texts, such as CLIP's, and merges of these that languages add.

Ids of older tokens never change and older merges keep their rank. Merges apply in the order of their rank, within
words. So a line of tokenizers, each with the merges of the one before it and some more, has them in memory once.
"""

import copy
import gzip
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import islice, pairwise
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple, Protocol, Self

from open_clip.tokenizer import bytes_to_unicode, default_bpe
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from model.text import APOSTROPHES, build_pattern, find_standalone_words

_PRIVATE = 0xF0000  # first of 131,000 private-use characters
_NEVER = (math.inf, -1)
Merge = tuple[str, str]
Word = tuple[int, ...]  # the pieces of a word
SUFFIX = "</w>"  # marks a token of CLIP's that ends a word
CLIP_TOKENS = 49_408  # of CLIP itself; the last two are begin and end of text
BEGIN, END = CLIP_TOKENS - 2, CLIP_TOKENS - 1
LONGEST = 64  # pieces of a word that may be merged: the time for a word grows with their square
SHORTEST_KNOWN = 4  # letters of a word that a base is taken to know because it has a piece of its own
_REMEMBERED = 50_000  # words
_WHOLE = 100_000  # most merges that make whole words of names
Reader = Callable[[Sequence[str]], list[list[Word]]]  # from texts to their words in pieces


def learn_merges(
    texts: Sequence[Sequence[Word]], names: Callable[[int], str], size: int, least: int = 2
) -> list[Merge]:
    """Learn at most `size` merges of texts whose words are in pieces, in rank order; deterministic.

    `names` gives the piece of an id. Only pairs that occur `least` times are merged.
    """
    used = sorted({number for words in texts for word in words for number in word})
    symbol = {number: chr(_PRIVATE + place) for place, number in enumerate(used)}  # one character a piece
    lines = (" ".join("".join(map(symbol.__getitem__, word)) for word in words) for words in texts)
    learner = Engine(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=len(used) + size, min_frequency=least, show_progress=False)
    learner.train_from_iterator(lines, trainer)
    piece = {symbol[number]: names(number) for number in used}
    return [
        ("".join(piece[c] for c in left), "".join(piece[c] for c in right))
        for left, right in json.loads(learner.to_str())["model"]["merges"]
    ]


def find_needed_merges(merges: Sequence[Merge], tokens: Iterable[str]) -> tuple[Merge, ...]:
    """Return those of `merges` that some token of `tokens` needs."""
    needed, chosen = set(tokens), list[Merge]()
    for left, right in reversed(merges):  # a token's parts were merged before it
        if left + right in needed:
            needed.update((left, right))
            chosen.append((left, right))
    return tuple(reversed(chosen))


class PieceMerges:
    """The merges of the longest tokenizer of a line of versions, in rank order; it only ever grows. Thread-safe.

    A shorter tokenizer of the line reads with the first `count` of them. New tokens have ids from `first` on. One whose
    string is a piece of the base, which `id_of` finds, is that piece.
    """

    def __init__(self, first: int, id_of: Callable[[str], int | None]) -> None:
        self.merges: list[Merge] = []
        self.names: list[str] = []
        self.origin: list[tuple[int, int]] = []  # of each new token, the two that its first merge joins
        self.sizes = [first]  # one more than the largest id, after so many merges
        self._first, self._id_of, self._new = first, id_of, dict[str, int]()
        self._ranks: dict[tuple[int, int], tuple[float, int]] = {}
        self._lock = Lock()

    def extend(self, count: int, more: Sequence[Merge]) -> "PieceMerges":
        """Return this line with `more` after its first `count` merges; a new one where others are there already."""
        with self._lock:
            there = self.merges[count : count + len(more)]
            if there != [*more[: len(there)]]:
                branch = PieceMerges(self._first, self._id_of)
                branch._append([*self.merges[:count], *more])
                return branch
            self._append(more[len(there) :])
            return self

    def find_id(self, token: str) -> int:
        """Return the id of a token; raises `KeyError` when nothing makes it."""
        number = self._new.get(token)
        if number is None and (number := self._id_of(token)) is None:
            raise KeyError(token)
        return number

    def merge_word(self, word: Word, count: int) -> Word:
        """Return the pieces of a word after the first `count` merges: of the lowest rank first, from the left."""
        ranks, pieces = self._ranks, list(word)
        while len(pieces) > 1:
            rank, place = min((ranks.get(pair, _NEVER)[0], at) for at, pair in enumerate(pairwise(pieces)))
            if rank >= count:
                break
            pieces[place : place + 2] = [ranks[pieces[place], pieces[place + 1]][1]]
        return tuple(pieces)

    def _append(self, merges: Iterable[Merge]) -> None:
        for left, right in merges:
            parts, token = (self.find_id(left), self.find_id(right)), left + right
            number = self._new.get(token)
            if number is None and (number := self._id_of(token)) is None:
                number = self._new[token] = self._first + len(self.names)
                self.names.append(token)
                self.origin.append(parts)
            self._ranks.setdefault(parts, (len(self.merges), number))
            self.merges.append((left, right))
            self.sizes.append(self._first + len(self.names))


class Pieces(Protocol):
    """The pieces that a base makes of texts, with ids below `size`. Immutable; `sha256` names them."""

    size: int
    sha256: str

    @property
    def new_row_kind(self) -> Literal["drawn", "pieces"]:
        """Return how the row of an added token begins: as TEIR draws it, or as the mean of the rows of its parts."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of cleaned texts, as the base reads them; no part of a text becomes a special token."""

    def make_reader(self, words: Sequence[str]) -> Reader:
        """Return a reader of learned languages; in scripts without spaces words begin and end with one of `words`."""

    def prepare_corpus(self, corpus: Sequence[str]) -> Iterable[str]:
        """Return the corpus as words may be found in it; raises `CaptionsUnreadable` if most is unreadable."""

    def get_piece(self, number: int) -> str:
        """Return the piece with this id."""

    def find_id(self, name: str) -> int | None:
        """Return the id of a piece that a text may give."""

    def has_word(self, word: str) -> bool:
        """Return whether a word of four letters or more, in lower case, is one piece: then the base knows it."""


class Tokenizer:
    """An immutable tokenizer: `pieces`, the merges of these that languages added, and `words` that are cut out first.

    Tokenizers of one line of versions share their merges.
    """

    def __init__(self, pieces: Pieces | None = None) -> None:
        """Take CLIP's pieces by default."""
        self.pieces = pieces or ClipPieces()
        self.new_row_kind = self.pieces.new_row_kind
        self.words: tuple[str, ...] = ()
        self._merges, self._count = PieceMerges(self.pieces.size, self.pieces.find_id), 0
        self._merged_words = dict[Word, Word]()

    @property
    def merges(self) -> tuple[Merge, ...]:
        """Return all merges that languages added, in rank order; older ones keep their rank."""
        return tuple(self._merges.merges[: self._count])

    @property
    def size(self) -> int:
        """Return one more than the largest id; at least the rows of the base's table."""
        return self._merges.sizes[self._count]

    @cached_property
    def sha256(self) -> str:
        """Return a hash that is equal only if all texts are tokenised identically."""
        if not (self._count or self.words):
            return self.pieces.sha256
        described = json.dumps([self.pieces.sha256, self.words, self.merges], ensure_ascii=False)
        return hashlib.sha256(described.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of cleaned texts, without the base's prefix and suffix."""
        if not (self._count or self.words):
            return self.pieces.encode(texts)
        return [[number for word in words for number in self._merge_word(word)] for words in self._reader(texts)]

    def decode(self, number: int) -> str:
        """Return the token with this id, as the base spells it."""
        first = self.pieces.size
        return self.pieces.get_piece(number) if number < first else self._merges.names[number - first]

    def find_id(self, token: str) -> int:
        """Return the id of a token by its name; raises `KeyError` when this one makes none."""
        if (number := self._merges.find_id(token)) >= self.size:
            raise KeyError(token)
        return number

    def get_parts(self, number: int) -> tuple[int, int]:
        """Return the two ids that an added token was merged from."""
        if not self.pieces.size <= number < self.size:
            raise KeyError(number)
        return self._merges.origin[number - self.pieces.size]

    def grow(self, corpus: Sequence[str], size: int, names: Sequence[str] = ()) -> Self:
        """Return this one extended by at most `size` merges for a corpus; deterministic, and older ids stay.

        Merges are learned from the pieces that this one leaves: older ones are always applied first, so many that were
        learned from bytes could never be reached. Further ones make one token of each of `names`, which are texts of
        the corpus of one word. Only those on the way to a token that occurs are kept. Raises `CaptionsUnreadable`.
        """
        if not size:
            return self
        words = find_standalone_words(self.pieces.prepare_corpus(corpus))
        # with merges of its own: most of what is learned may be dropped
        start = self.copy_without_merges().extend(self.merges, (*self.words, *words))
        common = start.extend(start.learn_merges(corpus, size))
        whole = common.extend(common.learn_merges(names, _WHOLE, least=1))
        tokens = {whole.decode(number) for ids in whole.encode(corpus) for number in ids}
        needed = find_needed_merges(whole.merges[self._count :], tokens)
        return self.extend(needed, words) if needed else self

    def learn_merges(self, corpus: Sequence[str], size: int, least: int = 2) -> list[Merge]:
        """Learn the merges of a BPE learner over the pieces that this one makes of `corpus`, in rank order."""
        pieces = [[self._merge_word(word) for word in words] for words in self._reader(corpus)]
        return learn_merges(pieces, self.decode, size, least)

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> Self:
        """Return this one with what `grow` added to it; raises `KeyError` for merges of what it has not."""
        known = {*self.merges}
        more = [merge for merge in dict.fromkeys(merges) if merge not in known]
        line = self._merges.extend(self._count, more)
        return self._copy_with(line, self._count + len(more), dict.fromkeys((*self.words, *words)))

    def copy_without_merges(self) -> Self:
        """Return the base's own, with which another line of versions begins."""
        return self._copy_with(PieceMerges(self.pieces.size, self.pieces.find_id), 0, ())

    def _copy_with(self, merges: PieceMerges, count: int, words: Iterable[str]) -> Self:
        """Return the first `count` of `merges`, and `words`, over the same pieces."""
        extended = copy.copy(self)
        extended._merges, extended._count, extended._merged_words = merges, count, {}
        extended.words = tuple(words)
        for derived in ("sha256", "_reader"):
            extended.__dict__.pop(derived, None)
        return extended

    @cached_property
    def _reader(self) -> Reader:
        return self.pieces.make_reader(self.words)

    def _merge_word(self, word: Word) -> Word:
        pieces = self._merged_words.get(word)
        if pieces is None:
            if len(self._merged_words) >= _REMEMBERED:
                self._merged_words = {}
            pieces = self._merged_words[word] = self._merges.merge_word(word, self._count)
        return pieces


# --- CLIP's own byte-level BPE ----------------------------------------------------------------------------------------


class CuttingRule(NamedTuple):
    """How texts are cut: regular expressions of a word, and of a character that is read as an apostrophe."""

    word: str
    apostrophe: str


_CLITICS = r"'s|'t|'re|'ve|'m|'ll|'d"
# CLIP's own rule cuts a word at every combining mark: \p{M} is not \p{L}. ’s is the clitic 's, as by its cleaning
CLIP_RULE = CuttingRule(rf"{_CLITICS}|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", "[\u2018-\u201b]")
# That of languages keeps marks, and joiners between letters, inside the word, and cuts text without them as CLIP does
_WORD = r"\p{L}[\p{L}\p{M}]*"
LANGUAGE_RULE = CuttingRule(
    rf"{_CLITICS}|{_WORD}(?:[\u200c\u200d]+{_WORD})*|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    f"[{APOSTROPHES}]",
)


@cache
def read_clip_merges() -> tuple[Merge, ...]:
    """Read CLIP's 48,894 merges in rank order, from the file that open_clip ships."""
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    return tuple((left, right) for left, right in (line.split() for line in lines))


@cache
def build_clip_vocabulary() -> dict[str, int]:
    """Return CLIP's tokens and ids without the two specials, which no text may produce."""
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(symbol + SUFFIX for symbol in symbols), *(a + b for a, b in read_clip_merges())]
    return {token: number for number, token in enumerate(tokens)}


@cache
def _build_clip_model() -> models.BPE:
    return models.BPE(vocab=build_clip_vocabulary(), merges=[*read_clip_merges()], end_of_word_suffix=SUFFIX)


@cache
def _find_word_ends() -> frozenset[int]:
    """Return the ids of CLIP's pieces that end a word."""
    return frozenset(number for name, number in build_clip_vocabulary().items() if name.endswith(SUFFIX))


def list_english_words() -> list[str]:
    """List the 2,000 words that CLIP's merges make first: English for language identification without captions."""
    return list(islice(list_whole_words(), 2_000))


def list_whole_words() -> Iterator[str]:
    """Yield the words of ASCII letters that are one token to CLIP, those that its merges make first."""
    words = (left + right for left, right in read_clip_merges())
    letters = (word.removesuffix(SUFFIX) for word in words if word.endswith(SUFFIX))
    return (word for word in letters if word.isascii() and word.isalpha())


class ClipPieces:
    """CLIP's BPE. Texts of the base are cut by CLIP's rule, those of learned languages by `rule` (decision 7)."""

    new_row_kind: Literal["drawn"] = "drawn"
    size = CLIP_TOKENS

    def __init__(self, rule: CuttingRule = LANGUAGE_RULE, model: models.BPE | None = None) -> None:
        self._rule, self._model = rule, model or _build_clip_model()
        self._engine = build_clip_engine(self._model, CLIP_RULE, ())
        self.sha256 = hashlib.sha256(json.dumps(["clip", CLIP_RULE, rule]).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._engine.encode_batch_fast([*texts], add_special_tokens=False)]

    def make_reader(self, words: Sequence[str]) -> Reader:
        engine, ends = build_clip_engine(self._model, self._rule, words), _find_word_ends()

        def read(texts: Sequence[str]) -> list[list[Word]]:
            encoded = engine.encode_batch_fast([*texts], add_special_tokens=False)
            return [_split_words(ends, encoding.ids) for encoding in encoded]

        return read

    def prepare_corpus(self, corpus: Sequence[str]) -> Sequence[str]:
        return corpus

    def get_piece(self, number: int) -> str:
        return self._engine.id_to_token(number) or ""

    def find_id(self, name: str) -> int | None:
        return build_clip_vocabulary().get(name)

    def has_word(self, word: str) -> bool:
        return len(word) >= SHORTEST_KNOWN and word + SUFFIX in build_clip_vocabulary()


def build_clip_engine(model: models.BPE, rule: CuttingRule, words: Sequence[str]) -> Engine:
    """Return what cleans and cuts texts as CLIP does, by a rule and at `words`, and applies a BPE."""
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
        cuts.append(pre_tokenizers.Split(Regex(build_pattern(words)), behavior="isolated"))
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    engine.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    return engine


def _split_words(ends: Collection[int], ids: Sequence[int]) -> list[Word]:
    """Split ids into words of which each ends with one of `ends`, or after the longest that may be merged."""
    words, start = list[Word](), 0
    for place, number in enumerate(ids, 1):
        if number in ends or place - start == LONGEST:
            words.append(tuple(ids[start:place]))
            start = place
    return [*words, tuple(ids[start:])] if start < len(ids) else words
