"""The scenes, and their captions in each language. A scene is one to three drawings on a ground."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from babel.lists import format_list

from benchmarks.emoji36.lexicon import Lexicon, Word, cldr_tag, plain
from demo.emojis import Emoji
from demo.gallery import Outline
from demo.scenes import combination, hashed, is_held_out, scene_emojis

_STYLES = ("twemoji", "openmoji")
_COUNTS, _WEIGHTS = (1, 2, 3), (25, 40, 35)  # objects of a training scene
KEYWORD_SHARE = 0.25  # share of scenes whose caption names one object by a keyword
_FAMILY, _NEAR = 3, 12  # scenes with the same two objects; how far its third objects stand apart
_COMMON = 6  # its rarest keywords, of which one is taken


@dataclass(frozen=True)
class Sizes:
    """Numbers of scenes for training and for the tests, which show three objects in combinations not trained on.

    `pairs` of those for training are used, drawn at random; 0: all.
    """

    train: int = 9_600
    pairs: int = 0
    test: int = 600
    singles: int = 300


def shared_emojis(lexicon: Lexicon, drawable: Collection[str] | None = None) -> tuple[Emoji, ...]:
    """Emoji of the demo that every language of the lexicon names and, if given, that `drawable` has without U+FE0F."""
    return tuple(
        each
        for each in scene_emojis()
        if all(plain(each.characters) in names for names in lexicon.values())
        and (drawable is None or plain(each.characters) in drawable)
    )


def training_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """Every emoji alone, then scenes of one to three; no combination that a test or the base's own evaluation has."""
    random = Random("emoji36 train")
    chosen = [(each,) for each in emojis][:count]
    while len(chosen) < count:
        objects = tuple(random.sample(emojis, random.choices(_COUNTS, _WEIGHTS)[0]))
        if len(objects) == 1 or not is_held_out(objects):
            chosen.append(objects)  # type: ignore[arg-type]
    return [Outline(f"emoji36-train-{n}", objects, _STYLES[n % 2]) for n, objects in enumerate(chosen)]


def test_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """Distinct scenes of three objects, in combinations not trained on: two objects stay, the third varies.

    The third is one of a few that stand near each other in the catalogue, often look-alikes, so that a scene is found
    only by all of its names; with random objects the base would find nearly every scene.
    """
    random, known, scenes = Random("emoji36 test"), set[str](), list[Outline]()
    while len(scenes) < count:
        centre = random.randrange(len(emojis))
        near = emojis[max(0, centre - _NEAR) : centre + _NEAR]
        pair = random.sample([each for each in emojis if each not in near], 2)
        family = [(*pair, third) for third in near if is_held_out((*pair, third))][:_FAMILY]
        for objects in family:
            if combination(objects) not in known and len(scenes) < count:
                known.add(combination(objects))
                scenes.append(Outline(f"emoji36-test-{len(scenes)}", objects, _STYLES[len(scenes) % 2]))
    return scenes


def single_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """Single drawings, evenly over all emoji."""
    chosen = emojis[:: max(1, len(emojis) // count)][:count]
    return [Outline(f"emoji36-single-{n}", (each,), _STYLES[n % 2]) for n, each in enumerate(chosen)]


def captions(scenes: Sequence[Outline], lexicon: Lexicon, language: str) -> list[str]:
    """One caption a scene: its names joined as the language joins a list, sometimes with a keyword for one."""
    return [_caption(scene, lexicon, language) for scene in scenes]


def by_keyword(scenes: Sequence[Outline], lexicon: Lexicon, language: str) -> Iterator[tuple[int, str]]:
    """Of single drawings, those with a keyword that no other emoji has in the language: place and keyword."""
    uses: dict[str, int] = {}
    for word in lexicon[language].values():
        for keyword in (word.name, *word.keywords):
            uses[keyword] = uses.get(keyword, 0) + 1
    for place, scene in enumerate(scenes):
        word = lexicon[language][plain(scene.objects[0].characters)]
        own = [keyword for keyword in word.keywords if uses[keyword] == 1]
        if own:
            yield place, own[0]


def _caption(scene: Outline, lexicon: Lexicon, language: str) -> str:
    words = [lexicon[language][plain(each.characters)] for each in scene.objects]
    called = hashed(f"{scene.id} called")
    if called % 1000 < 1000 * KEYWORD_SHARE:
        place = called // 1000 % len(words)
        words[place] = Word(_keyword(words[place], f"{scene.id} {language}"))
    return format_list([word.name for word in words], locale=cldr_tag(language))


def _keyword(word: Word, seed: str) -> str:
    some = word.keywords[:_COMMON]
    return some[hashed(seed) % len(some)] if some else word.name
