"""Dictionaries as XML: TEI, as FreeDict writes it; CLDR's names of characters; WordNet LMF. Entities are refused."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, iterparse

from .lines import MAX_PIECE, Content, DictionaryError, Entries, WordEntry, check_count, open_content

_PIECES = frozenset({"entry", "annotation", "LexicalEntry", "Synset"})  # what a document has many of
_TRANSLATIONS = ("trans", "translation", "equivalent", "translationEquivalent", None)  # types of <cit>


def read_root(file: Path) -> str:
    """Return the name of a document's root; refuses one that defines entities, which only stand before it."""
    from defusedxml import DefusedXmlException  # late: help needs no XML
    from defusedxml.ElementTree import iterparse as parse_defused

    with open_content(file) as stream, _refuse_broken(file):
        try:
            _, root = next(parse_defused(_MeteredStream(stream), ("start",)))
        except DefusedXmlException as error:
            raise DictionaryError(f"{file.name} defines entities, which are not read.") from error
    return _name(root)


def read_tei(file: Path) -> Entries:
    for entry in _read_pieces(file, "entry"):
        forms = [part for form in entry if _name(form) == "form" for part in form.iter()]
        words = [_take_text(part) for part in forms if _name(part) == "orth"]
        pos = next((_take_text(part) for part in entry.iter() if _name(part) == "pos"), "")
        glosses = _list_texts(entry, ("quote", "tr")) or _list_texts(entry, ("def",))
        yield WordEntry(words[0] if words else "", glosses, pos.rstrip("."), tuple(words[1:]))


def _list_texts(entry: Element, names: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of an entry's elements of these names in their order, and not those of its examples."""
    texts, waiting = list[str](), [entry]
    while waiting:
        element = waiting.pop()
        if (name := _name(element)) in names:
            texts.append(_take_text(element))
        elif name != "cit" or element.get("type") in _TRANSLATIONS:
            waiting.extend(reversed(element))
    return tuple(filter(None, texts))


def read_names(file: Path) -> dict[str, str]:
    """Return the names that an XML document of CLDR gives to characters."""
    found = dict[str, str]()
    for element in _read_pieces(file, "annotation"):
        if element.get("type") == "tts":
            found[element.get("cp", "")] = _take_text(element)
    return found


def read_lmf(file: Path, english: Path) -> Entries:
    """Yield the words of a WordNet, each with the English words of its synsets by another WordNet, sense by sense."""
    concepts = _read_concepts(file)
    wanted, lemmas = set(concepts.values()), dict[str, list[str]]()
    known = {synset: concept for synset, concept in _read_concepts(english).items() if concept in wanted}
    for lemma, synsets, *_ in _read_lemmas(english):
        for synset in synsets:
            if synset in known:
                lemmas.setdefault(known[synset], []).append(lemma)
    for lemma, synsets, pos, forms in _read_lemmas(file):
        glosses = (gloss for synset in synsets for gloss in lemmas.get(concepts.get(synset, ""), ()))
        yield WordEntry(lemma, tuple(dict.fromkeys(glosses)), pos, forms)


def _read_concepts(file: Path) -> dict[str, str]:
    """Return the concept of each synset of a WordNet, by the index that all languages share (ILI)."""
    found = dict[str, str]()
    for synset in _read_pieces(file, "Synset"):
        if (concept := synset.get("ili", "")) not in ("", "in"):  # `in`: proposed, with no number yet
            found[synset.get("id", "")] = concept
    return found


def _read_lemmas(file: Path) -> Iterator[tuple[str, list[str], str, tuple[str, ...]]]:
    """Yield the written form of each lemma, its synsets, part of speech and other forms."""
    for entry in _read_pieces(file, "LexicalEntry"):
        found: dict[str, list[Mapping[str, str]]] = {"Lemma": [], "Form": [], "Sense": []}
        for part in entry:
            found.get(_name(part), []).append(part.attrib)
        forms = tuple(written for form in found["Form"] if (written := form.get("writtenForm")))
        for lemma in found["Lemma"][:1]:
            synsets = [sense.get("synset", "") for sense in found["Sense"]]
            yield lemma.get("writtenForm", ""), synsets, lemma.get("partOfSpeech", ""), forms


class _MeteredStream:
    """A stream that refuses to go on when too much was read since `count` was set to 0."""

    def __init__(self, stream: Content) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = MAX_PIECE) -> bytes:
        """Return the next bytes, at most so many."""
        data = self._stream.read(size)
        self.count += len(data)
        if self.count > MAX_PIECE:
            raise DictionaryError(f"An entry has more than {MAX_PIECE:,} bytes.")
        return data


def _read_pieces(file: Path, name: str) -> Iterator[Element]:
    """Yield each element of one name when it is complete; it is gone from memory when the next one is asked for.

    The parser in C is several times faster than the defused one, which reads only until the root.
    """
    read_root(file)
    above, count = list[Element](), 0
    with open_content(file) as stream, _refuse_broken(file):
        metered = _MeteredStream(stream)
        for event, element in iterparse(metered, ("start", "end")):
            if event == "start":
                above.append(element)
                continue
            above.pop()
            if (found := _name(element)) not in _PIECES:
                continue
            if found == name:
                count += 1
                check_count(count, file.name)
                yield element
            metered.count = 0
            if above:
                del above[-1][:]


@contextmanager
def _refuse_broken(file: Path) -> Iterator[None]:
    try:
        yield
    except (ParseError, LookupError, ValueError) as error:  # also an encoding that is unknown, or has several bytes
        raise DictionaryError(f"{file.name} is no whole XML document: {error}.") from error


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _take_text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())
