"""The metrics for Prometheus: requests, batches, searches, release, connections."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PART_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_SECONDS)
CLOSE_REASONS = ("crowded", "late", "malformed")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one application; nothing is global, so that one process can hold two applications.

    `requests` by method, route (the template, never the path) and status, in seconds; `parts` of a search, in seconds;
    `batches` by kind, in items; `searches` by language (a served tag or `shared`) and source; `release` and `shared`:
    the served numbers; `connections` that are open, and those `closed` by the service, by reason.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
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
        self.release = Gauge("pictoglot_release", "Number of the served release.", registry=registry)
        self.shared = Gauge("pictoglot_shared_version", "Number of the shared version.", registry=registry)
        self.connections = Gauge("pictoglot_connections", "Open connections.", registry=registry)
        self.closed = Counter(
            "pictoglot_connections_closed", "Connections closed by the service.", ["reason"], registry=registry
        )
        for reason in CLOSE_REASONS:
            self.closed.labels(reason)

    def watch(self, read: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Call `read` for more metrics at each scrape."""
        self._registry.register(_ScrapeCollector(read))

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


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
