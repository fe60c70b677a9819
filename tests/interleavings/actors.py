"""What services and workers do to one data root. An actor makes one call after the other; each is all or nothing."""

from collections.abc import Callable, Sequence

from index.indexer import Indexer
from index.janitor import Pruner, remove_replaced, sweep
from store.leases import Lease
from tests.index.world import World
from tests.interleavings.stage import DE, DISCARDED, LEFT_OVER, Stage, put

LEASE_SECONDS = 30.0
Call = Callable[[World], object]
Actor = Callable[[Stage], Sequence[Call]]

GALLERY: dict[str, Actor] = {
    "put": lambda _: [lambda world: put(world, "new", LEFT_OVER)],  # whose files a sweep would remove
    "put back": lambda _: [lambda world: put(world, "back", DISCARDED)],  # as these, after a day
    "put a twin": lambda _: [lambda world: put(world, "twin", 1)],  # with the content of another one
    "replace": lambda _: [lambda world: put(world, "p1", 21)],
    "delete": lambda _: [lambda world: world.gallery.delete("p1")],
    "sweep": lambda _: [lambda world: sweep(world.sets)],
    # and merge: with this one there are four segments of one row
    "seal": lambda _: [lambda world: Indexer(world.sets, seal_at=1).seal(world.pictures())],
    "purge": lambda _: [
        lambda world: Indexer(world.sets, seal_at=1).purge(),
        lambda world: remove_replaced(world.sets),
    ],
    "prune": lambda _: [lambda world: Pruner(world.sets).prune(2)],
}
TEACHING: dict[str, Actor] = {
    "lease": lambda stage: [_lease(stage.waiting)],
    "expire": lambda stage: [_expire(stage)],
    "take over": lambda stage: [_expire(stage), _lease(stage.lease.expansion)],
    "heartbeat": lambda stage: [lambda world: world.registry.expansions.renew_lease(stage.lease, LEASE_SECONDS)],
    "fill": lambda _: [lambda world: world.encode(DE, _make(world))],
    "promote": lambda stage: [_promote(stage.lease), _succeed(stage.lease)],
    "give back": lambda stage: [lambda world: world.registry.expansions.give_back_lease(stage.lease, cause="killed")],
    "cancel": lambda stage: [lambda world: world.registry.expansions.cancel(stage.lease.expansion)],
    "submit": lambda _: [_submit],
    "roll back": lambda _: _add_base(_roll_back),
    "restore": lambda _: _add_base(_restore),
}
ACTORS = GALLERY | TEACHING


def _lease(expansion: str) -> Call:
    return lambda world: world.registry.expansions.take_lease(expansion, "other", LEASE_SECONDS)


def _expire(stage: Stage) -> Call:
    return lambda _: stage.pass_time(LEASE_SECONDS + 1)


def _make(world: World) -> int:
    return next(version.number for version in world.registry.versions.list() if version.language == DE)


def _promote(lease: Lease) -> Call:
    return lambda world: world.registry.releases.promote(
        expansion=lease.expansion, version=_make(world), move_shared=True, fence=lease.fence
    )


def _succeed(lease: Lease) -> Call:
    def succeed(world: World) -> None:
        release = world.registry.expansions.get(lease.expansion).release
        world.registry.expansions.succeed(lease, _make(world), release, {})

    return succeed


def _submit(world: World) -> object:
    return world.registry.expansions.submit(kind="learn", language="cy", settings={}, actor="test")[0]


def _add_base(act: Callable[[World, int], object]) -> Sequence[Call]:
    """Look at what serves, and then act on that."""
    seen: list[int] = []

    def look(world: World) -> None:
        seen[:] = [world.registry.releases.get_serving().number]

    return look, lambda world: act(world, *seen)


def _roll_back(world: World, seen: int) -> object:
    return world.registry.releases.roll_back("cy", actor="test", reason="", expected=seen)


def _restore(world: World, seen: int) -> object:
    """Restore the release that names the version of br, which is out of reach."""
    return world.registry.releases.restore(3, expected=seen, actor="test", reason="")
