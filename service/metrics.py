"""The metrics for Prometheus: requests, batches, searches, release, connections."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PART_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_SECONDS)
_COUNTED_TOGETHER = "PROMETHEUS_MULTIPROC_DIR"  # the library's name of the folder in which several processes count
CLOSE_REASONS = ("crowded", "late", "malformed")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


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
    """Make a metric with one value."""
    return GaugeMetricFamily(f"pictoglot_{name}", help_text, value=value)


def make_gauge_family(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    """Make a metric with a count for each value of a label."""
    family = GaugeMetricFamily(f"pictoglot_{name}", help_text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
