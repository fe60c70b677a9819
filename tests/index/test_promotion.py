"""Rollback, promotion, restore and withdrawal leave every other answer to the last bit, and touch no picture set."""

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from index.janitor import finish_withdrawal, sweep
from index.live import LiveIndex
from index.set_states import NOTHING_SEALED
from store import files
from store.bases import Encoding
from store.errors import ExpansionInProgress, VersionPruned
from store.tables import CaptionRow, ExpansionRow
from tests.doubles import make_text_vector
from tests.index.world import World, ask, kill_at, list_captions, score_pictures
from tests.registries import publish_release
from tests.store.steps import move_encoding

PICTURES = 30
WITHDRAWN = 4
POINTS = ("decided", "vectors", "captions", "version", "dataset", "removed")
SECRET = b"skeudenn"  # in all Breton texts
WITHDRAW = "from tests.index.test_promotion import withdraw; withdraw(world)"


def make_serving(world: World) -> LiveIndex:
    """Seal thirty pictures with English captions, and Welsh; a few changes wait to be sealed."""
    world.put_many(PICTURES, en="picture")
    world.serve()
    world.seal()
    world.teach("cy", {f"p{seed}": f"llun {seed}" for seed in range(PICTURES)})
    live = world.serve()
    world.put("p30", 30, {"en": ["picture 30"], "cy": ["llun 30"]})
    world.gallery.delete("p4")
    live.refresh()
    return live


@pytest.fixture
def served(world: World) -> LiveIndex:
    return make_serving(world)


def find_others(live: LiveIndex) -> tuple[Any, ...]:
    """Find everything in pictures, English and Welsh, with scores."""
    captions = [
        live.current.search_captions(make_text_vector(version, "llun 7"), ["cy", "en"], 99) for version in (0, 1)
    ]
    return [score_pictures(live, seed) for seed in range(6)], captions, [row.tobytes() for row in _count_vectors(live)]


def _count_vectors(live: LiveIndex) -> list[Any]:
    return [vector for number in range(PICTURES) for vector in live.current.picture_set.read_rows(f"p{number}").vectors]


def promote(world: World) -> None:
    world.teach("de", {f"p{seed}": f"Bild {seed}" for seed in range(PICTURES)})


def roll_back(world: World) -> None:
    world.registry.releases.roll_back("de", actor="test", reason="")


def restore(world: World) -> None:
    world.registry.releases.restore(3, expected=world.registry.releases.get_serving().number, actor="test", reason="")


def test_no_move_of_one_language_changes_another_or_touches_the_set_of_pictures(
    world: World, served: LiveIndex
) -> None:
    before, state = find_others(served), world.state()
    away = world.home / "elsewhere"
    away.mkdir()
    for folder in world.list_segments("pictures"):
        shutil.move(folder, away / folder.name)
    moves: list[Callable[[World], None]] = [promote, roll_back, restore, roll_back]
    for number, move in enumerate(moves):
        move(world)
        assert served.refresh() and ("de" in served.current.views) == (number % 2 == 0)
        assert find_others(served) == before and served.current.degraded == ()
        assert served.current.picture_set.state == state.number
    assert world.list_segments("pictures") == [] and world.state().number == state.number
    for folder in away.iterdir():
        shutil.move(folder, world.home / "segments" / folder.name)
    assert find_others(world.serve()) == before


def test_a_rollback_opens_nothing(world: World, served: LiveIndex) -> None:
    before = served.current
    promote(world)
    served.refresh()
    roll_back(world)
    opened, encoded = list(world.encoder.opened), world.encoder.texts_encoded
    assert served.refresh() and set(served.current.views) == {"en", "cy"}
    assert (world.encoder.opened, world.encoder.texts_encoded) == (opened, encoded)
    assert served.current.views["cy"] is before.views["cy"]


def test_views_and_sets_of_the_release_before_stay_and_older_ones_are_closed(world: World) -> None:
    world.put("a", 1, {"de": ["eins"]})
    world.teach("de", {"a": "zwei"}, shared=False)
    live = world.serve()
    opened: list[weakref.ref[Any]] = [weakref.ref(live.current.views["de"]), weakref.ref(live.current.captions["de"])]
    roll_back(world)
    live.refresh()
    gc.collect()
    assert all(each() is not None for each in opened), "to roll back in a second"
    world.teach("cy", {"a": "tri"}, shared=False)
    live.refresh()
    gc.collect()
    assert [each() for each in opened] == [None, None]
    world.registry.releases.restore(2, expected=4, actor="test", reason="")
    assert live.refresh() and list_captions(live, "a") == {"de": ["eins", "zwei"]}
    assert world.encoder.opened == [1, 2, 1]


