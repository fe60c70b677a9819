"""Steps that tests of the registry and of moves share: teach a language in one call, move to another base, race."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from store.bases import Encoding
from store.errors import PictoglotError
from store.expansions import Expansion, IdempotencyKey
from store.leases import Lease
from store.registry import Registry
from store.releases import Release
from store.versions import Version
from tests.patience import insist

T = TypeVar("T")


def submit(
    registry: Registry,
    language: str,
    *,
    kind: str = "learn",
    key: str | None = None,
    body: str = "b",
    actor: str = "tester",
    replay: Sequence[str] = (),
) -> Expansion:
    expansion, _ = registry.expansions.submit(
        kind="learn" if kind == "learn" else "rebuild",
        language=language,
        settings={"replay": list(replay)} if replay else {"epochs": 1},
        dataset_path="uploads/d.jsonl",
        dataset_sha256="d" * 64,
        dataset_bytes=10,
        actor=actor,
        key=IdempotencyKey.build(actor, key, body),
    )
    return expansion


def begin(registry: Registry, language: str, *, kind: str = "learn", replay: Sequence[str] = ()) -> Lease:
    """Queue an expansion and take its lease."""
    lease = registry.expansions.take_lease(submit(registry, language, kind=kind, replay=replay).id, "worker")
    assert lease is not None
    return lease


def write(registry: Registry, lease: Lease, language: str, parent: int, **more: Any) -> Version:
    made: dict[str, Any] = {
        "folder": f"versions/{lease.expansion}",
        "manifest_sha256": "m" * 64,
        "rows": 3,
        "bytes": 4096,
        "report": {"t2i": {"R@1": 0.5}},
    }
    ours: dict[str, Any] = {"expansion": lease.expansion, "parent": parent, "language": language, "fence": lease.fence}
    return registry.versions.add(**ours, **made | more)


def promote(registry: Registry, lease: Lease, version: Version, *, shared: bool = True) -> Release:
    return registry.releases.promote(
        expansion=lease.expansion, version=version.number, move_shared=shared, fence=lease.fence
    )


def learn(registry: Registry, language: str, *, shared: bool = True, **more: Any) -> Version:
    """Teach a language, upon the serving shared version, from all its earlier datasets and a new one."""
    lease, parent = begin(registry, language), registry.releases.get_serving().shared
    made = {"datasets": (*list_taught_from(registry, language), lease.expansion), **more}
    version = write(registry, lease, language, parent, **made)
    release = promote(registry, lease, version, shared=shared)
    registry.expansions.succeed(lease, version.number, release.number, dict(version.report))
    return version


def list_taught_from(registry: Registry, language: str) -> tuple[str, ...]:
    """List the expansions with the datasets of the version that serves the language."""
    languages = registry.releases.get_serving().languages
    return registry.versions.get(languages[language]).dataset_expansions if language in languages else ()


def teach(registry: Registry, language: str, *, shared: bool = True) -> int:
    """Teach a language, and return the number of its new version."""
    return learn(registry, language, shared=shared).number


def race(*acts: Callable[[], T]) -> Sequence[T | PictoglotError]:
    """Call all at the same moment, each in a thread; returns what each returned, or the error it raised.

    Who is refused because others hold up the registry asks again: a disk that halts for longer than a writer waits.
    """
    start = Barrier(len(acts))

    def run(act: Callable[[], T]) -> T | PictoglotError:
        start.wait()
        try:
            return insist(act)
        except PictoglotError as refusal:
            return refusal

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def begin_move(registry: Registry) -> Lease:
    """Submit an expansion of kind `base`, and return its lease."""
    expansion, _ = registry.expansions.submit(kind="base", language="mul", settings={"base": "B"}, actor="t")
    lease = registry.expansions.take_lease(expansion.id, "worker")
    assert lease is not None
    return lease


def learn_again(
    registry: Registry, lease: Lease, language: str, parent: int, report: Mapping[str, Any] | None = None
) -> int:
    """Write a version on the new base, from the datasets of the one that serves, as the worker does."""
    served = registry.versions.get(registry.releases.get_serving().languages[language])
    own = {"folder": f"versions/{lease.expansion}-{language}", "report": dict(report or {})}
    version = write(registry, lease, language, parent, datasets=served.dataset_expansions, **own)
    assert (
        version.dataset_expansions == served.dataset_expansions and version.expansion not in served.dataset_expansions
    )
    return version.number


def serve_base(
    registry: Registry,
    lease: Lease,
    base: int,
    languages: dict[str, int],
    expected: int,
    encoding: Encoding | None = None,
) -> Release | None:
    shared = max([base, *languages.values()])
    return registry.bases.move(
        lease,
        expected=expected,
        base=base,
        encoding=encoding,
        shared=shared,
        languages=languages,
        report={"forced": False},
    )


def move_encoding(registry: Registry, encoding: Encoding) -> Release:
    lease, before = begin_move(registry), registry.releases.get_serving()
    release = serve_base(registry, lease, before.base, before.languages, before.number, encoding)
    assert release is not None
    registry.expansions.succeed(lease, release.shared, release.number, {})
    return release


def move_base(
    registry: Registry,
    other: tuple[str, str, str] = ("B", "image-b", "text-b"),
    report: Mapping[str, Any] | None = None,
) -> Release:
    """Move to another base (name, fingerprints), with every language that is served."""
    lease = begin_move(registry)
    before = registry.releases.get_serving()
    base = registry.bases.add(*other, lease).number
    languages, parent = {}, base
    for tag in sorted(before.languages.keys() - {"en"}, key=before.languages.__getitem__):
        languages[tag] = parent = learn_again(registry, lease, tag, parent, report)
    release = serve_base(registry, lease, base, languages, before.number)
    assert release is not None
    registry.expansions.succeed(lease, release.shared, release.number, {})
    return release
