"""/metrics: the daemon's counts, and the queue's figures, as Prometheus and OpenMetrics read them."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

import ayb_jobs
from ayb_jobs.checks.gauges import Figures, gauges_of_state
from ayb_jobs.errors import AybJobsError
from ayb_jobs.http.requests import Given
from ayb_jobs.http.services import Services
from ayb_jobs.metrics import CATALOGUE, MOST_QUEUES, Histogram, Kind, Labels, Names
from ayb_jobs.storage.requests import reading

# However many scrapers there are, the database is asked at most so often, and each statement may take so long.
GAUGES_FRESH_S = 5.0
GAUGES_S = 0.05


def router() -> APIRouter:
    """Return the route of the metrics. They name job types and queues but no jobs; no token is needed."""
    routes = APIRouter(tags=["health"])
    content = {"text/plain": {"schema": {"type": "string"}}}
    routes.add_api_route(
        "/metrics",
        metrics,
        summary="Metrics for Prometheus",
        response_model=None,
        responses={200: {"description": "The metrics", "content": content}},
    )
    return routes


def metrics(request: Request, services: Given) -> Response:
    """Return every metric, in the format that the scraper prefers."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(_registry(request, services)), headers={"Content-Type": content_type})


def _registry(request: Request, services: Services) -> CollectorRegistry:
    state = request.app.state
    if not hasattr(state, "prometheus"):
        state.prometheus = CollectorRegistry()
        state.prometheus.register(QueueCollector(services))
        ProcessCollector(registry=state.prometheus)
    registry: CollectorRegistry = state.prometheus
    return registry


class QueueCollector(Collector):
    """Turns the daemon's counts and the queue's figures into metric families."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._queue = Names(MOST_QUEUES, services.queues)
        self._lock = threading.Lock()
        self._gauges: Figures | None = None
        self._measured = float("-inf")

    def describe(self) -> Iterable[Family]:
        """Return nothing, so that registering measures nothing."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yield every metric of the catalogue, with the values it has now."""
        snapshot = self._services.metrics.snapshot()
        numbers = {**snapshot.numbers, **self._figures()}
        for name, metric in CATALOGUE.items():
            match metric.kind:
                case Kind.HISTOGRAM:
                    values = snapshot.histograms.get(name, {})
                    yield histogram_family(name, metric.meaning, metric.labels, metric.buckets, values)
                case Kind.COUNTER:
                    yield _filled(
                        CounterMetricFamily(name, metric.meaning, labels=metric.labels), numbers.get(name, {})
                    )
                case Kind.GAUGE:
                    yield _filled(GaugeMetricFamily(name, metric.meaning, labels=metric.labels), numbers.get(name, {}))

    def _figures(self) -> dict[str, Mapping[Labels, float]]:
        services = self._services
        figures: dict[str, Mapping[Labels, float]] = {
            "ayb_jobs_build_info": {(ayb_jobs.__version__,): 1},
            "ayb_jobs_loop_age_seconds": {(loop.name,): loop.age_s for loop in services.loops()},
            "ayb_jobs_slots": {(state,): count for state, count in services.slots().items()},
            "ayb_jobs_listener_failures": {(): services.events.listener_failures},
        }
        gauges = self._fresh_gauges()
        return {**figures, "ayb_jobs_database_up": {(): 0 if gauges is None else 1}, **(gauges or {})}

    def _fresh_gauges(self) -> Figures | None:
        """Return the queue's figures, or None if the database does not give them in time."""
        with self._lock:
            if time.monotonic() - self._measured > GAUGES_FRESH_S:
                try:
                    with reading(self._services.database, GAUGES_S) as conn:
                        queues = self._services.queues
                        self._queue.keep(queues)
                        self._gauges = gauges_of_state(conn, queues=queues, label=self._queue)
                except AybJobsError:  # even if the database refuses to compute with a value that it holds
                    self._gauges = None
                self._measured = time.monotonic()
            return self._gauges


def histogram_family(
    name: str, meaning: str, labels: Labels, bounds: Iterable[float], values: Mapping[Labels, Histogram]
) -> HistogramMetricFamily:
    """Return a histogram's family; its counts are cumulative, as scrapers expect them."""
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for label_values, histogram in values.items():
        total = 0
        buckets = []
        for bound, count in zip([*map(str, bounds), "+Inf"], histogram.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(label_values, buckets, histogram.sum)
    return family


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Labels, float]) -> Family:
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family
