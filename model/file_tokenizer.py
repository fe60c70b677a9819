"""Tokenizers that a `tokenizer.json` describes, read by the library `tokenizers`. Languages add merges of their pieces.

What open_clip does to a text before is done here too, by its own functions: so a base reads what it was trained on.
"""

import copy
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

import regex
from open_clip.tokenizer import get_clean_fn
from tokenizers import Tokenizer as Engine

from model.growth import PieceMerges, Word, in_words, learn, reached
from model.merges import Merge
from model.reading import Reading, reading_of
from model.segmentation import pattern, standalone_words
from store.errors import CaptionsUnreadable, TokenizerUnfit

_UNREADABLE = 0.5  # share of captions with unknown letters above which a language is not taught
# open_clip's `SigLipTokenizer`, with which these were made, fills up with the end of a text; the file does not say so
_PADS = {"timm/ViT-B-16-SigLIP": "</s>", "timm/ViT-B-16-SigLIP-i18n-256": "</s>"}
_SPACE = "\u2581"  # with which a piece begins that begins a word
_MARKS, _BYTE = regex.compile(r"[\p{P}\p{S}--\u2581]+", regex.V1), regex.compile("<0x[0-9A-F]{2}>")
_LONGEST = 64  # pieces of a word that may be merged: the time for a word grows with their square
_REMEMBERED = 50_000  # words
_PAD_NAMES = ("<pad>", "[PAD]")


