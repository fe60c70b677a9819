"""How a base reads text: its tokenizer, what stands around a text's tokens and fills it up, where it is read off.

The groups that are read here are listed in docs/bases.md; every other text tower of open_clip is refused by name.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import regex
from open_clip.tokenizer import get_clean_fn
from tokenizers import Tokenizer as Engine

from model.languages import ENGLISH, MANY, canonicalize
from model.text import build_pattern
from model.tokenizer import CLIP_TOKENS, LONGEST, SHORTEST_KNOWN, Reader, Word
from store.errors import BaseNotFound, BaseNotSupported, CaptionsUnreadable, LanguageTagInvalid, TokenizerUnfit

CLEANINGS = ("lower", "whitespace", "canonicalize")  # names that open_clip has for what it does to a text first
# Parts of the names of open_clip's models that were trained on texts of about 100 (the last: 300) languages. Which of
# them a model really reads, its card does not say: that is measured (`pictoglot assess`)
_MULTILINGUAL = ("SigLIP-i18n", "SigLIP2", "worldwide")
_TOKENIZER_ARGUMENTS = {"clean", "strip_sep_token"}  # of open_clip's `HFTokenizer`, that are read here
# open_clip's `SigLipTokenizer`, with which these were made, fills up with the end of a text; the file does not say so
_PADS = {"timm/ViT-B-16-SigLIP": "</s>", "timm/ViT-B-16-SigLIP-i18n-256": "</s>"}
_PAD_NAMES = ("<pad>", "[PAD]")
_UNREADABLE = 0.5  # share of captions with unknown letters above which a language is not taught
_SPACE = "\u2581"  # with which a piece begins that begins a word
_MARKS, _BYTE = regex.compile(r"[\p{P}\p{S}--\u2581]+", regex.V1), regex.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Reading:
    """How a text tower reads the tokens of a text.

    `prefix` and `suffix` are the ids before and behind a text's own, of which so many are read that all fit into
    `context` places. `vocabulary` is the number of rows of the base's table: larger ids belong to learned languages. In
    a `causal` tower what stands behind a place has no influence on it. `pad` is the id that fills a text up to the
    context where the tower reads it; None where nothing behind a text is read, so that a text need not be filled up.
    Features are read off `at` the "end" of the suffix, or at the "last" place of the context.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    context: int
    vocabulary: int
    causal: bool = True
    pad: int | None = None
    at: Literal["end", "last"] = "end"

    @cached_property
    def most_tokens(self) -> int:
        """Return how many tokens of a text are read."""
        return self.context - len(self.prefix) - len(self.suffix)

    @property
    def specials(self) -> tuple[int, ...]:
        """Return the ids that no text gives: prefix, suffix and a pad that is read. Nothing ever trains their rows."""
        return (*self.prefix, *self.suffix, *(() if self.pad is None else (self.pad,)))

    def describe(self) -> dict[str, object]:
        """Return all of it, for a fingerprint."""
        return asdict(self)


def require_supported(name: str, config: Mapping[str, Any]) -> None:
    """Raise `BaseNotSupported` with the reason unless the text tower of this configuration is read here."""
    text: Mapping[str, Any] = config["text_cfg"]
    foreign = text.get("hf_tokenizer_name")
    kwargs: Mapping[str, Any] = text.get("tokenizer_kwargs") or {}
    pool = text.get("pool_type", "argmax")
    if text.get("hf_model_name"):
        raise BaseNotSupported(
            f"the text tower of {name} is {text['hf_model_name']} of the package transformers, which is not read here"
        )
    if "multimodal_cfg" in config or text.get("embed_cls"):
        raise BaseNotSupported(f"{name} is a CoCa: it takes its features from a token of its own, not from the text's")
    if text.get("tokenizer_mode") or {*kwargs} - _TOKENIZER_ARGUMENTS or kwargs.get("clean", "lower") not in CLEANINGS:
        raise BaseNotSupported(f"{name} changes its tokenizer in a way that is not read here")
    if not foreign and (kwargs or text.get("vocab_size", CLIP_TOKENS) != CLIP_TOKENS):
        raise BaseNotSupported(f"{name} changes CLIP's BPE tokenizer")
    if pool not in ("argmax", "eos", "last") or (foreign and pool == "argmax"):
        raise BaseNotSupported(f"{name} takes its text features from neither the end of a text nor the last place")
    if text.get("use_pad_mask"):
        raise BaseNotSupported(f"{name} hides the pads of a text by a mask, which is not read here")


