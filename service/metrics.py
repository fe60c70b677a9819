"""What is wrong with a process, and the metrics for Prometheus: requests, batches, searches, release, connections."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from index import scrub_report
from index.snapshot import Snapshot
from store import files
from store.bases import Encoding
from store.errors import IndexUnavailable, RegistryUnavailable, StorageFull, format_count
from store.expansions import ExpansionState

if TYPE_CHECKING:
    from service.context import Context

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PART_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_SECONDS)
_COUNTED_TOGETHER = "PROMETHEUS_MULTIPROC_DIR"  # the library's name of the folder in which several processes count
CLOSE_REASONS = ("crowded", "late", "malformed")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_ENCODER_STOPPED, _DRAINING = "encoder_stopped", "draining"
_WRITES_REFUSED, _BROKER_DOWN = "writes_refused", "broker_unavailable"
_REFUSED_SECONDS = 5.0  # for which every write was refused: longer than one waits for others that write
# of what `/readyz` says in sentences
_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED = "encoding", "unsealed", "snapshot", "damaged"
_CODES = (
    *(_ENCODER_STOPPED, _DRAINING, RegistryUnavailable.code, _WRITES_REFUSED, StorageFull.code, IndexUnavailable.code),
    _BROKER_DOWN,
    *(_ENCODING, _UNSEALED, _SNAPSHOT, _DAMAGED),
)


class Metrics:
    """The metrics of one application; nothing is global, so that one process can hold two applications.

    Where several processes serve one port, requests, searches, batches and connections are those of all together, and
    what `watch` reads is of the process that answers.

    `requests` by method, route (the template, never the path) and status, in seconds; `parts` of a search, in seconds;
    `batches` by kind, in items; `searches` by language (a served tag or `shared`) and source; `release` and `shared`:
    the served numbers; `connections` that are open, and those `closed` by the service, by reason.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._scraped: list[_ScrapeCollector] = []
        labels = ["method", "route", "status"]
        self.requests = Histogram("pictoglot_request_seconds", "Requests.", labels, buckets=_SECONDS, registry=registry)
        self.parts = Histogram(
            "pictoglot_search_part_seconds", "Parts of a search.", ["part"], buckets=_PART_SECONDS, registry=registry
        )
        self.label_part: Callable[[str], Histogram] = cache(self.parts.labels)  # finding it takes as long as counting
        self.batches = Histogram(
            "pictoglot_batch_size", "Items encoded at once.", ["kind"], buckets=_SIZES, registry=registry
        )
        self.searches = Counter("pictoglot_searches", "Searches.", ["language", "source"], registry=registry)
        last, all_live = (partial(Gauge, registry=registry, multiprocess_mode=mode) for mode in ("livemin", "livesum"))
        self.release = last("pictoglot_release", "Number of the served release.")
        self.shared = last("pictoglot_shared_version", "Number of the shared version.")
        self.connections = all_live("pictoglot_connections", "Open connections.")
        self.closed = Counter(
            "pictoglot_connections_closed", "Connections closed by the service.", ["reason"], registry=registry
        )
        for reason in CLOSE_REASONS:
            self.closed.labels(reason)

    def watch(self, read: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Call `read` for more metrics at each scrape."""
        self._scraped.append(_ScrapeCollector(read))

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        whole = CollectorRegistry()
        if _COUNTED_TOGETHER in os.environ:
            MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        else:
            whole.register(self._registry)
        for collector in self._scraped:
            whole.register(collector)
        return generate_latest(whole)


class _ScrapeCollector(Collector):
    def __init__(self, read: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._read()


def make_gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pictoglot_{name}", help_text, value=value)


def make_gauge_family(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    """Make a metric with a count for each value of a label."""
    family = GaugeMetricFamily(f"pictoglot_{name}", help_text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the `code` that metrics count it by, and the sentence of `/readyz` if it has one."""

    code: str
    sentence: str = ""


@dataclass(frozen=True)
class Health:
    """The served snapshot, if there is any, and every fault."""

    snapshot: Snapshot | None
    faults: Sequence[Fault]

    @property
    def codes(self) -> set[str]:
        return {fault.code for fault in self.faults}

    @property
    def ready(self) -> bool:
        """Whether searches are accepted."""
        return self.snapshot is not None and self.codes.isdisjoint({_ENCODER_STOPPED, _DRAINING})


def check_health(context: "Context") -> Health:
    """Check this process; waits for the registry, as long as that takes to say that it does not answer."""
    snapshot = context.live.served
    return Health(snapshot, [*_find_faults(context, snapshot)])


def collect_metrics(context: "Context") -> Iterator[GaugeMetricFamily]:
    """Yield what is read anew at each scrape; nothing of expansions while the registry does not answer."""
    health = check_health(context)
    yield make_gauge("queue_texts", "Texts waiting to be encoded.", context.text_queue.depth)
    yield make_gauge("queue_pictures", "Pictures waiting to be encoded.", context.picture_queue.depth)
    yield make_gauge("cache_hits", "Query vectors taken from the cache.", context.text_queue.hits)
    yield make_gauge("cache_misses", "Query vectors that were not in the cache.", context.text_queue.misses)
    yield make_gauge("free_bytes", "Free space under the data root.", files.measure_free(context.settings.home))
    unsealed = context.live.unsealed_count if health.snapshot else 0
    yield make_gauge("unsealed_changes", "Changes of the gallery that no worker has sealed yet.", unsealed)
    degraded = {code: int(code in health.codes) for code in _CODES}
    yield make_gauge_family("degraded", "1 while `/readyz` says so.", "code", degraded)
    yield from _measure_scrub(context)
    expansions = [] if RegistryUnavailable.code in health.codes else _measure_expansions(context)
    yield make_gauge("registry_up", "1 while the registry answers, otherwise 0.", bool(expansions))
    yield from expansions


def _measure_expansions(context: "Context") -> list[GaugeMetricFamily]:
    """Measure the expansions; empty when the registry does not answer any more."""
    expansions = context.registry.expansions
    try:
        counts = dict.fromkeys(get_args(ExpansionState), 0) | expansions.count_by_state()
        abandoned, wait = len(expansions.list_runnable("running")), expansions.measure_longest_wait()
        still = expansions.measure_longest_silence()
    except RegistryUnavailable:
        return []
    return [
        make_gauge_family("expansions", "Expansions by state.", "state", counts),
        make_gauge("expansions_abandoned", "Running expansions whose worker is silent.", abandoned),
        make_gauge("longest_wait_seconds", "Longest wait of an expansion for a worker.", wait),
        make_gauge("longest_still_seconds", "Longest time since an attempt reported its progress.", still),
    ]


def _measure_scrub(context: "Context") -> Iterator[GaugeMetricFamily]:
    """Yield what the last scrub of this data root found; all is 0 before the first one."""
    report = scrub_report.load_report(context.live.sets.root) or scrub_report.ScrubReport(0, 0, 0, 0)
    yield make_gauge(
        "scrub_finished_seconds", "When everything stored was last read, since 1970; 0: never.", report.finished
    )
    yield make_gauge("scrub_files", "Files that the last scrub read.", report.files)
    yield make_gauge("scrub_bytes", "Bytes that the last scrub read.", report.bytes)
    yield make_gauge("scrub_damaged", "What the last scrub found damaged.", sum(report.found.values()))
    yield make_gauge("scrub_mended", "What of that it mended.", report.mended_count)
    yield make_gauge_family(
        "damaged",
        "What is damaged and could not be mended.",
        "kind",
        {k: report.unmended.get(k, 0) for k in scrub_report.KINDS},
    )


def _find_faults(context: "Context", snapshot: Snapshot | None) -> Iterator[Fault]:
    if not all(queue.alive for queue in (context.text_queue, context.picture_queue, context.write_queue)):
        yield Fault(_ENCODER_STOPPED)
    if context.stopping.is_set():
        yield Fault(_DRAINING)
    try:
        recorded = context.registry.encodings.find_current()
    except RegistryUnavailable as error:
        yield Fault(error.code)
    else:
        if recorded is not None and recorded.reason:
            made_by = Encoding(recorded.backend, recorded.precision)
            yield Fault(_ENCODING, f"{recorded.reason}; {made_by} computes the vectors instead.")
        if context.registry.refused_seconds > _REFUSED_SECONDS:
            yield Fault(_WRITES_REFUSED)
    if context.is_broker_down:
        yield Fault(_BROKER_DOWN)
    if not _is_writable(context):
        yield Fault(StorageFull.code)
    if (report := scrub_report.load_report(context.live.sets.root)) and report.unmended_count:
        counts = ", ".join(format_count(number, kind) for kind, number in sorted(report.unmended.items()))
        yield Fault(_DAMAGED, f"Damaged or unreadable, and not mended: {counts}. `pictoglot verify` names it.")
    if snapshot is None:
        yield Fault(IndexUnavailable.code)
        return
    if late := context.live.overdue_count:
        yield Fault(_UNSEALED, f"{late} changes of the gallery are not sealed yet: is a worker running?")
    for sentence in snapshot.degraded:
        yield Fault(_SNAPSHOT, sentence)


def _is_writable(context: "Context") -> bool:
    """Tell whether files can be written to the data root."""
    try:
        files.require_free(context.settings.home, context.settings.free_bytes)
    except StorageFull:
        return False
    return os.access(context.settings.home, os.W_OK)