class FileTokenizer:
    """The tokenizer of a `tokenizer.json`, over a table of `size` rows; `clean` names what is done to a text first.

    What languages `added` are merges of its pieces, applied after it within words; those of one line share them. In
    scripts without spaces a word ends where one of `words` begins or ends.
    """

    words: tuple[str, ...] = ()
    begins: Literal["drawn", "pieces"] = "pieces"

    def __init__(self, content: bytes, clean: str, size: int) -> None:
        """Raises `TokenizerUnfit` when the file is damaged, or has more tokens than the table has rows."""
        self._clean = get_clean_fn(clean)
        self._file = hashlib.sha256(f"{clean} {size} ".encode() + content).hexdigest()
        try:
            self.engine = Engine.from_buffer(content)
            model: Mapping[str, Any] = json.loads(content)["model"]
        except ValueError as error:
            raise TokenizerUnfit("tokenizer.json cannot be read") from error
        self.pad: int | None = (self.engine.padding or {}).get("pad_id")
        self.engine.no_truncation()
        self.engine.no_padding()
        self.engine.encode_special_tokens = True  # no part of a text becomes one
        largest = max(self.engine.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= size:
            raise TokenizerUnfit(f"tokenizer.json has {largest + 1:,} tokens, but the base's table has {size:,} rows")
        self._unknown: int | None = model.get("unk_id", self.engine.token_to_id(model.get("unk_token") or ""))
        added = self.engine.get_added_tokens_decoder()
        self._specials = {number for number, token in added.items() if token.special} - {self._unknown}
        self._kinds = _Kinds(self.engine, model.get("continuing_subword_prefix"), {self._unknown, *added})
        self._rows, self._count = size, 0
        self._merges = PieceMerges(size, self._piece)
        self._known = dict[Word, Word]()

    @property
    def added(self) -> tuple[Merge, ...]:
        """As `Tokenizer.added`."""
        return tuple(self._merges.merges[: self._count])

    @property
    def size(self) -> int:
        """As `Tokenizer.size`."""
        return self._merges.sizes[self._count]

    @cached_property
    def sha256(self) -> str:
        """Of the file and what is done to a text first; of merges and words too, once there are some."""
        if not self._count:
            return self._file
        described = json.dumps([self._file, self.words, self.added], ensure_ascii=False)
        return hashlib.sha256(described.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Tokenizer.encode`. A model may still join letters to the name of a special token: that is left out."""
        if not self._count:
            return self._pieces(texts)
        return [[number for word in words for number in word] for words in self._read(texts)]

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """What the file alone makes of texts."""
        cleaned = [self._clean(text) for text in texts]
        read = [encoding.ids for encoding in self.engine.encode_batch_fast(cleaned, add_special_tokens=False)]
        return [
            ids if self._specials.isdisjoint(ids) else [number for number in ids if number not in self._specials]
            for ids in read
        ]

    def _read(self, texts: Sequence[str]) -> list[list[Word]]:
        """The words of texts, merged."""
        return [
            [self._joined(word) for word in in_words(ids, self._kinds, _LONGEST, self._cuts(ids))]
            for ids in self._pieces(texts)
        ]

    def _cuts(self, ids: Sequence[int]) -> Collection[int]:
        """The places among the pieces of a text where one of `words` begins or ends."""
        if self._pattern is None:
            return ()
        text, starts = self._spelled(ids)
        borders = {border for found in self._pattern.finditer(text) for border in found.span()}
        return {place for place, start in enumerate(starts) if start in borders}

    def _spelled(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text that pieces spell, and where in it each begins; -1 where that is within a letter."""
        starts, letters, said = list[int](), 0, bytearray()
        for number in ids:
            piece = self.decode(number)
            spelled = bytes([int(piece[3:5], 16)]) if _BYTE.fullmatch(piece) else piece.encode()
            starts.append(letters if spelled[:1] and not _continues(spelled[0]) else -1)
            letters += sum(not _continues(byte) for byte in spelled)
            said += spelled
        return said.decode(errors="replace"), starts

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return re.compile(pattern(self.words)) if self.words else None

    def _joined(self, word: Word) -> Word:
        pieces = self._known.get(word)
        if pieces is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            pieces = self._known[word] = self._merges.joined(word, self._count)
        return pieces

    def _piece(self, token: str) -> int | None:
        """The id of a piece of the file that a text may give."""
        number: int | None = self.engine.token_to_id(token)
        return None if number in self._specials or number == self._unknown else number

    def decode(self, number: int) -> str:
        """As `Tokenizer.decode`, as the file spells it."""
        return self.engine.id_to_token(number) or "" if number < self._rows else self._merges.names[number - self._rows]

    def parts(self, number: int) -> tuple[int, int]:
        """As `Tokenizer.parts`."""
        if not self._rows <= number < self.size:
            raise KeyError(number)
        return self._merges.origin[number - self._rows]

    def grown(self, corpus: Sequence[str], size: int) -> Self:
        """As `Tokenizer.grown`; raises `CaptionsUnreadable` if the file knows too little of the corpus's script."""
        share = sum(self._unknown in ids for ids in self.encode(corpus)) / len(corpus)
        if share > _UNREADABLE:
            raise CaptionsUnreadable(
                f"{share:.0%} of the captions have letters that the base's tokenizer does not know"
            )
        words = standalone_words(self._spelled(ids)[0].replace(_SPACE, " ") for ids in self._pieces(corpus))
        # with merges of its own: most of what is learned may be dropped
        start = self.fresh().extend(self.added, (*self.words, *words))
        whole = start.extend(learn(start._read(corpus), self.decode, size))
        used = {whole.decode(number) for ids in whole.encode(corpus) for number in ids}
        kept = reached(whole.added[self._count :], used)
        return self.extend(kept, words) if kept else self

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> Self:
        """As `Tokenizer.extend`."""
        known = {*self.added}
        more = [merge for merge in dict.fromkeys(merges) if merge not in known]
        line = self._merges.holding(self._count, more)
        return self._over(line, self._count + len(more), dict.fromkeys((*self.words, *words)))

    def fresh(self) -> Self:
        """The file's own, with which another line of versions begins."""
        return self._over(PieceMerges(self._rows, self._piece), 0, ())

    def _over(self, merges: PieceMerges, count: int, words: Iterable[str]) -> Self:
        """The first `count` of `merges`, and `words`, over the same file."""
        extended = copy.copy(self)
        extended._merges, extended._count, extended._known = merges, count, {}
        extended.words = tuple(words)
        for derived in ("sha256", "_pattern"):
            extended.__dict__.pop(derived, None)
        return extended

    @cached_property
    def ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the file puts before a text and behind it."""
        encoding = self.engine.encode("a")
        marks = encoding.special_tokens_mask
        if 0 not in marks:
            raise TokenizerUnfit("tokenizer.json makes no token of the letter a")
        first, behind = marks.index(0), len(marks) - marks[::-1].index(0)
        return tuple(encoding.ids[:first]), tuple(encoding.ids[behind:])

    def number(self, token: str) -> int:
        """The id of a token; raises `TokenizerUnfit` if there is none."""
        number = self.engine.token_to_id(token)
        if number is None:
            raise TokenizerUnfit(f"tokenizer.json has no token {token}")
        return int(number)


class _Kinds(dict[int, str]):
    """What a piece does, found when it is first met: it `starts` a word, `joins` one, or stands `alone`."""

    def __init__(self, engine: Engine, continuing: str | None, alone: Collection[int | None]) -> None:
        super().__init__()
        self._engine, self._continuing, self._alone = engine, continuing, alone

    def __missing__(self, number: int) -> str:
        piece = self._engine.id_to_token(number) or ""
        if number in self._alone or (_MARKS.fullmatch(piece) and not _BYTE.fullmatch(piece)):
            kind = "alone"
        elif self._continuing:
            kind = "joins" if piece.startswith(self._continuing) else "starts"
        else:
            kind = "starts" if piece.startswith(_SPACE) else "joins"
        self[number] = kind
        return kind


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 goes on with a letter."""
    return byte & 0xC0 == 0x80


def opened(
    name: str, text: Mapping[str, Any], content: bytes, beside: Mapping[str, Any]
) -> tuple[FileTokenizer, Reading]:
    """The tokenizer of the base `name`, and how its tower reads text.

    `text` is its `text_cfg` of open_clip, `content` the `tokenizer.json`, `beside` what `tokenizer_config.json` says,
    which open_clip reads too. Raises `TokenizerUnfit`.
    """
    given: Mapping[str, Any] = text.get("tokenizer_kwargs") or {}
    tokenizer = FileTokenizer(content, given.get("clean", "whitespace"), int(text["vocab_size"]))
    if beside.get("padding_side", "right") != "right":
        raise TokenizerUnfit(f"tokenizer_config.json fills up the texts of {name} in front, which is not read here")
    prefix, suffix = _ends(tokenizer, beside)
    if given.get("strip_sep_token"):  # open_clip puts 0 in its place
        separator = tokenizer.number(_token(beside, "sep_token") or "[SEP]")
        prefix, suffix = (tuple(0 if number == separator else number for number in ids) for ids in (prefix, suffix))
    return tokenizer, reading_of(name, text, prefix, suffix, _pad(text, tokenizer, beside))


def _ends(tokenizer: FileTokenizer, beside: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those of the file, except where the settings of a Gemma say otherwise: its class does not use the file's."""
    prefix, suffix = tokenizer.ends
    if str(beside.get("tokenizer_class", "")).startswith("Gemma"):
        if "add_bos_token" in beside:
            prefix = (tokenizer.number(_token(beside, "bos_token") or "<bos>"),) if beside["add_bos_token"] else ()
        if "add_eos_token" in beside:
            suffix = (tokenizer.number(_token(beside, "eos_token") or "<eos>"),) if beside["add_eos_token"] else ()
    return prefix, suffix


def _pad(text: Mapping[str, Any], tokenizer: FileTokenizer, beside: Mapping[str, Any]) -> int | None:
    """The id that fills up texts: as the settings say, the file, or else what the family is known to use."""
    if named := _token(beside, "pad_token"):
        return tokenizer.number(named)
    if tokenizer.pad is not None:
        return tokenizer.pad
    if known := _PADS.get(text["hf_tokenizer_name"]):
        return tokenizer.number(known)
    return next((n for name in _PAD_NAMES if (n := tokenizer.engine.token_to_id(name)) is not None), None)


def _token(beside: Mapping[str, Any], kind: str) -> str | None:
    """A special token of the settings, which name it or describe it."""
    token = beside.get(kind)
    return token.get("content") if isinstance(token, dict) else token