def make_reading(
    name: str, text: Mapping[str, Any], prefix: tuple[int, ...], suffix: tuple[int, ...], pad: int | None
) -> Reading:
    """Return how a tower with this `text_cfg` reads by a tokenizer with these ends and pad. Raises `TokenizerUnfit`."""
    context, rows = int(text.get("context_length", 77)), int(text.get("vocab_size", CLIP_TOKENS))
    pool, end = text.get("pool_type"), text.get("eos_id", 2)
    filled = bool(text.get("no_causal_mask")) or pool == "last"
    if pool == "eos" and suffix[-1:] != (end,):
        raise TokenizerUnfit(f"{name} reads a text off at token {end}, with which tokenizer.json ends no text")
    if filled and pad is None:
        raise TokenizerUnfit(
            f"nothing says with which token {name} fills up a text: put tokenizer_config.json beside tokenizer.json"
        )
    if max(*prefix, *suffix, pad or 0, 0) >= rows:
        raise TokenizerUnfit(f"special tokens of the tokenizer of {name} are not among its {rows:,} rows")
    if len(prefix) + len(suffix) >= context:
        raise TokenizerUnfit(f"the tokenizer of {name} leaves no place for a text in a context of {context}")
    at: Literal["end", "last"] = "last" if pool == "last" else "end"
    return Reading(prefix, suffix, context, rows, not text.get("no_causal_mask"), pad if filled else None, at)


def list_languages(name: str, declared: object) -> tuple[str, ...]:
    """List the canonical tags of the languages that a base reads untaught, English first; `MANY` if nobody has a list.

    `declared` is the list that its maker gives, None without one: then it is by the name that open_clip knows. Raises
    `BaseNotFound` for what is no list of tags.
    """
    if declared is None:
        return (ENGLISH, MANY) if any(part in name for part in _MULTILINGUAL) else (ENGLISH,)
    try:
        if not isinstance(declared, list) or not all(isinstance(tag, str) for tag in declared):
            raise TypeError
        tags = [tag if tag == MANY else canonicalize(tag) for tag in declared]
    except (TypeError, LanguageTagInvalid) as error:
        raise BaseNotFound(f"the languages that are declared for {name} are not a list of language tags") from error
    return tuple(dict.fromkeys([ENGLISH, *sorted(tags)]))


# --- tokenizers that a `tokenizer.json` describes, read by the library `tokenizers` -----------------------------------


