"""The status in Prometheus's format."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mpcdp.status.progress import BUCKETS, STATES, Seen
from mpcdp.status.snapshot import Status

__all__ = ["Metrics"]


class Metrics(Collector):
    """What Prometheus is told about one process.

    Args:
        status: of the process.

    Guarantees:
        Labels are names of the task's processes and of the error classes: no caller can add one.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if status.facts.serves:
            ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        status, facts, seen = self._status, self._status.facts, self._status.seen
        info = {"role": facts.role, "name": facts.name, "task": facts.task, "digest": facts.digest[:16]}
        yield InfoMetricFamily("mpcdp", "What runs here.", {**info, "version": facts.versions.get("mpcdp", "")})
        states = GaugeMetricFamily("mpcdp_session_state", "1 for the state the session is in.", labels=["state"])
        for state in STATES:
            states.add_metric([state], float(state == seen.state))
        yield states
        yield GaugeMetricFamily("mpcdp_rounds_planned", "Rounds of the plan.", facts.rounds)
        yield GaugeMetricFamily("mpcdp_rounds_done", "Rounds that are over.", seen.rounds)
        if facts.role in ("coordinator", "compute"):
            yield GaugeMetricFamily("mpcdp_owners_expected", "Owners that the task lists.", facts.owners)
            yield GaugeMetricFamily("mpcdp_owners_present", "Owners that take part now.", len(seen.owners))
        yield GaugeMetricFamily("mpcdp_epsilon_planned", "What all rounds cost.", facts.epsilon)
        yield GaugeMetricFamily("mpcdp_epsilon_spent", "What was paid up to now.", status.epsilon_spent(seen))
        expiry = facts.certificate_expires.timestamp()
        yield GaugeMetricFamily("mpcdp_certificate_expiry_timestamp_seconds", "When the certificate expires.", expiry)
        yield from self._traffic(seen)
        if facts.serves:
            yield _round_seconds(seen)

    def _traffic(self, seen: Seen) -> Iterator[Metric]:
        if (noise := self._status.noise) is not None:
            stock = GaugeMetricFamily("mpcdp_noise_samples", "Samples of the pool of joint noise.", labels=["state"])
            stock.add_metric(["free"], noise.free)
            stock.add_metric(["used"], noise.used)
            yield stock
        sent = CounterMetricFamily("mpcdp_bytes_sent", "Payload bytes sent, by peer.", labels=["peer"])
        for peer, count in sorted(self._status.bytes_sent.items()):
            sent.add_metric([peer], count)
        yield sent
        refused = CounterMetricFamily("mpcdp_refused", "Calls refused, by kind of error.", labels=["error"])
        for error, count in sorted(seen.refused.items()):
            refused.add_metric([error], count)
        yield refused
        handshakes = "Connections refused in the TLS handshake, or ended before their first call."
        yield CounterMetricFamily("mpcdp_handshakes_failed", handshakes, seen.handshakes_failed)
        left_out = "Entries that the log left out, because others caused too many of one kind."
        yield CounterMetricFamily("mpcdp_log_entries_left_out", left_out, self._status.left_out)


def _round_seconds(seen: Seen) -> Metric:
    buckets, total = [], 0
    for end, count in zip((*BUCKETS, None), seen.round_counts, strict=True):
        total += count
        buckets.append(("+Inf" if end is None else str(end), total))
    return HistogramMetricFamily(
        "mpcdp_round_seconds", "Time of a round.", buckets=buckets, sum_value=seen.round_seconds
    )
