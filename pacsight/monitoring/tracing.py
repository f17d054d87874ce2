"""One trace from association to delivery, across processes, machines and restarts.

The trace's id stands with the revision in the ledger. The receiver knows no studies and writes no
spans: when a revision is taken up, its worker tells from the ledger what happened before. Off until
an endpoint is set; then spans go to an OpenTelemetry collector, and if it is down they are lost.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span

Attributes: TypeAlias = Mapping[str, str | int | float | bool]
Note: TypeAlias = Callable[[str, str], None]
NS = 1_000_000_000


class Tracer:
    """Makes spans of traces whose ids are known. One per process; :data:`OFF` makes none.

    Parameters
    ----------
    processor
        Where spans go.
    """

    def __init__(self, role: str, processor: SpanProcessor | None) -> None:
        self._provider: TracerProvider | None = None
        if processor is None:
            return
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        self._ids = _PlannedIds()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "pacsight", "service.instance.role": role}),
            id_generator=self._ids.generator(),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("pacsight")

    @classmethod
    def to_endpoint(cls, role: str, endpoint: str | None) -> Tracer:
        """Return one that sends to an OpenTelemetry collector, OTLP over HTTP, or :data:`OFF`."""
        if endpoint is None:
            return OFF
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
        return cls(role, BatchSpanProcessor(exporter, schedule_delay_millis=1000))

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere."""
        return self._provider is not None

    def root(
        self, trace_id: str, name: str, start: float, end: float, attributes: Attributes
    ) -> None:
        """Write the span that all others of the trace hang below; times since 1970 UTC."""
        if self._provider is not None:
            with self._ids.planned(int(trace_id, 16), root_span_id(trace_id)):
                span = self._tracer.start_span(
                    name, start_time=int(start * NS), attributes=dict(attributes)
                )
            span.end(int(end * NS))

    def past(
        self, trace_id: str, name: str, start: float, end: float, attributes: Attributes
    ) -> None:
        """Write a span of something that is over; times since 1970 UTC."""
        if self._provider is not None:
            span = self._child(trace_id, name, attributes, int(start * NS))
            span.end(int(end * NS))

    @contextmanager
    def span(self, trace_id: str | None, name: str, attributes: Attributes) -> Iterator[Note]:
        """Write a span of what is done inside, which may note further attributes."""
        if self._provider is None or trace_id is None:
            yield lambda name, value: None
            return
        from opentelemetry.trace import StatusCode

        span = self._child(trace_id, name, attributes, None)
        try:
            yield span.set_attribute
        except BaseException as error:
            span.set_status(StatusCode.ERROR, getattr(error, "code", type(error).__name__))
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    def _child(
        self, trace_id: str, name: str, attributes: Attributes, start_ns: int | None
    ) -> Span:
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            TraceFlags,
            set_span_in_context,
        )

        parent = SpanContext(
            int(trace_id, 16), root_span_id(trace_id), True, TraceFlags(TraceFlags.SAMPLED)
        )
        return self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(parent)),
            start_time=start_ns,
            attributes=dict(attributes),
        )


class _PlannedIds(threading.local):
    """The ids of the next root span of a thread."""

    next: tuple[int, int] | None = None

    @contextmanager
    def planned(self, trace_id: int, span_id: int) -> Iterator[None]:
        """Let the span that is made inside have these ids."""
        self.next = trace_id, span_id
        try:
            yield
        finally:
            self.next = None

    def generator(self):  # type: ignore[no-untyped-def]  # its base is imported on demand
        """Return what the SDK asks for ids."""
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        ids = self

        class Generator(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return ids.next[0] if ids.next else super().generate_trace_id()

            def generate_span_id(self) -> int:
                return ids.next[1] if ids.next else super().generate_span_id()

        return Generator()


def root_span_id(trace_id: str) -> int:
    """Return the id of a trace's first span: every machine knows it without asking."""
    return int.from_bytes(hashlib.sha256(trace_id.encode()).digest()[:8], "big") or 1


OFF = Tracer("", None)
