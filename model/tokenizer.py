"""What every tokenizer does: CLIP's, which grows with each language, and those that a `tokenizer.json` describes."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, Self

from model.merges import Merge


class Tokenizer(Protocol):
    """An immutable tokenizer. What a language adds to it are `added` merges, and `words` that are cut out first."""

    @property
    def added(self) -> tuple[Merge, ...]:
        """All merges that languages added, in rank order; older ones keep their rank."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """All words that languages added."""
        ...

    @property
    def begins(self) -> Literal["drawn", "pieces"]:
        """How the row of an added token begins: as TEIR draws it, or as the mean of the rows that it was read by."""
        ...

    @property
    def size(self) -> int:
        """One more than the largest id; at least the rows of the base's table."""
        ...

    @property
    def sha256(self) -> str:
        """Equal only if all texts are tokenised identically."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of cleaned texts, without the base's prefix and suffix; no part of a text becomes a special one."""
        ...

    def decode(self, number: int) -> str:
        """The token with this id, as a piece of text."""
        ...

    def parts(self, number: int) -> tuple[int, int]:
        """The two ids that an added token was merged from."""
        ...

    def grown(self, corpus: Sequence[str], size: int) -> Self:
        """This one extended by at most `size` merges for a corpus; deterministic, and older ids stay as they are.

        Raises `CaptionsUnreadable` if it can neither read the corpus nor grow.
        """
        ...

    def extend(self, merges: Iterable[Merge], words: Iterable[str] = ()) -> Self:
        """This one with what `grown` added to it: with the same additions, the same tokenizer."""
        ...
