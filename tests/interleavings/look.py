"""What has to hold when two actors are done, whatever the order of their steps was."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select

from index.janitor import sweep
from index.segment import Segment
from index.set_states import find_sets_in_use
from index.sources import apply_changes, make_source
from index.vectors import Identity
from store.clock import Instant
from store.errors import LeaseLost
from store.leases import Lease
from store.reach import LEAST
from store.tables import RegistryRow
from tests.doubles import make_view
from tests.index.world import World
from tests.interleavings.schedule import CLOCK, Step


def describe_end(world: World, results: Iterable[Iterable[object]]) -> tuple[Any, ...]:
    """Describe what a client sees of the end: pictures, releases, versions, expansions, and what was answered."""
    gallery, registry = world.gallery, world.registry
    ids = gallery.list_ids()
    pictures = tuple(sorted(gallery.find_contents(ids).items()))
    captions = tuple((id, str(sorted(texts.items()))) for id, texts in sorted(gallery.group_captions(ids).items()))
    releases = tuple((each.shared, str(sorted(each.languages.items()))) for each in registry.releases.list())
    versions = tuple((each.number, each.language, each.pruned_at is not None) for each in registry.versions.list())
    expansions = sorted((each.language, each.kind, each.state, each.attempt) for each in registry.expansions.list())
    answers = tuple(type(result).__name__ for of_one in results for result in of_one)
    return pictures, captions, releases, versions, tuple(expansions), answers


def hash_state(world: World) -> int:
    """All rows but times and ETags, and all files: two runs that end in the same state need to be looked at once."""
    tables = RegistryRow.metadata.sorted_tables
    columns = [
        [each for each in table.c if not isinstance(each.type, Instant) and each.name != "etag"] for table in tables
    ]
    with world.registry.read() as session:
        rows = [sorted(map(repr, session.execute(select(*each)))) for each in columns]
    files = sorted((str(path), path.stat().st_size) for path in world.home.rglob("*") if "registry.db" not in path.name)
    return hash(repr((rows, files)))


def assert_whole(world: World, leases: Sequence[Lease], steps: Sequence[Step]) -> None:
    """Assert that nothing is lost, doubled, left over or half, wherever these steps have changed something."""
    _check_releases(world)
    _check_expansions(world, leases)
    if not {name for step in steps for name in step.writes} <= {CLOCK, "aliases", "expansions", "releases"}:
        _check_pictures(world)
        _check_sets(world)
        _check_files(world)


def _check_releases(world: World) -> None:
    registry = world.registry
    releases, versions = registry.releases.list(), {each.number: each for each in registry.versions.list()}
    serving = registry.releases.get_serving()
    assert [each.number for each in releases] == list(range(len(releases), 0, -1)), "a release is missing"
    assert serving == releases[0], "what serves is not the newest release"
    for release in releases[:LEAST]:
        for language, number in release.languages.items():
            version = versions[number]
            assert version.pruned_at is None, f"{language} is read by a version that was pruned"
            assert number == 0 or (world.home / str(version.folder)).is_dir(), f"version {number} has no files"
        for version in registry.versions.trace_lineage(release.shared):
            assert version.number == 0 or (world.home / str(version.folder)).is_dir(), "the shared chain has a gap"
    made = Counter((each.expansion, each.language) for each in versions.values() if each.number)
    assert set(made.values()) <= {1}, "an expansion has two versions of one language"


def _check_expansions(world: World, leases: Sequence[Lease]) -> None:
    expansions = world.registry.expansions.list()
    active = Counter(each.language for each in expansions if each.state in ("queued", "running"))
    assert set(active.values()) <= {1}, "a language is taught twice at a time"
    released = [str(each.change["expansion"]) for each in world.registry.releases.list() if "expansion" in each.change]
    assert len(released) == len(set(released)), "an expansion has two releases"
    for each in expansions:
        assert each.release is None or each.state not in ("cancelled", "failed"), "what is released has not succeeded"
        assert each.state != "succeeded" or each.release is not None, "what succeeded serves nothing"
        assert (each.finished_at is None) == (each.state in ("queued", "running"))
    assert len({(lease.expansion, lease.fence) for lease in leases}) == len(leases), "two have the same fence"
    holders = Counter(lease.expansion for lease in leases if _check_hold(world, lease))
    assert set(holders.values()) <= {1}, "two hold one lease"


def _check_hold(world: World, lease: Lease) -> bool:
    try:
        world.registry.expansions.renew_lease(lease)
    except LeaseLost:
        return False
    return True


def _check_pictures(world: World) -> None:
    ids = world.gallery.list_ids()
    for id, content in world.gallery.find_contents(ids).items():
        assert not [*world.gallery.files.list_missing(content, original=False)], f"{id} has a record and no files"
    vectors = world.gallery.find_picture_vectors(ids, world.encoder.image_fingerprint)
    assert sorted(vectors) == ids, "a vector is missing"


def _check_sets(world: World) -> None:
    """Check that what is sealed can be read and, with the changes since, is what the tables have."""
    used = {Identity(*key) for key in find_sets_in_use(world.registry)}
    serving = world.registry.releases.get_serving().languages
    assert {each.language for each in used if each.kind == "captions"} >= serving.keys(), "a language has no captions"
    for identity in world.sets.list_newest():
        state = world.sets.read_state(identity)
        sealed, lost = world.sets.open_sealed(identity, state)
        assert not lost, f"{identity.name} names segments that cannot be read"
        if identity in used and state.upto_change:  # otherwise it is made from the tables, if it is needed at all
            view = make_view(identity.version or 0, identity.language or "en")
            source = make_source(identity, world.gallery, world.encoder, view)
            latest = apply_changes({identity: sealed}, {identity: source}, world.gallery)[identity]
            kept = [part.read_all_rows() for part in latest.parts if isinstance(part, Segment)]
            found = [entry for rows in (*kept, latest.tail.read_all_rows()) for entry in _list_entries(rows)]
            stored = source.make_rows(world.gallery.list_ids()).values()
            assert sorted(found) == sorted(entry for rows in stored for entry in _list_entries(rows)), identity.name


def _list_entries(rows: Any) -> list[tuple[int, Any]]:
    return list(zip(rows.keys.tolist(), rows.entries, strict=True))


def _check_files(world: World) -> None:
    """Check that whatever is left over goes with the next sweep, and nothing else."""
    world.age()
    sweep(world.sets, kept_seconds=0)
    names = {path.name.partition(".")[0] for path in (world.home / "pictures").glob("*/*")}
    assert names == {*world.gallery.find_contents(world.gallery.list_ids()).values()}, (
        "files of pictures that are not there, or the other way round"
    )
    sets = world.sets
    named = {each.id for of in sets.list_newest() for state in sets.list_states(of) for each in state.segments}
    assert {path.name for path in (world.home / "segments").iterdir()} == named, "segments that nothing names"
