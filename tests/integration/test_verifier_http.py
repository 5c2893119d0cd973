"""What the verifier does with requests that are wrong, huge, slow or not allowed."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.verifier_process import VerifierProcess
from bootlease.verifier.operators.roles import ROUTE_ROLES
from bootlease.verifier.problems import MEDIA_TYPE, ProblemKind

NewClient = Callable[..., AttestingClient]
EVIDENCE = "application/vnd.bootlease.evidence+cbor"
ENROLMENT = "application/vnd.bootlease.enrolment+cbor"
NODE = "0" * 63 + "1"
LEASES = f"/v1/nodes/{NODE}/leases"
MEBIBYTE = 1024 * 1024


def rss(pid: int, field: str = "VmHWM") -> int:
    """Peak resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def raw(running: VerifierProcess, *parts: bytes, timeout: float = 30.0) -> tuple[bytes, int]:
    """Send parts until the verifier answers or hangs up; return its answer and what was sent."""
    host, _, port = running.url.partition("://")[2].partition(":")
    sent = 0
    answer = b""
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                sent += len(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
    return answer, sent


def problem_of(answer: bytes) -> dict[str, Any]:
    """The problem document of a raw answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-type: {MEDIA_TYPE}".encode() in head.lower()
    members: dict[str, Any] = json.loads(body)
    assert head.split(b" ")[1] == str(members["status"]).encode()
    return members


def head(length: int | None, media_type: str = EVIDENCE, path: str = LEASES) -> bytes:
    """A request's head."""
    size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    return (
        f"POST {path} HTTP/1.1\r\nhost: v\r\nconnection: close\r\n"
        f"content-type: {media_type}\r\n{size}\r\n\r\n"
    ).encode()


def test_a_gigabyte_is_refused_by_its_announcement(running: VerifierProcess) -> None:
    """413 before a byte of the body is read."""
    answer, _ = raw(running, head(1 << 30))
    assert problem_of(answer)["status"] == 413


def test_chunks_are_refused_before_they_are_parsed(running: VerifierProcess) -> None:
    """A body without a length is 411 at its headers: small chunks would keep the parser busy."""
    before = rss(running.pid)
    chunks = b"1\r\nx\r\n" * 50_000
    started = time.monotonic()
    answer, sent = raw(running, head(None), *([chunks] * 200))
    assert problem_of(answer)["status"] == 411
    assert sent < 32 * MEBIBYTE
    assert time.monotonic() - started < 5
    assert rss(running.pid) - before < 64 * MEBIBYTE
    answer, _ = raw(running, head(None).replace(b"POST", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert answer.endswith(b"\r\n\r\n")


Connect = Callable[[str], socket.socket]


@pytest.fixture
def connect(running: VerifierProcess) -> Iterator[Connect]:
    """Opens connections from the loopback address that is asked for."""
    host, _, port = running.url.partition("://")[2].partition(":")
    with contextlib.ExitStack() as connections:
        yield lambda source: connections.enter_context(
            socket.create_connection((host, int(port)), 20, (source, 0))
        )


def leases_of(client: AttestingClient) -> str:
    """Path of a node's leases."""
    return f"/v1/nodes/{client.node.hex()}/leases"


def statuses_of(connections: list[socket.socket]) -> list[bytes]:
    """What was answered on each connection by now; empty where nothing was."""
    statuses = []
    for connection in connections:
        connection.settimeout(0.5)
        try:
            statuses.append(connection.recv(65536).split(b" ")[1])
        except (TimeoutError, ConnectionResetError):
            statuses.append(b"")
    return statuses


def test_announcements_hold_no_room(
    running: VerifierProcess, connect: Connect, new_client: NewClient
) -> None:
    """Whoever announces much and sends nothing keeps neither a node nor the operator waiting."""
    client = new_client()
    idle = [connect(f"127.0.0.{3 + number // 8}") for number in range(32)]
    for connection in idle:
        connection.sendall(head(9 * MEBIBYTE, path=leases_of(client)))
    time.sleep(0.2)
    padded = client.device.event_log + bytes(34_000)
    evidence = client.attest(full=True, log=padded)
    assert len(evidence.encode()) > 32 * 1024
    assert client.present(evidence).status_code == 200
    upload = client.http.post(
        "/v1/admin/policies",
        content=b"#" * 20_000,
        headers={
            "content-type": "application/toml",
            "authorization": f"Bearer {running.credential}",
        },
    )
    assert upload.status_code == 400
    assert "20000" not in upload.text


def test_long_bodies_of_one_client_do_not_keep_another_waiting(
    running: VerifierProcess, connect: Connect, new_client: NewClient
) -> None:
    """One address may have two of them at once; the others are told to come back."""
    client = new_client()
    before = rss(running.pid)
    connections = [connect("127.0.0.9") for _ in range(12)]
    for connection in connections:
        connection.sendall(head(9 * MEBIBYTE, path=leases_of(client)) + b"\0" * MEBIBYTE)
    statuses = statuses_of(connections)
    assert statuses.count(b"503") >= 8
    assert statuses.count(b"200") == 0
    evidence = client.attest(full=True, log=client.device.event_log + bytes(300_000))
    assert client.present(evidence).status_code == 200
    assert rss(running.pid) - before < 64 * MEBIBYTE


def test_long_bodies_of_many_clients_stay_in_bounded_memory(
    running: VerifierProcess, connect: Connect, new_client: NewClient
) -> None:
    """What arrived is budgeted in all, and ordinary evidence has a budget of its own."""
    client = new_client()
    before = rss(running.pid)
    connections = [connect(f"127.0.1.{number + 1}") for number in range(24)]
    for connection in connections:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head(9 * MEBIBYTE, path=leases_of(client)) + b"\0" * 4 * MEBIBYTE)
    evidence = client.attest(full=True, log=client.device.event_log + bytes(34_000))
    assert client.present(evidence).status_code == 200
    assert statuses_of(connections).count(b"503") >= 12
    assert rss(running.pid) - before < 96 * MEBIBYTE


def test_a_long_body_for_an_unknown_node_is_not_read(running: VerifierProcess) -> None:
    """404 by the path."""
    answer, _ = raw(running, head(9 * MEBIBYTE))
    assert problem_of(answer)["type"] == ProblemKind.UNKNOWN_NODE.uri


def test_ten_million_items_are_refused_before_they_are_parsed(
    running: VerifierProcess, new_client: NewClient
) -> None:
    """A document of small items costs no more than its bytes (attack G7's cousin)."""
    count = 9 * MEBIBYTE
    body = b"\x9a" + count.to_bytes(4, "big") + b"\0" * count
    path = leases_of(new_client())
    before, started = rss(running.pid), time.monotonic()
    answer, _ = raw(running, head(len(body), path=path), body)
    assert problem_of(answer)["status"] == 413
    assert time.monotonic() - started < 5
    assert rss(running.pid) - before < 64 * MEBIBYTE


@pytest.mark.parametrize(
    ("body", "path", "media_type"),
    [
        (b"", LEASES, EVIDENCE),
        (b"\xa7\x61v", LEASES, EVIDENCE),
        (b"\x81" * 10_000, LEASES, EVIDENCE),
        (b"\xa1" * 10_000, "/v1/enrolments", ENROLMENT),
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "/v1/enrolments", ENROLMENT),
        (b"\xbf\xff", "/v1/enrolments", ENROLMENT),
        (b'{"v": 1}', "/v1/enrolments", ENROLMENT),
    ],
    ids=["empty", "truncated", "deep", "deep-maps", "huge-string", "indefinite", "json"],
)
def test_malformed_bodies_get_a_problem_document(
    http: httpx2.Client, new_client: NewClient, body: bytes, path: str, media_type: str
) -> None:
    """400 with a sentence, whatever the bytes."""
    path = leases_of(new_client()) if path == LEASES else path
    answer = http.post(path, content=body, headers={"content-type": media_type})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["type"] == ProblemKind.MALFORMED.uri
    assert answer.json()["request"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/cbor"},
        {"content-type": f"{EVIDENCE}; charset=utf-8"},
        {"content-type": "text/plain"},
        {},
        {"content-type": EVIDENCE, "content-encoding": "gzip"},
        {"content-type": EVIDENCE, "content-encoding": "zstd"},
    ],
)
def test_other_media_types_and_encodings_are_refused(
    http: httpx2.Client, headers: dict[str, str]
) -> None:
    """415: nothing is guessed, nothing is inflated."""
    answer = http.post(LEASES, content=b"\xa0", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_a_second_content_encoding_is_refused(running: VerifierProcess) -> None:
    """One that says "identity" does not hide another behind it."""
    for first, second in (("identity", "gzip"), ("identity", "identity")):
        codings = f"content-encoding: {first}\r\ncontent-encoding: {second}\r\n\r\n".encode()
        answer, _ = raw(running, head(1).removesuffix(b"\r\n") + codings + b"x")
        assert problem_of(answer)["status"] == 415


def test_an_enrolment_has_a_smaller_limit(http: httpx2.Client) -> None:
    """64 kB are plenty for keys and certificates."""
    answer = http.post(
        "/v1/enrolments", content=b"\0" * 65_537, headers={"content-type": ENROLMENT}
    )
    assert answer.status_code == 413


def test_a_challenge_takes_no_body(http: httpx2.Client) -> None:
    """What has no meaning is refused."""
    assert http.post(f"/v1/nodes/{NODE}/challenges", content=b"x").status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", LEASES, 405),
        ("PUT", "/v1/enrolments", 405),
        ("OPTIONS", "/healthz", 405),
        ("GET", "/", 404),
        ("GET", "/v1/enrolments/", 404),
        ("POST", "/v1/nodes/xyz/challenges", 404),
        ("POST", f"/v1/nodes/{NODE.replace('1', 'A')}/challenges", 404),
        ("POST", f"/v1/nodes/{NODE}00/challenges", 404),
        ("GET", "/docs", 404),
    ],
)
def test_wrong_paths_and_methods_get_problem_documents(
    http: httpx2.Client, method: str, path: str, status: int
) -> None:
    """404 and 405 look like every other problem."""
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["status"] == status


