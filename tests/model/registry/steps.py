"""Steps that the registry's tests share: teach a language in one call, and race."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from model.errors import PictoglotError
from model.registry import Expansion, Lease, Once, Registry, Release, Version

T = TypeVar("T")


def submit(
    registry: Registry,
    language: str,
    *,
    kind: str = "learn",
    key: str | None = None,
    body: str = "b",
    replay: Sequence[str] = (),
) -> Expansion:
    """Queue one expansion."""
    expansion, _ = registry.expansions.submit(
        kind="learn" if kind == "learn" else "rebuild",
        language=language,
        settings={"replay": list(replay)} if replay else {"epochs": 1},
        dataset_path="uploads/d.jsonl",
        dataset_sha256="d" * 64,
        dataset_bytes=10,
        actor="tester",
        once=Once.of("tester", key, body),
    )
    return expansion


def begin(registry: Registry, language: str, *, kind: str = "learn", replay: Sequence[str] = ()) -> Lease:
    """Queue an expansion and take its lease."""
    lease = registry.expansions.lease(submit(registry, language, kind=kind, replay=replay).id, "worker")
    assert lease is not None
    return lease


def write(registry: Registry, lease: Lease, language: str, parent: int) -> Version:
    """Register a version of the leased expansion."""
    return registry.versions.add(
        expansion=lease.expansion,
        parent=parent,
        language=language,
        folder=f"versions/{lease.expansion}",
        manifest_sha256="m" * 64,
        rows=3,
        bytes=4096,
        report={"t2i": {"R@1": 0.5}},
        fence=lease.fence,
    )


def promote(registry: Registry, lease: Lease, version: Version, *, shared: bool = True) -> Release:
    """Release a version of the leased expansion."""
    return registry.releases.promote(
        expansion=lease.expansion, version=version.number, move_shared=shared, fence=lease.fence
    )


def teach(registry: Registry, language: str, *, shared: bool = True) -> int:
    """A whole expansion, on top of the serving shared version; returns the new version's number."""
    lease = begin(registry, language)
    version = write(registry, lease, language, registry.releases.serving().shared)
    release = promote(registry, lease, version, shared=shared)
    registry.expansions.succeed(lease, version.number, release.number, {})
    return version.number


def race(*acts: Callable[[], T]) -> Sequence[T | PictoglotError]:
    """Call all at the same moment, each in a thread; returns what each returned, or the error it raised."""
    start = Barrier(len(acts))

    def run(act: Callable[[], T]) -> T | PictoglotError:
        start.wait()
        try:
            return act()
        except PictoglotError as refusal:
            return refusal

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))
