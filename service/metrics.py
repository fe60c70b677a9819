"""What Prometheus may read: requests, batches, queues, cache, languages, release, expansions. One set an app."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Count
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one application; nothing global, so that two may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._requests = Histogram(
            "pictoglot_request_seconds", "Requests.", labels, buckets=_SECONDS, registry=self._registry
        )
        self._batches = Histogram(
            "pictoglot_batch_size", "Items encoded at once.", ["kind"], buckets=_SIZES, registry=self._registry
        )
        self._searches = Count("pictoglot_searches", "Searches.", ["language", "source"], registry=self._registry)
        self._release = Gauge("pictoglot_release", "Number of the release that is served.", registry=self._registry)
        self._shared = Gauge("pictoglot_shared_version", "Number of the shared version.", registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is the template, never the path."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def batches(self, kind: str) -> Callable[[int], None]:
        """To be called with the size of each batch of a kind."""
        return self._batches.labels(kind).observe

    def search(self, language: str, source: str) -> None:
        """One search; `language` is a served tag or `shared`."""
        self._searches.labels(language, source).inc()

    def served(self, release: int, shared: int) -> None:
        """What a new snapshot serves."""
        self._release.set(release)
        self._shared.set(shared)

    def watch(self, read: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Ask `read` for more at each scrape."""
        self._registry.register(_Watched(read))

    def text(self) -> bytes:
        """Everything, in Prometheus' own format."""
        return generate_latest(self._registry)


class _Watched(Collector):
    def __init__(self, read: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._read()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []


def gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    """One number."""
    return GaugeMetricFamily(f"pictoglot_{name}", help_text, value=value)


def counted(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    """How often each value of a label occurs."""
    family = GaugeMetricFamily(f"pictoglot_{name}", help_text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