def test_what_is_not_http_gets_a_problem_document(running: VerifierProcess) -> None:
    """Noise on the socket is answered and the connection closed."""
    answer, _ = raw(running, b"\x16\x03\x01 noise\r\n\r\n")
    assert problem_of(answer)["status"] == 400
    answer, _ = raw(running, b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)
    assert problem_of(answer)["status"] == 400


@pytest.mark.parametrize("length", [17_000, 60_000])
def test_long_headers_are_refused_even_where_they_arrive_at_once(
    running: VerifierProcess, length: int
) -> None:
    """The limit counts for what is complete too."""
    request = b"GET /healthz HTTP/1.1\r\nhost: v\r\nx: " + b"y" * length + b"\r\n\r\n"
    answer, _ = raw(running, request)
    assert problem_of(answer)["status"] == 400


def test_a_pipelined_request_is_not_answered(running: VerifierProcess) -> None:
    """One request at a time: what came behind it is dropped with the connection."""
    answer, _ = raw(running, b"GET /healthz HTTP/1.1\r\nhost: v\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_one_address_cannot_use_up_the_connections(
    connect: Connect, http: httpx2.Client, running: VerifierProcess
) -> None:
    """Its idle connections make room for its own further ones; busy ones do not."""
    connections = [connect("127.0.0.20") for _ in range(300)]
    for connection in connections[-10:]:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: v\r\n\r\n")
    assert statuses_of(connections[-10:]) == [b"200"] * 10
    assert connections[0].recv(1) == b""
    for connection in connections[-250:]:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head(1000))
    busy = [connect("127.0.0.20") for _ in range(256)]
    for connection in busy:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head(1000))
    time.sleep(0.5)
    refused = connect("127.0.0.20")
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := refused.recv(65536):
            answer += chunk
    assert problem_of(answer)["type"] == ProblemKind.BUSY.uri
    assert http.get("/healthz").status_code == 200
    assert "traceback" not in running.log


