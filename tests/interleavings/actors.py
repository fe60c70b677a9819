"""What services and workers do to one data root. An actor makes one call after the other; each is all or nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from index.indexer import Indexer
from index.sweep import Pruner, forget_replaced, sweep
from tests.index.world import World
from tests.interleavings.stage import DE, LEFT_OVER, WAITING, Stage, put

LEASE_SECONDS = 30.0
Call = Callable[[World], object]


TEACHING = (
    "lease",
    "expire",
    "take over",
    "heartbeat",
    "fill",
    "promote",
    "give back",
    "cancel",
    "submit",
    "roll back",
    "restore",
)


def calls_of(stage: Stage) -> dict[str, Sequence[Call]]:
    """The calls of each actor. Those of one actor follow each other, and another one may act between them."""
    return GALLERY | _expansion_actors(stage)


GALLERY: dict[str, Sequence[Call]] = {
    "put": [lambda world: put(world, "new", LEFT_OVER)],  # whose files a crash has left, and a sweep would remove
    "put a twin": [lambda world: put(world, "twin", 1)],  # with the content of another one
    "replace": [lambda world: put(world, "p1", 21)],
    "delete": [lambda world: world.gallery.delete("p1")],
    "sweep": [lambda world: sweep(world.sets)],
    "seal": [
        lambda world: Indexer(world.sets, seal_at=1).seal(world.pictures())
    ],  # and merge: with this one there are four segments of one row
    "purge": [lambda world: Indexer(world.sets, seal_at=1).purge(), lambda world: forget_replaced(world.sets)],
    "prune": [lambda world: Pruner(world.sets).prune(2)],
}


def _expansion_actors(stage: Stage) -> dict[str, Sequence[Call]]:
    held, seen = stage.lease, dict[int, int]()  # the release that an actor has seen, by its world

    def made(world: World) -> int:
        return world.registry.versions.of(DE)[0].number

    def promote(world: World) -> object:
        given = {"expansion": held.expansion, "fence": held.fence}
        return world.registry.releases.promote(version=made(world), move_shared=True, **given)

    def succeed(world: World) -> object:
        release = world.registry.expansions.get(held.expansion).release
        return world.registry.expansions.succeed(held, made(world), release, {})

    def submit(language: str) -> Call:
        order: dict[str, Any] = {"kind": "learn", "language": language, "settings": {}, "actor": "test"}
        return lambda world: world.registry.expansions.submit(**order)[0]

    def lease(expansion: str) -> Call:
        return lambda world: world.registry.expansions.lease(expansion, "other", LEASE_SECONDS)

    def see(world: World) -> None:
        seen[id(world)] = world.registry.releases.serving().number

    def restore(number: int) -> Call:
        told = {"actor": "test", "reason": ""}
        return lambda world: world.registry.releases.restore(number, expected=seen[id(world)], **told)

    def roll_back(tag: str) -> Call:
        told = {"actor": "test", "reason": ""}
        return lambda world: world.registry.releases.roll_back(tag, expected=seen[id(world)], **told)

    (waiting,) = [each.id for each in stage.world.registry.expansions.list() if each.language == WAITING]
    expire: Call = lambda _: stage.pass_time(LEASE_SECONDS + 1)  # noqa: E731
    return {
        "lease": [lease(waiting)],
        "expire": [expire],
        "take over": [expire, lease(held.expansion)],
        "heartbeat": [lambda world: world.registry.expansions.heartbeat(held, LEASE_SECONDS)],
        "fill": [lambda world: world.encode(DE, made(world))],
        "promote": [promote, succeed],
        "give back": [lambda world: world.registry.expansions.release_lease(held, cause="killed")],
        "cancel": [lambda world: world.registry.expansions.cancel(held.expansion)],
        "submit": [submit("cy")],
        "roll back": [see, roll_back("cy")],
        "restore": [see, restore(3)],  # which names the version of br that is out of reach
    }
