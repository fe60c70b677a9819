"""The words of one search: the pictures that have them, those that nobody knows, and what may be meant by these."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from index.fusion import LEAST_SHARE, MOST_WORDED
from index.selection import Criteria
from index.snapshot import SHARED, Route, Snapshot
from index.word_search import MOST, FoundWords
from model.languages import ENGLISH
from model.stems import has_stemmer
from service.auth import Principal
from service.context import Context
from store.errors import RegistryUnavailable

_MOST_SUGGESTED = 5  # unknown words, the first ones, that known ones are looked up for


@dataclass
class SearchWords:
    """What is known of the words of a `text`, read by `route` unless words alone are searched.

    `found` are the pictures, once they are; `is_away` where the registry did not answer. `unknown` are words as the
    text spells them, and `meant` the nearest known words of these; `guessed` are words for
    what the base does not know.
    """

    snapshot: Snapshot
    context: Context
    caller: Principal
    criteria: Criteria
    text: str | None
    route: Route | None
    found: FoundWords = field(default_factory=FoundWords)
    is_found: bool = False
    is_away: bool = False
    unknown: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    meant: dict[str, str] = field(default_factory=dict)

    async def find(self, language: str, without: str | None, *, alone: bool, optional: bool) -> None:
        """Find pictures by words, `alone` or beside their meaning.

        Raise `RegistryUnavailable` unless this is `optional`, since meaning will do.
        """
        lanes, absence, filtered = self.context.lanes, self.context.words_absence, not self.criteria.is_unrestricted
        optional = optional and not filtered
        self.is_away = optional and absence.lasts
        if self.text is None or self.is_away:
            return
        lane, find = lanes.filter if filtered else lanes.also if optional else lanes.words, self.context.words.find
        languages, release = self._list_languages(language, self.text), self.snapshot.release
        try:
            most, least = (MOST, 0.0) if alone else (MOST_WORDED, LEAST_SHARE)
            self.found = await lane.run(find, self.text, release, self.criteria, without, languages, most, least)
            self.is_found = True
        except RegistryUnavailable:
            if not optional:
                raise
            self.is_away = True
            absence.begin()

    def measure_shares(self, pictures: Sequence[str]) -> dict[str, float]:
        """Return for pictures with captions that have some of the words, the share that these have."""
        captions = self.snapshot.list_captions(pictures) if pictures else {}
        shares = {
            id: self.found.measure_share(chain.from_iterable(by_tag.values()))
            for id, by_tag in captions.items()
            if by_tag
        }
        return {id: share for id, share in shares.items() if share}

    async def check_spelling(self, *, suggest: bool) -> None:
        """Find the words that nobody knows and, to `suggest`, what may be meant by them.

        A bound key is suggested no word of captions, nor one that a language was taught: they may be of a collection
        that it does not see.
        """
        if self.route is None or self.text is None:
            return
        view, spelling, lanes = self.route.view, self.context.spelling, self.context.lanes
        missing = self.found.missing if self.is_found else None
        self.guessed = spelling.list_guessed(self.text, view)
        self.unknown = spelling.list_unknown(self.text, view, self.snapshot, missing)
        if not self.unknown or not suggest:
            return
        asked, is_bound = self.unknown[:_MOST_SUGGESTED], self.caller.collections is not None
        if self.is_found and not is_bound:
            with suppress(RegistryUnavailable):
                words = [word.lower() for word in asked]
                near = await lanes.also.run(self.context.words.suggest, words, self.snapshot.release)
                self.meant = {word: near[word.lower()] for word in asked if word.lower() in near}
        for word in asked if not (is_bound and view.lexicon.words) else ():
            if word not in self.meant and (known := await lanes.search.run(spelling.suggest, word, view)):
                self.meant[word] = known

    def _list_languages(self, language: str, text: str) -> list[str]:
        """List the languages whose forms of words are found: that of the text, and English."""
        used = (self.route or self.snapshot.route(language, text)).used
        if used == SHARED:
            return [tag for tag in self.snapshot.views if has_stemmer(tag)]
        return [*dict.fromkeys((used, ENGLISH))]
