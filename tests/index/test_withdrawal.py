"""A language that was withdrawn leaves no text and no file, whenever it is killed; what remains is listed."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from index.janitor import finish_withdrawal
from index.set_states import NOTHING_SEALED
from store.errors import ExpansionInProgress, VersionPruned
from store.tables import CaptionRow, ExpansionRow
from tests.index.world import World, ask, kill_at

PICTURES = 4
POINTS = ("decided", "vectors", "captions", "version", "dataset", "removed")
SECRET = b"skeudenn"  # in all Breton texts
WITHDRAW = "from tests.index.test_withdrawal import withdraw; withdraw(world)"


def withdraw(world: World) -> Any:
    begun = world.registry.withdrawals.begin("br", actor="admin", reason="ours")
    return finish_withdrawal(world.sets, begun)


def teach(world: World, tag: str, word: str) -> str:
    """Teach a language from a dataset that is kept; return its expansion."""
    release = world.teach(tag, {f"p{seed}": f"{word} {seed}" for seed in range(PICTURES)})
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


def fill(world: World, *, later: bool) -> World:
    """Teach Welsh, Breton in two versions and, `later`, German upon them."""
    for seed in range(PICTURES):
        world.put(f"p{seed}", seed, {"en": [f"picture {seed}"]})
    teach(world, "cy", "llun")
    for _ in range(2):
        teach(world, "br", SECRET.decode())
    world.registry.answers.keep("br", {"picture": ["skeudenn"]}, "somebody")
    world.registry.terms.set("br", {"owner": "Ti ar Brezhoneg"}, "admin", may_change=True)
    if later:
        teach(world, "de", "Bild")
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
    assert_gone(world, done, kept=[], captions=2 * (PICTURES - 1))
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
    assert_gone(world, done, kept=[2, 3], captions=2 * PICTURES)
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
    with registry.read() as session:
        captioned = set(session.scalars(select(CaptionRow.language).distinct()))
    assert registry.answers.list("br") == [] and captioned == {"en", "cy", *(["de"] if kept else [])}
    removed: dict[str, Any] = certificate["removed"]
    assert {each["number"] for each in removed["versions"] if not each["files_removed"]} == {*kept}
    assert (len(removed["datasets"]), removed["captions"], removed["answers"]) == (2, captions, 1)
    assert (certificate["language"], certificate["owner"], certificate["reason"]) == ("br", "Ti ar Brezhoneg", "ours")
