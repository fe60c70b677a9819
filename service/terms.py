"""Terms of languages, in memory for searches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.schemas.terms import LanguageTerms, Terms, TermsInBrief
from store.errors import RegistryUnavailable
from store.registry import Registry
from store.terms import StoredTerms


@dataclass
class TermsCopy:
    """The terms of all languages as they were read last, by this process or by `refresh`. Thread-safe."""

    registry: Registry
    _current: Mapping[str, StoredTerms] | None = field(default=None, init=False)

    def refresh(self) -> None:
        """Read them anew. Raises RegistryUnavailable."""
        self._current = self.registry.terms.list_current()

    def get(self, language: str) -> TermsInBrief | None:
        """Return the terms of a language; None if it has none, or if the registry was never read."""
        if self._current is None:
            try:
                self.refresh()
            except RegistryUnavailable:
                return None
        found = describe_terms((self._current or {}).get(language))
        return None if found is None else TermsInBrief.model_validate(found)


def describe_terms(stored: StoredTerms | None) -> LanguageTerms | None:
    """Describe stored terms; None without any."""
    if stored is None or not stored.terms:
        return None
    return LanguageTerms(**Terms.model_validate(stored.terms).model_dump(), set_at=stored.set_at)


def pack_terms(terms: Terms) -> dict[str, object]:
    """Return terms as they are stored: without what is empty."""
    return terms.model_dump(exclude_defaults=True)
