"""The numbers at `/metrics`, for Prometheus: what was asked, how long it took, what waits, what was replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musicgenre.audio import decoders_replaced
from musicgenre.server.uploads import Uploads
from musicgenre.server.workshop import Workshop

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OTHER = "other"  # addresses that are none of ours: strangers would fill the memory with them


class Metrics:
    """What is counted of one application.

    Parameters
    ----------
    workshop : Workshop
        Whose files are counted.
    uploads : Uploads
        Whose bytes are counted.
    """

    def __init__(self, workshop: Workshop, uploads: Uploads) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "musicgenre_requests", "Requests that were answered.", ("path", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "musicgenre_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("path",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_State(workshop, uploads))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self._registry)


class Counting:
    """Counts the requests that go through it.

    Parameters
    ----------
    app : ASGI application
        What is behind it.
    metrics : Metrics
        Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began_s = time.monotonic()
        status = "left"

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            path = getattr(scope.get("route"), "path", _OTHER)
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began_s)


class _State(Collector):
    """Numbers that others keep."""

    def __init__(self, workshop: Workshop, uploads: Uploads) -> None:
        self._workshop = workshop
        self._uploads = uploads

    def collect(self) -> Iterator[Metric]:
        """Give each as it is now."""
        files = CounterMetricFamily("musicgenre_files", "Files by what became of them.", labels=["outcome"])
        for outcome, number in sorted(self._workshop.outcomes.items()):
            files.add_metric([outcome], number)
        yield files

        running = self._workshop.n_running
        yield GaugeMetricFamily("musicgenre_files_running", "Files that are heard now.", value=running)
        inside = self._workshop.n_inside
        yield GaugeMetricFamily("musicgenre_requests_inside", "Requests that hold a place.", value=inside)
        n_bytes = self._uploads.n_bytes
        yield CounterMetricFamily("musicgenre_upload_bytes", "Bytes of bodies that came.", value=n_bytes)
        replaced = decoders_replaced()
        yield CounterMetricFamily("musicgenre_decoders_replaced", "Processes that were replaced.", value=replaced)
