"""Metrics: the format, what is counted, and who may ask."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.node.lease import EndReason
from bootlease.node.service.metrics import AgentMetrics
from bootlease.node.service.metricserver import MetricsServer
from bootlease.node.service.openmetrics import Counter, Gauge, Histogram, Info, exposition
from bootlease.node.wishbook import Wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.node.conftest import Rig

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})? [0-9.e+-]+')


def test_format() -> None:
    """Families, samples and the end stand as OpenMetrics wants them."""
    counter = Counter("c", "Counted.", "result", ("good", "bad"))
    counter.add("good")
    counter.add("good", 2)
    spread = Histogram("h_seconds", "Spread.", (0.5, 1.0), unit="seconds")
    for value in (0.25, 0.5, 0.75, 7.0):
        spread.observe(value)
    gauge = Gauge("g_bytes", "Now.", lambda: 2.5, unit="bytes")
    text = exposition([Info("i", "Info.", version="1"), counter, spread, gauge]).decode()
    assert text.splitlines() == [
        "# TYPE i info",
        "# HELP i Info.",
        'i_info{version="1"} 1',
        "# TYPE c counter",
        "# HELP c Counted.",
        'c_total{result="good"} 3',
        'c_total{result="bad"} 0',
        "# TYPE h_seconds histogram",
        "# UNIT h_seconds seconds",
        "# HELP h_seconds Spread.",
        'h_seconds_bucket{le="0.5"} 2',
        'h_seconds_bucket{le="1.0"} 3',
        'h_seconds_bucket{le="+Inf"} 4',
        "h_seconds_count 4",
        "h_seconds_sum 8.5",
        "# TYPE g_bytes gauge",
        "# UNIT g_bytes bytes",
        "# HELP g_bytes Now.",
        "g_bytes 2.5",
        "# EOF",
    ]
    assert text.endswith("\n")


def test_what_cannot_be_named() -> None:
    """A unit that the name does not end in, and a value that needs escapes, are mistakes."""
    with pytest.raises(ValueError, match="unit"):
        Gauge("g", "Now.", lambda: 1, unit="bytes")
    with pytest.raises(ValueError, match="escapes"):
        Info("i", "Info.", version='"')


def metrics_of(rig: Rig, wishes: Wishes) -> AgentMetrics:
    """Return the metrics of an agent."""
    return AgentMetrics(rig.keeper, wishes, rig.clock, lambda: 4)


def values(metrics: AgentMetrics) -> dict[str, float]:
    """Return every sample; each has the form of one."""
    lines = metrics.exposition().decode().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.fullmatch(line) for line in samples)
    assert len(lines) == len(set(lines))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in samples)}


def test_what_an_agent_counts(rig: Rig) -> None:
    """Grants, failures, ends, denials and times are those of the agent."""
    wishes = Wishes()
    agent = rig.start()
    metrics = metrics_of(rig, wishes)
    assert values(metrics)["bootlease_agent_deadline_seconds"] == 0
    outcome = agent.step()
    metrics.stepped(outcome, agent.node)
    rig.verifier.before = lambda _: (_ for _ in ()).throw(TransportError("gone"))
    metrics.stepped(agent.step(), agent.node)
    metrics.reloaded(accepted=True)
    found = values(metrics)
    assert found["bootlease_agent_leases"] == 1
    assert found["bootlease_agent_deadline_seconds"] == 120
    assert found['bootlease_agent_attempts_total{result="granted"}'] == 1
    assert found['bootlease_agent_attempts_total{result="failed"}'] == 1
    assert found['bootlease_agent_attempts_total{result="refused"}'] == 0
    assert found["bootlease_agent_attempt_seconds_count"] == 1
    assert found["bootlease_agent_quote_seconds_count"] == 2
    assert found["bootlease_agent_workload_connections"] == 4
    assert found['bootlease_agent_reloads_total{result="accepted"}'] == 1
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert outcome.granted is not None
    metrics.ended(EndReason.LAPSED, outcome.granted)
    assert values(metrics)['bootlease_agent_ends_total{reason="lapsed"}'] == 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """A socket that serves metrics."""
    tmp_path.chmod(0o700)
    server = MetricsServer(tmp_path / "m", lambda: b"# EOF\n")
    server.start()
    yield tmp_path / "m"
    server.stop()
    assert not (tmp_path / "m").exists()


def ask(where: Path | tuple[str, int], request: bytes) -> bytes:
    """Return what is answered to a request."""
    kind = socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET
    with socket.socket(kind) as connection:
        connection.settimeout(10)
        connection.connect(str(where) if isinstance(where, Path) else where)
        connection.sendall(request)
        answer = b""
        while data := connection.recv(4096):
            answer += data
    return answer


def test_scraped(served: Path) -> None:
    """GET /metrics is answered, one request after the other."""
    for _ in range(2):
        answer = ask(served, b"GET /metrics?x=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"content-type: application/openmetrics-text; version=1.0.0" in answer
        assert answer.endswith(b"\r\n\r\n# EOF\n")
    assert ask(served, b"HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").endswith(b"\r\n\r\n")
    assert oct(served.stat().st_mode)[-3:] == "660"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 405 "),
        (b"nonsense\r\n\r\n", b""),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 9000, b""),
    ],
)
def test_what_is_not_served(served: Path, request_: bytes, status: bytes) -> None:
    """Anything else is answered with its status or cut off, and the next is served."""
    try:
        answer = ask(served, request_)
    except ConnectionResetError:
        answer = b""
    assert answer.startswith(status)
    assert bool(answer) == bool(status)
    assert ask(served, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def silent(where: Path, count: int, streams: contextlib.ExitStack) -> list[socket.socket]:
    """Return connections that send nothing."""
    made = [streams.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
    for each in made:
        each.settimeout(10)
        each.connect(str(where))
    return made


def test_who_is_slow_holds_up_nobody(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing is served beside the others."""
    monkeypatch.setattr("bootlease.node.service.metricserver._PATIENCE", 60.0)
    with contextlib.ExitStack() as streams:
        silent(served, 3, streams)
        answer = ask(served, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_says_nothing_is_cut_off(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many say nothing, the next is served when their time is over."""
    monkeypatch.setattr("bootlease.node.service.metricserver._PATIENCE", 0.2)
    with contextlib.ExitStack() as streams:
        made = silent(served, 9, streams)
        answer = ask(served, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert made[0].recv(1) == b""


def test_who_does_not_read_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody takes is given up when its time is over."""
    monkeypatch.setattr("bootlease.node.service.metricserver._PATIENCE", 0.2)
    tmp_path.chmod(0o700)
    server = MetricsServer(tmp_path / "m", lambda: bytes(8 * 1024 * 1024))
    server.start()
    try:
        with contextlib.ExitStack() as streams:
            for deaf in silent(tmp_path / "m", 4, streams):
                deaf.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = ask(tmp_path / "m", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404 ")
    finally:
        server.stop()


def test_loopback() -> None:
    """A port of this machine serves too; one that is taken is an error in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"cannot serve metrics on port {port}"):
            MetricsServer(("127.0.0.1", port), lambda: b"").start()
    server = MetricsServer(("127.0.0.1", port), lambda: b"# EOF\n")
    server.start()
    try:
        assert ask(("127.0.0.1", port), b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    finally:
        server.stop()
