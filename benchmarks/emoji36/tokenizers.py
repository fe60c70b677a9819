"""Other ways to grow a tokenizer, for comparison with the product's own (docs/decisions/0007).

`BytesLast`: merges learned from bytes and ranked behind the older ones; `BytesFirst`: ranked before them; `MarksCut`:
words are cut at every combining mark, by CLIP's own rule; `RunsWhole`: a sentence without spaces is one word;
`Published`: as the paper's, with all its merges kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from tokenizers import models

from model.clip_tokenizer import CLIP_RULE, ClipTokenizer
from model.merges import SUFFIX, BytePairs, Merge, SharedBPE, clip_merges, clip_vocabulary, new_tokens, vocabulary


class _Bytes(BytePairs):
    """No merges at all: what it leaves of a text is its bytes."""

    def __init__(self, added: tuple[Merge, ...]) -> None:
        super().__init__(added)
        self.model = models.BPE(vocab=clip_vocabulary(), merges=[], end_of_word_suffix=SUFFIX)


class _Before(BytePairs):
    """The appended merges first, CLIP's behind them."""

    def __init__(self, added: tuple[Merge, ...]) -> None:
        super().__init__(added)
        merges = [*dict.fromkeys((*added, *clip_merges()))]
        self.model = models.BPE(vocab=vocabulary([*new_tokens(added)]), merges=merges, end_of_word_suffix=SUFFIX)


class _OtherShared(SharedBPE):
    """A line whose BPE is of another kind; for one thread."""

    kind: ClassVar[type[BytePairs]]

    def pairs(self, count: int) -> BytePairs:
        if self._pairs is None or self._pairs.count < count:
            self._pairs = self.kind(self._longest)
        return self._pairs


class _BytesShared(_OtherShared):
    kind = _Bytes


class _BeforeShared(_OtherShared):
    kind = _Before


class BytesLast(ClipTokenizer):
    """Learns from bytes; many a merge can then never be reached behind CLIP's."""

    def learned(self, corpus: Sequence[str], size: int) -> list[Merge]:
        return super(BytesLast, replace(self, added=(), bpe=_BytesShared())).learned(corpus, size)


@dataclass(frozen=True)
class BytesFirst(BytesLast):
    """Learns from bytes and ranks what it learned first: the language's own tokenizer, CLIP's where it has no merge."""

    bpe: SharedBPE = field(default_factory=_BeforeShared, repr=False, compare=False)

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> ClipTokenizer:
        added = tuple(dict.fromkeys((*self.added, *merges)))  # merges that CLIP has too change their rank
        return replace(self, added=added, words=tuple(dict.fromkeys((*self.words, *words))), rule=self.grows_by)


class MarksCut(ClipTokenizer):
    """The product's growth, within words and by apostrophes as CLIP cuts them."""

    grows_by = CLIP_RULE


class RunsWhole(ClipTokenizer):
    """No words of scripts without spaces: a run of letters is one word, however long."""

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> ClipTokenizer:
        return super().extend(merges)


class Published(MarksCut, BytesLast):
    """Bytes, older merges first, marks cut, no words of scripts without spaces, all merges kept."""

    def grown(self, corpus: Sequence[str], size: int) -> ClipTokenizer:
        return self.extend(self.learned(corpus, size))


class Oracle(Published):
    """The vocabulary of all languages from the start: what `all_at_once` made grows no further."""

    @classmethod
    def all_at_once(cls, captions: Sequence[str]) -> ClipTokenizer:
        """Grown on the captions of every language together, as the paper's oracle vocabulary of 200,000 tokens."""
        tokenizer = cls()
        return tokenizer.extend(tokenizer.learned(captions, 200_000))

    def grown(self, corpus: Sequence[str], size: int) -> ClipTokenizer:
        return self