def drip_into(running: VerifierProcess, request: bytes) -> bytes:
    """Send a head and then its body a byte at a time; return what is answered in the end."""
    host, _, port = running.url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        connection.settimeout(0.5)
        while not answer:
            connection.sendall(b"x")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        # Head and body may come apart, and the verifier may close on the drip in between.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while more := connection.recv(65536):
                answer += more
    return answer


def test_a_slow_body_is_given_up(running: VerifierProcess) -> None:
    """408 after the deadline, however lively the drip; for a node's usual request too."""
    started = time.monotonic()
    heads = [head(1000), head(1000).replace(b"connection: close\r\n", b"")]
    with ThreadPoolExecutor(len(heads)) as threads:
        answers = list(threads.map(lambda each: drip_into(running, each), heads))
    assert [problem_of(answer)["status"] for answer in answers] == [408, 408]
    assert 10 < time.monotonic() - started < 20


def test_headers_that_never_end_lose_their_connection(running: VerifierProcess) -> None:
    """A silent connection and a dripping one are closed."""
    host, _, port = running.url.partition("://")[2].partition(":")
    address = (host, int(port))
    with (
        socket.create_connection(address, timeout=15) as silent,
        socket.create_connection(address, timeout=15) as drip,
    ):
        drip.sendall(b"POST /v1/enrolments HTTP/1.1\r\n")
        assert silent.recv(1) == b""
        assert drip.recv(1) == b""