class FilePieces:
    """The tokenizer of a `tokenizer.json`, over a table of `size` rows; `clean` names what is done to a text first."""

    new_row_kind: Literal["pieces"] = "pieces"

    def __init__(self, content: bytes, clean: str, size: int) -> None:
        """Read the file; raises `TokenizerUnfit` when it is damaged, or has more tokens than the table rows."""
        self._clean, self.size = get_clean_fn(clean), size
        self.sha256 = hashlib.sha256(f"{clean} {size} ".encode() + content).hexdigest()
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
        self.specials = {number for number, token in added.items() if token.special} - {self._unknown}
        self._kinds = _PieceKinds(self.engine, model.get("continuing_subword_prefix"), {self._unknown, *added})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids; leave out special tokens, to whose names a model may still join letters."""
        cleaned = [self._clean(text) for text in texts]
        encoded = [encoding.ids for encoding in self.engine.encode_batch_fast(cleaned, add_special_tokens=False)]
        return [
            ids if self.specials.isdisjoint(ids) else [number for number in ids if number not in self.specials]
            for ids in encoded
        ]

    def make_reader(self, words: Sequence[str]) -> Reader:
        borders = re.compile(build_pattern(words)) if words else None

        def read(texts: Sequence[str]) -> list[list[Word]]:
            return [self._group_words(ids, self._find_cuts(ids, borders)) for ids in self.encode(texts)]

        return read

    def prepare_corpus(self, corpus: Sequence[str]) -> Iterable[str]:
        encoded = self.encode(corpus)
        share = sum(self._unknown in ids for ids in encoded) / len(corpus)
        if share > _UNREADABLE:
            raise CaptionsUnreadable(
                f"{share:.0%} of the captions have letters that the base's tokenizer does not know"
            )
        return (self._spell(ids)[0].replace(_SPACE, " ") for ids in encoded)

    def get_piece(self, number: int) -> str:
        return self.engine.id_to_token(number) or ""

    def find_id(self, name: str) -> int | None:
        number: int | None = self.engine.token_to_id(name)
        return None if number in self.specials or number == self._unknown else number

    def has_word(self, word: str) -> bool:
        starts = (_SPACE, "\u0120")  # of a piece that begins a word: SentencePiece's, and that of byte-level BPE
        return len(word) >= SHORTEST_KNOWN and any(
            self.engine.token_to_id(start + word) is not None for start in starts
        )

    @cached_property
    def ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids that the file puts before a text and behind it."""
        encoding = self.engine.encode("a")
        marks = encoding.special_tokens_mask
        if 0 not in marks:
            raise TokenizerUnfit("tokenizer.json makes no token of the letter a")
        first, behind = marks.index(0), len(marks) - marks[::-1].index(0)
        return tuple(encoding.ids[:first]), tuple(encoding.ids[behind:])

    def require_id(self, token: str) -> int:
        """Return the id of a token; raises `TokenizerUnfit` if there is none."""
        number = self.engine.token_to_id(token)
        if number is None:
            raise TokenizerUnfit(f"tokenizer.json has no token {token}")
        return int(number)

    def _group_words(self, ids: Sequence[int], cuts: Collection[int]) -> list[Word]:
        """Split ids into words: one begins at a piece that `starts` it or is `alone`, behind such a one, and at `cuts`.

        What has more pieces than may be merged, such as a sentence without spaces, is cut there.
        """
        words, last = list[list[int]](), "alone"
        for place, number in enumerate(ids):
            kind = self._kinds[number]
            if kind != "joins" or last == "alone" or place in cuts or len(words[-1]) == LONGEST:
                words.append([])
            words[-1].append(number)
            last = kind
        return [tuple(word) for word in words]

    def _find_cuts(self, ids: Sequence[int], borders: re.Pattern[str] | None) -> Collection[int]:
        """Return the places among the pieces of a text where what `borders` finds begins or ends."""
        if borders is None:
            return ()
        text, starts = self._spell(ids)
        cuts = {border for match in borders.finditer(text) for border in match.span()}
        return {place for place, start in enumerate(starts) if start in cuts}

    def _spell(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """Return the text that pieces spell, and where in it each begins; -1 where that is within a letter."""
        starts, letters, spelling = list[int](), 0, bytearray()
        for number in ids:
            piece = self.get_piece(number)
            spelled = bytes([int(piece[3:5], 16)]) if _BYTE.fullmatch(piece) else piece.encode()
            starts.append(letters if spelled[:1] and not _is_continuation(spelled[0]) else -1)
            letters += sum(not _is_continuation(byte) for byte in spelled)
            spelling += spelled
        return spelling.decode(errors="replace"), starts


class _PieceKinds(dict[int, str]):
    """Kinds of pieces, found when one is first met: it `starts` a word, `joins` one, or stands `alone`."""

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


def _is_continuation(byte: int) -> bool:
    """Return whether a byte of UTF-8 goes on with a letter."""
    return byte & 0xC0 == 0x80


def open_tokenizer(
    name: str, text: Mapping[str, Any], content: bytes, settings: Mapping[str, Any]
) -> tuple[FilePieces, Reading]:
    """Return the pieces of the base `name`, and how its tower reads them; raises `TokenizerUnfit`.

    `text` is its `text_cfg`, `content` the `tokenizer.json`, `settings` what `tokenizer_config.json` says.
    """
    arguments: Mapping[str, Any] = text.get("tokenizer_kwargs") or {}
    pieces = FilePieces(content, arguments.get("clean", "whitespace"), int(text["vocab_size"]))
    if settings.get("padding_side", "right") != "right":
        raise TokenizerUnfit(f"tokenizer_config.json fills up the texts of {name} in front, which is not read here")
    prefix, suffix = _choose_ends(pieces, settings)
    if arguments.get("strip_sep_token"):  # open_clip puts 0 in its place
        separator = pieces.require_id(_name_token(settings, "sep_token") or "[SEP]")
        prefix, suffix = (tuple(0 if number == separator else number for number in ids) for ids in (prefix, suffix))
    return pieces, make_reading(name, text, prefix, suffix, _choose_pad(text, pieces, settings))


def _choose_ends(pieces: FilePieces, settings: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the file's prefix and suffix, unless a Gemma's settings say otherwise: its class ignores the file's."""
    prefix, suffix = pieces.ends
    if str(settings.get("tokenizer_class", "")).startswith("Gemma"):
        begin, end = _name_token(settings, "bos_token") or "<bos>", _name_token(settings, "eos_token") or "<eos>"
        if "add_bos_token" in settings:
            prefix = (pieces.require_id(begin),) if settings["add_bos_token"] else ()
        if "add_eos_token" in settings:
            suffix = (pieces.require_id(end),) if settings["add_eos_token"] else ()
    return prefix, suffix


def _choose_pad(text: Mapping[str, Any], pieces: FilePieces, settings: Mapping[str, Any]) -> int | None:
    """Return the id that fills up texts: as the settings say, the file, or else what the family is known to use."""
    if named := _name_token(settings, "pad_token"):
        return pieces.require_id(named)
    if pieces.pad is not None:
        return pieces.pad
    if known := _PADS.get(text["hf_tokenizer_name"]):
        return pieces.require_id(known)
    return next((n for name in _PAD_NAMES if (n := pieces.engine.token_to_id(name)) is not None), None)


def _name_token(settings: Mapping[str, Any], kind: str) -> str | None:
    """Return a special token of the settings, which name it or describe it."""
    token = settings.get(kind)
    return token.get("content") if isinstance(token, dict) else token