def test_a_version_shows_its_languages_captions_up_to_it_without_those_taken_back(world: World) -> None:
    world.put("a", 1)
    for text in ("un", "dau"):
        world.teach("cy", {"a": text})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.teach("cy", {"a": "tri"})
    expansions = {version.number: version.expansion for version in world.registry.versions.list()}
    assert world.registry.releases.find_visible("cy", 1) == {expansions[1]}
    assert world.registry.releases.find_visible("cy", 2) == {expansions[1], expansions[2]}
    assert world.registry.releases.find_visible("cy", 3) == {expansions[1], expansions[3]}


def test_captions_that_a_restored_release_took_back_are_not_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.restore(1, expected=2, actor="test", reason="")
    live = world.serve()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert list_captions(live, "a") == {"cy": ["dau"]}


def test_captions_of_an_expansion_that_was_cancelled_before_it_served_are_never_shown(world: World) -> None:
    world.put("a", 1)
    lease, _ = world.add_version("cy", {"a": "un"})
    world.registry.expansions.end_as_cancelled(lease)
    world.teach("cy", {"a": "dau"})
    assert list_captions(world.serve(), "a") == {"cy": ["dau"]}


def test_before_and_after_its_promotion_a_version_shows_the_same_captions(world: World) -> None:
    world.teach("cy")
    _, version = world.add_version("cy")
    expansions = {other.expansion for other in world.registry.versions.list() if other.number}
    assert world.registry.releases.find_visible("cy", version.number) == expansions
    routed = {"cy": version.number}
    for expected, languages in ((2, routed), (3, {}), (4, routed)):  # only the first time it serves counts
        publish_release(world.registry, expected=expected, shared=1, languages=languages)
        assert world.registry.releases.find_visible("cy", version.number) == expansions


def test_a_release_in_another_encoding_is_not_served_by_the_one_that_is_open(world: World, served: LiveIndex) -> None:
    world.registry.encodings.record_first("torch", "float32")
    before = served.current.release
    release = move_encoding(world.registry, Encoding("openvino", "float32"))
    assert served.refresh() and served.current.release == before
    problem = f"Release {release.number} is for vectors made by openvino in float32, which is not open here."
    assert served.current.degraded == (problem, f"Release {before.number} is still served.")
    undone = world.registry.bases.undo(actor="t", reason="")
    assert served.refresh() and served.current.release.number == undone.release and not served.current.degraded


def withdraw(world: World) -> Any:
    begun = world.registry.withdrawals.begin("br", actor="admin", reason="ours")
    return finish_withdrawal(world.sets, begun)


def teach(world: World, tag: str, word: str) -> str:
    """Teach a language from a dataset that is kept; return its expansion."""
    release = world.teach(tag, {f"p{seed}": f"{word} {seed}" for seed in range(WITHDRAWN)})
    expansion = str(release.change["expansion"])
    path = world.root.locate(f"expansions/{expansion}/dataset")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{word}\n" * 3)
    with world.registry.begin() as session:
        kept = {"dataset_path": f"expansions/{expansion}/dataset", "dataset_sha256": "0" * 64, "dataset_bytes": 9}
        report = {
            "dataset": {"dictionary": {"examples": [word]}, "usable": 3, "first": word, "format": "csv"},
            "letters": ["ñ"],
        }
        row = update(ExpansionRow).where(ExpansionRow.id == expansion)
        session.execute(row.values(**kept, report=report))
    return expansion


def rebuild(world: World, languages: dict[str, Any]) -> None:
    """Teach languages again, as after a rollback, with what evaluating them left on disk."""
    rebuilt, _ = world.registry.expansions.submit(kind="rebuild", language="mul", settings={}, actor="test")
    lease = world.registry.expansions.take_lease(rebuilt.id, "worker")
    assert lease is not None
    files.write_json(world.root.locate(f"expansions/{rebuilt.id}/evaluation/br-1.json"), languages)
    world.registry.expansions.succeed(lease, None, None, {"moved": True, "languages": languages})