def admin_routes(paths: dict[str, dict[str, Any]]) -> set[tuple[str, str]]:
    """Return every admin route that the interface describes."""
    return {
        (method.upper(), path)
        for path, methods in paths.items()
        if path.startswith("/v1/admin")
        for method in methods
    }


def test_every_admin_route_needs_the_credential(
    running: VerifierProcess, http: httpx2.Client
) -> None:
    """Without it, 401, whatever else is right or wrong with the request (attack B8)."""
    paths = http.get("/openapi.json").json()["paths"]
    routes = admin_routes(paths)
    assert routes == {route for route in ROUTE_ROLES if route[1].startswith("/v1/admin")}
    for method, template in routes:
        assert "adminCredential" in json.dumps(paths[template][method.lower()]["security"])
    # Each from an address of its own, for one address is not heard after many wrong ones.
    for number, authorization in enumerate(
        ("", f"Bearer {running.credential[:-1]}", f"Basic {running.credential}")
    ):
        transport = httpx2.HTTPTransport(local_address=f"127.0.0.{number + 2}")
        headers = {"authorization": authorization} if authorization else {}
        with httpx2.Client(
            base_url=running.url, headers=headers, transport=transport, trust_env=False
        ) as client:
            for method, template in sorted(routes):
                answer = client.request(method, re.sub("{[a-z]+}", NODE, template), content=b"{}")
                assert answer.status_code == 401, (method, template)
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert running.credential not in running.log


def test_wrong_credentials_are_rate_limited(http: httpx2.Client, running: VerifierProcess) -> None:
    """After some wrong ones this client is not heard for a while."""
    headers = {"authorization": f"Bearer {running.credential[:-1]}"}
    for _ in range(130):
        last = http.get("/v1/admin/nodes", headers=headers)
        if last.status_code == 429:
            break
        assert last.status_code == 401
    assert last.status_code == 429
    assert 1 <= int(last.headers["retry-after"]) <= 60


def test_challenges_are_rate_limited_for_each_client_and_node(new_client: NewClient) -> None:
    """Asking without answering ends; renewing goes on (attack G8)."""
    client = new_client()
    client.renew()
    path = f"/v1/nodes/{client.node.hex()}/challenges"
    statuses = [client.http.post(path).status_code for _ in range(70)]
    assert statuses[0] == 201
    assert statuses[-1] == 429
    client.renew()


def test_health_readiness_configuration_and_keys(
    running: VerifierProcess, http: httpx2.Client
) -> None:
    """What anybody may know."""
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "policy_epoch": 1}
    configuration = http.get("/.well-known/bootlease-configuration").json()
    assert configuration["issuer"] == running.url
    assert configuration["life"] == 120
    assert configuration["media_types"]["evidence"] == EVIDENCE
    jwks = http.get("/.well-known/jwks.json")
    assert jwks.headers["content-type"] == "application/jwk-set+json"
    assert jwks.headers["cache-control"] == "public, max-age=60"
    assert "d" not in jwks.json()["keys"][0]
    cose = http.get("/.well-known/cose-keys")
    assert cose.headers["content-type"] == "application/cose-key-set"


def _answers(http: httpx2.Client, client: AttestingClient) -> Iterator[tuple[str, httpx2.Response]]:
    node = client.node.hex()
    yield "/v1/enrolments", client.request_enrolment()
    yield "/v1/enrolments", http.post("/v1/enrolments", content=b"")
    yield "/v1/nodes/{node}/challenges", http.post(f"/v1/nodes/{node}/challenges")
    yield "/v1/nodes/{node}/challenges", http.post(f"/v1/nodes/{NODE}/challenges")
    yield "/v1/nodes/{node}/leases", client.present(client.attest())
    yield "/v1/nodes/{node}/leases", client.present(b"")
    yield "/v1/nodes/{node}/leases", http.post(f"/v1/nodes/{node}/leases", content=b"x")
    yield "/v1/nodes/{node}/leases", client.present(client.attest(), bytes(32))
    for path in ("/healthz", "/readyz", "/.well-known/jwks.json", "/.well-known/cose-keys"):
        yield path, http.get(path)


def test_openapi_tells_the_truth(http: httpx2.Client, new_client: NewClient) -> None:
    """Every answer's status and media type is one that the interface describes for its route."""
    paths = http.get("/openapi.json").json()["paths"]
    for template, answer in _answers(http, new_client()):
        described = paths[template][answer.request.method.lower()]["responses"]
        assert str(answer.status_code) in described, (template, answer.status_code)
        media_types = described[str(answer.status_code)]["content"]
        assert answer.headers["content-type"] in media_types, (template, answer.status_code)
    assert "422" not in json.dumps(paths)
