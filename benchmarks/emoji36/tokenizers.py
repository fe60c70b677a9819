"""Other ways to grow a tokenizer, for comparison with the product's own (docs/decisions/0007).

`BytesLast`: merges learned from bytes and ranked behind the older ones; `BytesFirst`: ranked before them; `MarksCut`:
words are cut at every combining mark, by CLIP's own rule; `RunsWhole`: a sentence without spaces is one word;
`Published`: as the paper's, with all its merges kept.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Self

from tokenizers import Tokenizer as Engine
from tokenizers import models

from model.tokenizer import (
    CLIP_RULE,
    CLIP_TOKENS,
    LANGUAGE_RULE,
    SUFFIX,
    ClipPieces,
    CuttingRule,
    Merge,
    Tokenizer,
    build_clip_engine,
    build_clip_vocabulary,
    learn_merges,
    read_clip_merges,
)


class BytesLast(Tokenizer):
    """Learns from bytes; many a merge can then never be reached behind CLIP's."""

    rule: CuttingRule = LANGUAGE_RULE

    def learn_merges(self, corpus: Sequence[str], size: int, least: int = 2) -> list[Merge]:
        pieces = ClipPieces(self.rule, models.BPE(vocab=build_clip_vocabulary(), merges=[], end_of_word_suffix=SUFFIX))
        return learn_merges(pieces.make_reader(self.words)(corpus), pieces.get_piece, size)


class BytesFirst(BytesLast):
    """Learns from bytes and ranks what it learned first: the language's own tokenizer, CLIP's where it has no merge."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._first.encode_batch([*texts], add_special_tokens=False)]

    def _copy_with(self, *line: object) -> Self:
        extended = super()._copy_with(*line)  # type: ignore[arg-type]
        extended.__dict__.pop("_first", None)
        return extended

    @cached_property
    def _first(self) -> Engine:
        """The appended merges first, CLIP's behind them; those that CLIP has too change their rank."""
        merges = [*dict.fromkeys((*self.merges, *read_clip_merges()))]
        new = {self.decode(number): number for number in range(CLIP_TOKENS, self.size)}
        model = models.BPE(vocab={**build_clip_vocabulary(), **new}, merges=merges, end_of_word_suffix=SUFFIX)
        return build_clip_engine(model, LANGUAGE_RULE if self.merges else CLIP_RULE, self.words)


class MarksCut(Tokenizer):
    """The product's growth, within words and by apostrophes as CLIP cuts them."""

    def __init__(self) -> None:
        super().__init__(ClipPieces(CLIP_RULE))


class RunsWhole(Tokenizer):
    """No words of scripts without spaces: a run of letters is one word, however long."""

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> Self:
        return super().extend(merges)


class Published(MarksCut, BytesLast):
    """Bytes, older merges first, marks cut, no words of scripts without spaces, all merges kept."""

    rule = CLIP_RULE

    def grow(self, corpus: Sequence[str], size: int, names: Sequence[str] = ()) -> Self:
        return self.extend(self.learn_merges(corpus, size))


class Oracle(Published):
    """The vocabulary of all languages from the start: what `all_at_once` made grows no further."""

    @classmethod
    def all_at_once(cls, captions: Sequence[str]) -> Self:
        """Grow on the captions of every language together, as the paper's oracle vocabulary of 200,000 tokens."""
        tokenizer = cls()
        return tokenizer.extend(tokenizer.learn_merges(captions, 200_000))

    def grow(self, corpus: Sequence[str], size: int, names: Sequence[str] = ()) -> Self:
        return self
