"""What is served and what is wrong with it, for `/readyz` and `/metrics`. Repairs nothing."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import GaugeMetricFamily

from client.output import format_count as counted_word
from index import damage
from index.snapshot import Snapshot
from service.context import Context
from service.metrics import counted, gauge
from store import files
from store.encodings import Encoding, RecordedEncoding
from store.errors import IndexUnavailable, RegistryUnavailable, StorageFull
from store.expansions import State

_ENCODER_STOPPED, _DRAINING = "encoder_stopped", "draining"
_WRITES_REFUSED = "writes_refused"
_REFUSED_SECONDS = 5.0  # for which every write was refused: longer than one waits for others that write
# of what `/readyz` says in sentences
_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED = "encoding", "unsealed", "snapshot", "damaged"
_CODES = (
    *(_ENCODER_STOPPED, _DRAINING, RegistryUnavailable.code, _WRITES_REFUSED, StorageFull.code, IndexUnavailable.code),
    *(_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED),
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the `code` that metrics count it by, and what `/readyz` says, a code or a sentence."""

    code: str
    said: str


@dataclass(frozen=True)
class Health:
    """The served snapshot, if there is any, and every fault."""

    snapshot: Snapshot | None
    faults: Sequence[Fault]

    @property
    def codes(self) -> set[str]:
        """The code of each fault."""
        return {fault.code for fault in self.faults}

    @property
    def ready(self) -> bool:
        """Whether searches are accepted."""
        return self.snapshot is not None and self.codes.isdisjoint({_ENCODER_STOPPED, _DRAINING})


def health_of(context: Context) -> Health:
    """How this process is; waits for the registry, as long as that takes to say that it does not answer."""
    try:
        snapshot = context.live.current
    except IndexUnavailable:
        snapshot = None
    return Health(snapshot, [*_faults(context, snapshot)])


def current_metrics(context: Context) -> Iterator[GaugeMetricFamily]:
    """What is read anew at each scrape. Of expansions there is nothing while the registry does not answer."""
    health = health_of(context)
    yield gauge("queue_texts", "Texts waiting to be encoded.", context.texts.depth)
    yield gauge("queue_pictures", "Pictures waiting to be encoded.", context.pictures.depth)
    yield gauge("cache_hits", "Query vectors taken from the cache.", context.texts.cache.hits)
    yield gauge("cache_misses", "Query vectors that were not in the cache.", context.texts.cache.misses)
    yield gauge("free_bytes", "Free space under the data root.", files.free_bytes(context.settings.home))
    unsealed = context.live.unsealed if health.snapshot else 0
    yield gauge("unsealed_changes", "Changes of the gallery that no worker has sealed yet.", unsealed)
    degraded = {code: int(code in health.codes) for code in _CODES}
    yield counted("degraded", "1 while `/readyz` says so.", "code", degraded)
    yield from _of_scrub(context)
    expansions = [] if RegistryUnavailable.code in health.codes else _of_expansions(context)
    yield gauge("registry_up", "1 while the registry answers, otherwise 0.", bool(expansions))
    yield from expansions


def _of_expansions(context: Context) -> list[GaugeMetricFamily]:
    """Empty when the registry does not answer any more."""
    expansions = context.registry.expansions
    try:
        counts = dict.fromkeys(get_args(State), 0) | expansions.counts()
        abandoned, wait = len(expansions.abandoned()), expansions.longest_wait()
        still = expansions.longest_still()
    except RegistryUnavailable:
        return []
    return [
        counted("expansions", "Expansions by state.", "state", counts),
        gauge("expansions_abandoned", "Running expansions whose worker is silent.", abandoned),
        gauge("longest_wait_seconds", "Longest wait of an expansion for a worker.", wait),
        gauge("longest_still_seconds", "Longest time since an attempt told how far it is.", still),
    ]


def _of_scrub(context: Context) -> Iterator[GaugeMetricFamily]:
    """What the last scrub of this data root found; of before the first one all is 0."""
    report = damage.last(context.live.sets.root) or damage.Report(0, 0, 0, 0)
    yield gauge(
        "scrub_finished_seconds", "When everything stored was last read, since 1970; 0: never.", report.finished
    )
    yield gauge("scrub_files", "Files that the last scrub read.", report.files)
    yield gauge("scrub_bytes", "Bytes that the last scrub read.", report.bytes)
    yield gauge("scrub_damaged", "What the last scrub found damaged.", report.left + report.mended)
    yield gauge("scrub_mended", "What of that it mended.", report.mended)
    yield counted(
        "damaged",
        "What is damaged and could not be mended.",
        "kind",
        {k: report.unmended.get(k, 0) for k in damage.KINDS},
    )


def _faults(context: Context, snapshot: Snapshot | None) -> Iterator[Fault]:
    if not all(queue.alive for queue in (context.texts, context.pictures, context.writes)):
        yield _known(_ENCODER_STOPPED)
    if context.draining:
        yield _known(_DRAINING)
    try:
        recorded = context.registry.encodings.current()
    except RegistryUnavailable as error:
        yield _known(error.code)
    else:
        for sentence in _about_vectors(context.encoder.encoding, recorded):
            yield Fault(_ENCODING, sentence)
        if context.registry.refused_seconds > _REFUSED_SECONDS:
            yield _known(_WRITES_REFUSED)
    if not _writable(context):
        yield _known(StorageFull.code)
    if (report := damage.last(context.live.sets.root)) and report.left:
        told = ", ".join(counted_word(number, kind) for kind, number in sorted(report.unmended.items()))
        yield Fault(_DAMAGED, f"Damaged or unreadable, and not mended: {told}. `pictoglot verify` names it.")
    if snapshot is None:
        yield _known(IndexUnavailable.code)
        return
    if late := context.live.late:
        yield Fault(_UNSEALED, f"{late} changes of the gallery are not sealed yet: is a worker running?")
    for sentence in snapshot.degraded:
        yield Fault(_SNAPSHOT, sentence)


def _known(code: str) -> Fault:
    return Fault(code, code)


def _about_vectors(encoding: Encoding, recorded: RecordedEncoding | None) -> Iterator[str]:
    """What an operator should know of the vectors: that the fastest way failed, or that new ones wait for a restart."""
    if recorded is None:
        return
    newest = Encoding(recorded.backend, recorded.precision)
    if recorded.reason:
        yield f"{recorded.reason}; {newest} computes the vectors instead."
    if newest != encoding:
        yield f"Vectors made with {newest} are complete: a restart serves them instead of those of {encoding}."


def _writable(context: Context) -> bool:
    """Whether files can be written to the data root."""
    try:
        files.require_free(context.settings.home, context.settings.free_bytes)
    except StorageFull:
        return False
    return os.access(context.settings.home, os.W_OK)