def fill(world: World, *, later: bool) -> World:
    """Teach Welsh, Breton in two versions and, `later`, German upon them."""
    world.put_many(WITHDRAWN, en="picture")
    teach(world, "cy", "llun")
    for _ in range(2):
        teach(world, "br", SECRET.decode())
    world.registry.answers.keep("br", {"picture": ["skeudenn"]}, "somebody")
    world.registry.terms.set("br", {"owner": "Ti ar Brezhoneg"}, "admin", may_change=True)
    if later:
        teach(world, "de", "Bild")
    rebuild(world, {tag: {"pairs": 3, "new": [word]} for tag, word in (("br", SECRET.decode()), ("cy", "llun"))})
    world.serve()
    world.seal()
    return world


def find_texts(home: Path) -> list[str]:
    """Find the files that still have a word of Breton."""
    return [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file() and SECRET in file.read_bytes()]


@pytest.mark.faults
def test_a_withdrawal_that_is_killed_anywhere_comes_to_the_same_end(world: World, tmp_path: Path) -> None:
    live = fill(world, later=False).serve()
    world.gallery.delete("p3")  # it can be brought back, with its captions
    before = world.registry.releases.get_serving()
    for point in POINTS:
        kill_at(world, WITHDRAW, f"withdraw.{point}:1")
        if point == "decided":
            world.gallery.delete("p2")  # its captions go with it to where it can be brought back from
        live.refresh()
        assert set(live.current.views) == {"en", "cy"}
        with pytest.raises(VersionPruned):
            serving = world.registry.releases.get_serving().number
            world.registry.releases.restore(before.number, expected=serving, actor="test", reason="")
    done = withdraw(world)
    assert_gone(world, done, kept=[], captions=2 * (WITHDRAWN - 1))
    sweep(world.sets)
    if world.registry.is_local:
        world.close()
        assert find_texts(tmp_path) == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_another_language_was_taught_upon_stays_and_is_told(world: World) -> None:
    live = fill(world, later=True).serve()
    texts = ask(live)
    planned = world.registry.withdrawals.plan("br")[1]
    done = withdraw(world)
    assert done.plan == planned
    live.refresh()
    assert set(live.current.views) == {"en", "cy", "de"} and live.current.release.shared == 1
    assert ask(live) == texts, "no answer of another language changes"
    assert_gone(world, done, kept=[2, 3], captions=2 * WITHDRAWN)
    assert [each["why"].split(" was ")[0] for each in planned.remains if each["what"] == "version"] == [
        "de (version 4)",
        "de (version 4)",
    ]
    assert withdraw(world).certificate == done.certificate, "done again, it gives the same"
    assert world.registry.withdrawals.get_newest("br").certificate == done.certificate


def test_nothing_is_withdrawn_while_something_is_taught(world: World) -> None:
    fill(world, later=False)
    world.registry.expansions.submit(kind="learn", language="fr", settings={}, actor="test")
    with pytest.raises(ExpansionInProgress):
        withdraw(world)
    assert "br" in world.registry.releases.get_serving().languages


def assert_gone(world: World, done: Any, kept: list[int], captions: int) -> None:
    """Check that nothing of Breton is left but the files of these versions, and that the certificate says so."""
    registry, certificate = world.registry, dict(done.certificate or {})
    versions = [version for version in registry.versions.list() if version.language == "br"]
    assert {version.number for version in versions if version.folder is not None} == {*kept}
    for version in versions:
        assert version.pruned_at is not None and world.state(world.captions("br", version.number)) == NOTHING_SEALED
        expansion = registry.expansions.get(str(version.expansion))
        assert expansion.dataset_path is None and not world.root.locate(f"expansions/{expansion.id}").exists()
        assert expansion.report == {"dataset": {"dictionary": {}, "usable": 3, "format": "csv"}}
    again = registry.expansions.find_newest("rebuild")
    assert again is not None and again.report is not None
    assert again.report["languages"] == {"br": {"pairs": 3}, "cy": {"pairs": 3, "new": ["llun"]}}
    with registry.read() as session:
        captioned = set(session.scalars(select(CaptionRow.language).distinct()))
    registry.unknown_words.add("br", {"ul": 1})  # of a search before, counted in memory
    assert registry.answers.list("br") == [] and registry.unknown_words.list("br") == []
    assert captioned == {
        "en",
        "cy",
        *(["de"] if kept else []),
    }
    removed: dict[str, Any] = certificate["removed"]
    assert {each["number"] for each in removed["versions"] if not each["files_removed"]} == {*kept}
    assert (len(removed["datasets"]), removed["captions"], removed["answers"]) == (2, captions, 1)
    assert (certificate["language"], certificate["owner"], certificate["reason"]) == ("br", "Ti ar Brezhoneg", "ours")
