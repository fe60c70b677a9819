"""Reads the nouns of WordNet 3.0: their senses, glosses, and the hypernyms above each."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from demo.photos.packages import Packages

PHYSICAL, PERSON = 1930, 7846  # numbers of the synsets "physical entity" and "person"
_UNSEEN = {4, 11, 14, 15, 17, 18, 19, 28}  # WordNet's acts, events, groups, places, nature, persons, phenomena, times
_NATURE = 17
_MOSTLY = 0.7
_ENDINGS = (("ies", "y"), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
            ("ves", "f"), ("s", ""))  # fmt: skip


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, the commonest first, its gloss, the numbers of the synsets above it and of its domain."""

    words: tuple[str, ...]
    gloss: str
    above: tuple[int, ...]
    domain: int


@dataclass(frozen=True)
class WordNet:
    """Synsets by number; `senses`: for a lemma in lower case, its synsets, the commonest first, with their counts."""

    synsets: Mapping[int, Synset]
    senses: Mapping[str, Sequence[tuple[int, int]]]
    irregular: Mapping[str, str]
    _ancestors: dict[int, frozenset[int]] = field(default_factory=dict, repr=False)

    @staticmethod
    def read(packages: Packages) -> "WordNet":
        """Read the files of the package."""
        counts = {
            (lemma, number): count
            for kind, lemma, number, count in _read_senses(packages.wordnet / "index.sense")
            if kind == "1"
        }
        senses = {
            lemma: [(number, counts.get((lemma, number), 0)) for number in numbers]
            for lemma, numbers in _index(packages.wordnet / "index.noun")
        }
        irregular = dict(line.split()[:2] for line in packages.exceptions.read_text("latin-1").splitlines())
        return WordNet(dict(_read_synsets(packages.wordnet / "data.noun")), senses, irregular)

    def measure_distances(self, number: int) -> dict[int, int]:
        """Return the synsets above one, itself included, with how many steps up each is."""
        found, edge = {number: 0}, [number]
        while edge:
            edge = [above for below in edge for above in self.synsets[below].above if above not in found]
            step = max(found.values()) + 1
            found |= dict.fromkeys(edge, step)
        return found

    def list_ancestors(self, number: int) -> frozenset[int]:
        """Return the synsets above one, itself included."""
        if number not in self._ancestors:
            self._ancestors[number] = frozenset(self.measure_distances(number))
        return self._ancestors[number]

    def find_lemma(self, words: str) -> str | None:
        """Return the entry for one or more words in lower case, singular or plural."""
        if words in self.senses:
            return words
        head, space, last = words.rpartition(" ")
        singulars = [self.irregular[last]] if last in self.irregular else []
        singulars += [
            last.removesuffix(plural) + single
            for plural, single in _ENDINGS
            if last.endswith(plural) and len(last) > len(plural) + 1
        ]
        return next((whole for each in singulars if (whole := head + space + each) in self.senses), None)

    def list_things(self) -> list[str]:
        """List the nouns, sorted, that mean a physical thing: first of all, or in half of their uses or more.

        Not those of two letters: `or` is not Oregon, nor `as` arsenic.
        """
        return sorted(lemma for lemma, senses in self.senses.items() if len(lemma) > 2 and self._is_thing(senses))

    def list_unseen(self, classes: Collection[int]) -> list[str]:
        """List the words, sorted, plurals with them, that are for people, places and events in most of their uses.

        Not those that name one of these `classes`, nor kinds of landscape that some of them are of.
        """
        known = frozenset(classes).union(*map(self.list_ancestors, classes))
        words = {
            lemma
            for lemma in self.senses
            if lemma.isalpha() and len(lemma) > 2 and self._is_unseen(lemma, classes, known)
        }
        return sorted({*words, *(self.plurals[word] for word in words if word in self.plurals)})

    def _is_unseen(self, lemma: str, classes: Collection[int], known: Collection[int]) -> bool:
        unseen = whole = 0.0
        for place, (number, count) in enumerate(self.senses[lemma]):
            domain = self.synsets[number].domain
            if number in classes:
                return False
            uses = count + 1 / (1 + place)
            is_unseen = domain in _UNSEEN and not (domain == _NATURE and number in known)
            whole, unseen = whole + uses, unseen + uses * is_unseen
        return unseen > _MOSTLY * whole

    def _is_thing(self, senses: Sequence[tuple[int, int]]) -> bool:
        things = [(PHYSICAL in self.list_ancestors(number), count) for number, count in senses]
        whole, uses = sum(count for _, count in things), sum(count for is_thing, count in things if is_thing)
        return things[0][0] or (whole > 0 and 2 * uses >= whole)

    @cached_property
    def plurals(self) -> Mapping[str, str]:
        """Irregular plurals by their singular."""
        return {single: plural for plural, single in self.irregular.items()}

    def make_plural(self, lemma: str) -> str:
        """Return the plural of a lemma, by its last word."""
        head, space, last = lemma.rpartition(" ")
        if last in self.plurals:
            return head + space + self.plurals[last]
        if last.endswith("y") and last[-2:-1] not in {*"aeiou"}:
            return f"{lemma[:-1]}ies"
        return lemma + ("es" if last.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _read_lines(path: Path) -> Iterator[str]:
    """Yield the lines without the licence, whose lines begin with spaces."""
    with path.open(encoding="latin-1") as file:
        yield from (line for line in file if not line.startswith("  "))


def _read_synsets(path: Path) -> Iterator[tuple[int, Synset]]:
    for line in _read_lines(path):
        data, _, gloss = line.partition(" | ")
        parts = data.split()
        behind = 4 + 2 * int(parts[3], 16)
        pointers = [parts[place : place + 4] for place in range(behind + 1, behind + 1 + 4 * int(parts[behind]), 4)]
        above = tuple(int(number) for kind, number, *_ in pointers if kind in ("@", "@i"))
        words = tuple(word.replace("_", " ") for word in parts[4:behind:2])
        yield int(parts[0]), Synset(words, gloss.strip(), above, int(parts[1]))


def _index(path: Path) -> Iterator[tuple[str, list[int]]]:
    for line in _read_lines(path):
        lemma, _, _, pointers, *rest = line.split()
        yield lemma.replace("_", " "), [int(number) for number in rest[int(pointers) + 2 :]]


def count_words(packages: Packages, kinds: str) -> Counter[str]:
    """Count words of these kinds in WordNet's numbers (2 verbs, 3 and 5 adjectives) in its own texts."""
    found = Counter[str]()
    for kind, lemma, _, count in _read_senses(packages.wordnet / "index.sense"):
        if kind in kinds:
            found[lemma] += count
    return found


def _read_senses(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yield kind, lemma and synset of every sense, and how often WordNet's own texts have it."""
    for line in path.read_text("latin-1").splitlines():
        key, number, _, count = line.split()
        lemma, _, rest = key.partition("%")
        yield rest[0], lemma.replace("_", " "), int(number), int(count)
