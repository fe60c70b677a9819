"""The words of one search: the pictures that have them, those that nobody knows, and what may be meant by these."""

from contextlib import suppress
from dataclasses import dataclass, field

from index.selection import Criteria
from index.snapshot import SHARED, Route, Snapshot
from index.word_search import FoundWords
from model.languages import ENGLISH
from model.stems import has_stemmer
from service.auth import Principal
from service.context import Context
from store.errors import RegistryUnavailable


@dataclass
class SearchWords:
    """What is known of the words of a `text`, read by `route` unless words alone are searched.

    `found` are the pictures, once they are; `is_away` where the registry did not answer. `unknown` are words as the
    text spells them, and `meant` the nearest known words of these.
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
    meant: dict[str, str] = field(default_factory=dict)

    async def find(self, language: str, without: str | None, *, optional: bool) -> None:
        """Find pictures by words; raise `RegistryUnavailable` unless this is `optional`, since meaning will do."""
        lanes, absence, filtered = self.context.lanes, self.context.words_absence, not self.criteria.is_unrestricted
        optional = optional and not filtered
        self.is_away = optional and absence.lasts
        if self.text is None or self.is_away:
            return
        lane, find = lanes.filter if filtered else lanes.also if optional else lanes.words, self.context.words.find
        languages, release = self._list_languages(language, self.text), self.snapshot.release
        try:
            self.found = await lane.run(find, self.text, release, self.criteria, without, languages)
            self.is_found = True
        except RegistryUnavailable:
            if not optional:
                raise
            self.is_away = True
            absence.begin()

    async def check_spelling(self, *, suggest: bool) -> None:
        """Find the words that nobody knows and, to `suggest`, what may be meant by them.

        A bound key is suggested no word of captions: another collection may have it.
        """
        if self.route is None or self.text is None:
            return
        view, spelling, lanes = self.route.view, self.context.spelling, self.context.lanes
        missing = self.found.missing if self.is_found else None
        self.unknown = spelling.list_unknown(self.text, view, self.snapshot, missing)
        if not self.unknown or not suggest:
            return
        if self.is_found and self.caller.collections is None:
            with suppress(RegistryUnavailable):
                words = [word.lower() for word in self.unknown]
                near = await lanes.also.run(self.context.words.suggest, words, self.snapshot.release)
                self.meant = {word: near[word.lower()] for word in self.unknown if word.lower() in near}
        for word in self.unknown:
            if word not in self.meant and (known := await lanes.search.run(spelling.suggest, word, view)):
                self.meant[word] = known

    def _list_languages(self, language: str, text: str) -> list[str]:
        """List the languages whose forms of words are found: that of the text, and English."""
        used = (self.route or self.snapshot.route(language, text)).used
        if used == SHARED:
            return [tag for tag in self.snapshot.views if has_stemmer(tag)]
        return [*dict.fromkeys((used, ENGLISH))]
