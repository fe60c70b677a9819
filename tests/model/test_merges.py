"""One BPE for a line of tokenizers: each still reads as it would alone, and none keeps CLIP's merges for itself."""

import gc
import random
from collections.abc import Iterator

import pytest

from model.clip_tokenizer import LANGUAGE_RULE, ClipTokenizer
from model.encoder import Encoder
from model.merges import Merge, SharedBPE, clip_merges
from tests.model.test_clip_tokenizer import ENGLISH, THAI
from tests.model.test_encoder import HINDI, WELSH, taught

LETTERS = "qxzj"


def nasty_merges(count: int) -> list[Merge]:
    """Random joins over few letters: many strings have several merges, and some are CLIP's own tokens."""
    draw = random.Random(0)
    pieces, merges = [*LETTERS], dict[Merge, None]()
    while len(merges) < count:
        merge = draw.choice(pieces), draw.choice(pieces)
        if merge not in merges and len(merge[0] + merge[1]) <= 6 and merge not in clip_merges():
            merges[merge] = None
            pieces.append(merge[0] + merge[1])
    return [pair for left, right in merges for pair in ((left, right), (left, right + "</w>"))]


def test_a_tokenizer_on_a_longer_line_reads_as_it_does_alone() -> None:
    merges = nasty_merges(60)
    several = [left + right for left, right in merges]
    assert len(set(several)) < len(several)
    draw = random.Random(1)
    texts = ["".join(draw.choices(LETTERS + " ", k=40)) for _ in range(300)]
    longest = ClipTokenizer().extend(merges)
    for count in (0, 20, 60, 100, 120):
        on_line = ClipTokenizer(longest.added[:count], rule=LANGUAGE_RULE, bpe=longest.bpe)
        assert on_line.bpe is longest.bpe
        assert on_line.encode(texts) == ClipTokenizer(longest.added[:count], rule=LANGUAGE_RULE).encode(texts)
    assert longest.encode(texts) != ClipTokenizer(rule=LANGUAGE_RULE).encode(texts)


def test_older_languages_read_alike_before_and_after_newer_ones() -> None:
    clip = ClipTokenizer()
    welsh = clip.grown(WELSH, 300)
    texts = WELSH + HINDI + THAI + ENGLISH
    before = clip.encode(texts), welsh.encode(texts)
    newest = welsh.grown(HINDI, 300).grown(THAI, 300)
    newest.encode(texts)
    assert (clip.encode(texts), welsh.encode(texts)) == before
    first, second, last = (each.bpe.pairs(len(each.added)) for each in (clip, welsh, newest))
    assert first is second is last


def test_what_training_tried_and_dropped_is_not_on_the_line() -> None:
    clip = ClipTokenizer()
    grown = clip.grown(WELSH, 300)
    assert grown.bpe is clip.bpe
    assert clip.bpe.pairs(0).count == len(grown.added)


def test_a_second_child_of_one_parent_has_a_line_of_its_own() -> None:
    clip = ClipTokenizer()
    welsh, hindi = clip.grown(WELSH, 300), clip.grown(HINDI, 300)
    assert welsh.bpe is clip.bpe is not hindi.bpe
    assert hindi.encode(HINDI) == ClipTokenizer(hindi.added, rule=LANGUAGE_RULE).encode(HINDI)


def test_a_line_is_made_anew_only_for_what_it_lacks() -> None:
    merges = tuple(nasty_merges(4))
    line = SharedBPE()
    empty = line.pairs(0)
    assert line.holding(merges[:2]) is line
    assert line.pairs(0) is empty
    assert (longer := line.pairs(1)).count == 2
    assert line.holding(merges) is line and line.pairs(2) is longer
    assert line.pairs(len(merges)) is line.pairs(0) is not longer


def held_by(thing: object, shared: tuple[object, ...]) -> Iterator[object]:
    """Everything that can be reached from `thing`, but not through what is shared or through classes and modules."""
    seen = {id(other) for other in shared}
    waiting = [thing]
    while waiting:
        here = waiting.pop()
        if id(here) not in seen and not isinstance(here, type | type(gc)):
            seen.add(id(here))
            yield here
            waiting.extend(gc.get_referents(here))


@pytest.mark.parametrize("corpus", [WELSH, HINDI])
def test_an_opened_view_holds_no_copy_of_clips_merges(encoder: Encoder, corpus: list[str]) -> None:
    view = encoder.extend(encoder.base_view, 1, "xx", taught(encoder, encoder.base_view, corpus, 1))
    encoder.texts([(view, text) for text in corpus])
    own, base = view.tokenizer, encoder.base_view.tokenizer
    assert isinstance(own, ClipTokenizer) and isinstance(base, ClipTokenizer) and own.bpe is base.bpe
    large = [
        type(held)
        for held in held_by(view, (own.bpe, own.bpe.pairs(len(own.added))))
        if isinstance(held, dict | tuple | list | set | frozenset) and len(held) >= len(clip_merges()) // 2
    ]
    assert large == []


def test_a_copy_would_be_found() -> None:
    assert any(held == {*clip_merges()} for held in held_by([{"known": {*clip_merges()}}], ()))
