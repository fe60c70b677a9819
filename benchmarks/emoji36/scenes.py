"""The scenes, and their captions in each language. A scene is one to three drawings on a ground."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from babel.lists import format_list

from benchmarks.emoji36.lexicon import Lexicon, Word, convert_tag, strip_selector
from demo.emojis import Emoji
from demo.gallery import Outline
from demo.scenes import hash_text, is_held_out, list_scene_emojis, sort_names

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


def list_shared_emojis(lexicon: Lexicon, drawable: Collection[str] | None = None) -> tuple[Emoji, ...]:
    """List emoji of the demo that every language of the lexicon names and, if given, `drawable` has without U+FE0F."""
    return tuple(
        each
        for each in list_scene_emojis()
        if all(strip_selector(each.characters) in names for names in lexicon.values())
        and (drawable is None or strip_selector(each.characters) in drawable)
    )


def list_training_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """List every emoji alone, then scenes of one to three; no combination that a test or the base's evaluation has."""
    random = Random("emoji36 train")
    chosen = [(each,) for each in emojis][:count]
    while len(chosen) < count:
        objects = tuple(random.sample(emojis, random.choices(_COUNTS, _WEIGHTS)[0]))
        if len(objects) == 1 or not is_held_out(objects):
            chosen.append(objects)  # type: ignore[arg-type]
    return [Outline(f"emoji36-train-{n}", objects, _STYLES[n % 2]) for n, objects in enumerate(chosen)]


def test_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """Return distinct scenes of three objects that were not trained on: two objects stay, the third varies.

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
            if sort_names(objects) not in known and len(scenes) < count:
                known.add(sort_names(objects))
                scenes.append(Outline(f"emoji36-test-{len(scenes)}", objects, _STYLES[len(scenes) % 2]))
    return scenes


def list_single_scenes(emojis: Sequence[Emoji], count: int) -> list[Outline]:
    """Return single drawings, evenly over all emoji."""
    chosen = emojis[:: max(1, len(emojis) // count)][:count]
    return [Outline(f"emoji36-single-{n}", (each,), _STYLES[n % 2]) for n, each in enumerate(chosen)]


def make_captions(scenes: Sequence[Outline], lexicon: Lexicon, language: str) -> list[str]:
    """Return one caption a scene: its names joined as the language joins a list, sometimes with a keyword for one."""
    return [_make_caption(scene, lexicon, language) for scene in scenes]


def list_by_keyword(scenes: Sequence[Outline], lexicon: Lexicon, language: str) -> Iterator[tuple[int, str]]:
    """Yield place and keyword of each single drawing that has a keyword of its own in the language."""
    uses: dict[str, int] = {}
    for word in lexicon[language].values():
        for keyword in (word.name, *word.keywords):
            uses[keyword] = uses.get(keyword, 0) + 1
    for place, scene in enumerate(scenes):
        word = lexicon[language][strip_selector(scene.objects[0].characters)]
        own = [keyword for keyword in word.keywords if uses[keyword] == 1]
        if own:
            yield place, own[0]


def _make_caption(scene: Outline, lexicon: Lexicon, language: str) -> str:
    words = [lexicon[language][strip_selector(each.characters)] for each in scene.objects]
    called = hash_text(f"{scene.id} called")
    if called % 1000 < 1000 * KEYWORD_SHARE:
        place = called // 1000 % len(words)
        words[place] = Word(_choose_keyword(words[place], f"{scene.id} {language}"))
    return format_list([word.name for word in words], locale=convert_tag(language))


def _choose_keyword(word: Word, seed: str) -> str:
    some = word.keywords[:_COMMON]
    return some[hash_text(seed) % len(some)] if some else word.name
