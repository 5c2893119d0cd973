"""Security events from a real verifier to real receivers, pushed and polled."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE
from bootlease.relyingparty.eventkeys import FetchedEventKeys
from bootlease.relyingparty.eventpoll import EventPoller
from bootlease.relyingparty.events import EventReceiver, PushEndpoint
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, free_port, verifier_process
from bootlease.token import KeySet
from bootlease.token.caep import (
    Compliance,
    DeviceComplianceChange,
    IssuerSubject,
    SessionRevoked,
    SessionSubject,
    StreamSubject,
    TokenClaimsChange,
    Verification,
)
from bootlease.token.eventkeys import EventKeySet
from bootlease.token.secevent import SecurityEvent
from bootlease.verifier.routes.events import MOST_WAITING

NewClient = Callable[..., AttestingClient]
AUDIENCE = "https://tools.example"
PROMPT = 2.0
"""Seconds within which a pushed revocation reaches its receiver."""
PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
HEADER = "Bearer of-the-receiver"


@dataclass
class Heard:
    """A receiver of events, and when it heard what.

    Attributes:
        receiver: Takes them.
        events: What it took, and when.
    """

    receiver: EventReceiver
    events: list[tuple[float, SecurityEvent]] = field(default_factory=list)

    @classmethod
    def of(cls, issuer: str) -> Heard:
        """Make one that believes a verifier."""

        def keep(event: SecurityEvent) -> None:
            made.events.append((time.monotonic(), event))

        keys = FetchedEventKeys(issuer)
        made = cls(EventReceiver(keys, issuer=issuer, audience=AUDIENCE, on_event=keep))
        return made

    def until(
        self, wanted: Callable[[SecurityEvent], bool], *, within: float = 20.0
    ) -> tuple[float, SecurityEvent]:
        """Wait for an event."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for at, event in list(self.events):
                if wanted(event):
                    return at, event
            time.sleep(0.005)
        raise AssertionError([event for _, event in self.events])


@contextmanager
def listening(heard: Heard, port: int) -> Iterator[None]:
    """Let a receiver listen."""
    endpoint = PushEndpoint(heard.receiver, authorization=HEADER)
    config = uvicorn.Config(endpoint, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Operator:
    """An operator of a verifier.

    Attributes:
        http: Carries the credential.
    """

    http: httpx2.Client

    def post(self, path: str, members: object, status: int = 201) -> dict[str, Any]:
        """Send JSON."""
        answer = self.http.post(path, json=members)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def stream(self, url: str | None = None) -> dict[str, Any]:
        """Make a stream, that is pushed to a URL or polled."""
        delivery = {"method": POLL}
        if url is not None:
            delivery = {"method": PUSH, "endpoint_url": url, "authorization_header": HEADER}
        return self.post("/v1/admin/streams", {"aud": AUDIENCE, "delivery": delivery})

    def pushed_to(self, port: int) -> dict[str, Any]:
        """Make a stream that is pushed to a port."""
        return self.stream(f"http://127.0.0.1:{port}/events")

    def streams(self) -> dict[str, dict[str, Any]]:
        """The streams by their ids."""
        listed = self.http.get("/v1/admin/streams").json()["streams"]
        return {each["stream_id"]: each for each in listed}

    def remove(self, stream: dict[str, Any]) -> None:
        """Remove a stream."""
        answer = self.http.delete(f"/v1/admin/streams/{stream['stream_id']}")
        assert answer.status_code == 200

    def revoke(self, kind: str, subject: str) -> None:
        """Revoke something."""
        wish = {"kind": kind, "subject": subject, "reason": "stolen"}
        self.post("/v1/admin/revocations", wish)


@contextmanager
def operating(verifier: VerifierProcess) -> Iterator[Operator]:
    """Operate a verifier."""
    headers = {"authorization": f"Bearer {verifier.credential}"}
    with httpx2.Client(base_url=verifier.url, headers=headers, timeout=20, trust_env=False) as http:
        yield Operator(http)


@pytest.fixture
def operator(running: VerifierProcess) -> Iterator[Operator]:
    """The operator; the streams that a test made are removed after it."""
    with operating(running) as made:
        yield made
        for stream in made.streams().values():
            made.remove(stream)


@pytest.fixture
def heard(running: VerifierProcess) -> Heard:
    """A receiver."""
    return Heard.of(running.url)


def poll(
    running: VerifierProcess, stream: dict[str, Any], secret: str | None = None, **members: Any
) -> httpx2.Response:
    """Poll once; at once unless told otherwise."""
    return httpx2.post(
        f"{running.url}/v1/streams/{stream['stream_id']}/poll",
        json={"returnImmediately": True, **members},
        headers={"authorization": f"Bearer {secret or stream['secret']}"},
        timeout=40,
        trust_env=False,
    )


def is_revoked(node: bytes) -> Callable[[SecurityEvent], bool]:
    """Tell that all sessions of a node ended."""
    return lambda event: (
        isinstance(event.event, SessionRevoked) and event.subject == SessionSubject(node)
    )


def test_the_configuration_says_what_there_is(
    running: VerifierProcess, operator: Operator, http: httpx2.Client
) -> None:
    """SSF §7.1: every URL in it answers, and the keys are none of the token keys."""
    members = http.get("/.well-known/ssf-configuration").json()
    assert members.pop("jwks_uri") == f"{running.url}/.well-known/event-jwks.json"
    assert members == {
        "spec_version": "1_0",
        "issuer": running.url,
        "delivery_methods_supported": [PUSH, POLL],
        "status_endpoint": f"{running.url}/v1/streams/status",
        "verification_endpoint": f"{running.url}/v1/streams/verification",
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        "default_subjects": "ALL",
    }
    published = http.get("/.well-known/event-jwks.json")
    assert published.headers["content-type"] == "application/jwk-set+json"
    events = EventKeySet.from_jwks(published.content)
    tokens = KeySet.from_jwks(http.get("/.well-known/jwks.json").content)
    assert {key.key_id for key in events.keys}.isdisjoint(key.key_id for key in tokens.keys)
    assert http.get(members["status_endpoint"]).status_code == 401
    assert http.post(members["verification_endpoint"], json={}).status_code == 401
    assert operator.http.get("/v1/admin/streams").json() == {"streams": []}


def test_a_pushed_revocation_is_there_within_two_seconds(
    operator: Operator, heard: Heard, new_client: NewClient
) -> None:
    """From the operator's request to the receiver's callback."""
    client = new_client()
    client.renew()
    port = free_port()
    with listening(heard, port):
        operator.pushed_to(port)
        began = time.monotonic()
        operator.revoke("node", client.node.hex())
        at, event = heard.until(is_revoked(client.node))
    print(f"pushed after {at - began:.3f} s")  # noqa: T201 - a measurement
    assert at - began < PROMPT
    assert isinstance(event.event, SessionRevoked)
    assert event.event.cause.reason == "stolen"
    assert event.issuer == str(operator.http.base_url).rstrip("/")


def test_a_polled_revocation_is_there_as_soon(
    running: VerifierProcess, operator: Operator, heard: Heard, new_client: NewClient
) -> None:
    """A poll that waits is answered when there is something."""
    client = new_client()
    (lease,) = client.renew().leases
    stream = operator.stream()
    url = stream["delivery"]["endpoint_url"]
    with EventPoller(heard.receiver, url, stream["secret"]):
        time.sleep(0.3)
        began = time.monotonic()
        operator.revoke("lease", lease.lease_id.hex())
        at, event = heard.until(lambda event: isinstance(event.event, SessionRevoked))
        assert at - began < PROMPT
        assert event.subject == SessionSubject(client.node, lease=lease.lease_id)
        # Acknowledged by the next poll.
        deadline = time.monotonic() + 10
        while operator.streams()[stream["stream_id"]]["queued"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        operator.remove(stream)
    assert poll(running, stream).status_code == 401


def test_a_refused_node_is_told_of_and_so_is_its_return(
    operator: Operator, heard: Heard, new_client: NewClient, good_boot: SimulatedBoot
) -> None:
    """Another boot does not comply; the old one does again."""
    client = new_client()
    client.renew()
    port = free_port()
    with listening(heard, port):
        operator.pushed_to(port)
        description = grub_description()
        other = description.with_command_line(f"{description.command_line} init=/bin/sh")
        client.device.boot(simulate_boot(other))
        refused = client.present(client.attest(full=True))
        assert refused.status_code == 403

        def changed(current: Compliance) -> Callable[[SecurityEvent], bool]:
            return lambda event: (
                isinstance(event.event, DeviceComplianceChange)
                and event.event.current is current
                and event.subject == SessionSubject(client.node)
            )

        _, gone = heard.until(changed(Compliance.NOT_COMPLIANT))
        _, ended = heard.until(lambda event: isinstance(event.event, SessionRevoked))
        assert isinstance(ended.subject, SessionSubject)
        assert ended.subject.node == client.node
        assert ended.subject.lineage is not None
        assert gone.transaction == ended.transaction
        client.device.boot(good_boot)
        client.head, client.challenge = None, None
        client.renew()
        heard.until(changed(Compliance.COMPLIANT))


def test_a_receiver_that_was_down_gets_what_it_missed(
    operator: Operator, heard: Heard, new_client: NewClient
) -> None:
    """Each once, in order, when it is there again."""
    clients = [new_client(), new_client()]
    for client in clients:
        client.renew()
    port = free_port()
    stream = operator.pushed_to(port)
    for client in clients:
        operator.revoke("node", client.node.hex())
    time.sleep(1)
    (shown,) = operator.streams().values()
    assert shown["queued"] == 2
    assert "cannot reach" in shown["trouble"]
    with listening(heard, port):
        for client in clients:
            heard.until(is_revoked(client.node))
    assert [event.subject for _, event in heard.events] == [
        SessionSubject(client.node) for client in clients
    ]
    assert operator.streams()[stream["stream_id"]]["trouble"] is None


def test_a_killed_verifier_loses_no_event(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes, good_boot: SimulatedBoot
) -> None:
    """What was revoked before is told after: the ledger is the outbox."""
    with verifier_process(
        private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as verifier:
        port = free_port()
        with operating(verifier) as operator:
            client = AttestingClient(
                operator.http, SimulatedNode(local_ca, boot=good_boot), (default_lease(),)
            )
            client.enrol()
            client.renew()
            operator.pushed_to(port)
            operator.revoke("node", client.node.hex())
            verifier.kill()
        heard = Heard.of(verifier.url)
        with listening(heard, port):
            verifier.start()
            heard.until(is_revoked(client.node))
        mode = (verifier.folder / "event-key.pem").stat().st_mode
        assert mode & 0o777 == 0o600
        # The key is made anew where it is lost, and receivers find the other one.
        verifier.kill()
        (verifier.folder / "event-key.pem").unlink()
        later = Heard.of(verifier.url)
        with listening(later, port):
            verifier.start()
            with operating(verifier) as operator:
                (stream,) = operator.streams().values()
                told = operator.post(
                    f"/v1/admin/streams/{stream['stream_id']}/verification", None, 200
                )
            assert told["delivered"]
            later.until(lambda event: isinstance(event.event, Verification))


def test_an_activated_policy_is_told(
    operator: Operator, heard: Heard, running: VerifierProcess
) -> None:
    """As a change of a claim of all tokens."""
    stream = operator.stream()
    answer = operator.http.post(
        "/v1/admin/policies",
        content=(running.folder.parent / "policy.toml").read_bytes(),
        headers={"content-type": "application/toml"},
    )
    assert answer.status_code == 201
    poller = EventPoller(heard.receiver, stream["delivery"]["endpoint_url"], stream["secret"])
    assert poller.poll(wait=True) == 1
    poller.close()
    ((_, event),) = heard.events
    assert event.subject == IssuerSubject()
    assert isinstance(event.event, TokenClaimsChange)
    assert event.event.claims["bootlease_policy"]["epoch"] == answer.json()["epoch"]


def test_what_is_not_acknowledged_comes_again(running: VerifierProcess, operator: Operator) -> None:
    """RFC 8936 §2.4: in any order; refused events do not come again and are seen by an operator."""
    stream = operator.stream()
    status = {"authorization": f"Bearer {stream['secret']}"}
    for state in "abc":
        asked = httpx2.post(
            f"{running.url}/v1/streams/verification",
            json={"stream_id": stream["stream_id"], "state": state},
            headers=status,
        )
        assert asked.status_code == 204
    first = poll(running, stream).json()
    assert list(first) == ["sets"]
    one, two, three = first["sets"]
    assert poll(running, stream).json() == first
    some = poll(running, stream, maxEvents=2).json()
    assert (list(some["sets"]), some["moreAvailable"]) == ([one, two], True)
    nothing = poll(running, stream, maxEvents=0, ack=[two]).json()
    assert nothing == {"sets": {}}
    refused = {one: {"err": "invalid_key", "description": "no"}}
    rest = poll(running, stream, setErrs=refused).json()
    assert list(rest["sets"]) == [three]
    assert operator.streams()[stream["stream_id"]]["trouble"] == (
        "an event was refused: invalid_key"
    )
    assert poll(running, stream, ack=[three, "unknown"]).json() == {"sets": {}}
    shown = operator.streams()[stream["stream_id"]]
    assert (shown["queued"], shown["trouble"]) == (0, None)


@pytest.mark.parametrize(
    "members",
    [
        {"maxEvents": -1},
        {"maxEvents": True},
        {"maxEvents": "1"},
        {"returnImmediately": 1},
        {"ack": "x"},
        {"ack": [1]},
        {"ack": ["x" * 129]},
        {"ack": ["x"] * 1001},
        {"setErrs": []},
        {"setErrs": {"x": {}}},
        {"setErrs": {"x": {"err": 1}}},
        {"setErrs": {"x": {"err": "a\nb"}}},
        {"setErrs": {"x" * 129: {"err": "invalid_key"}}},
        {"more": 1},
    ],
)
def test_a_malformed_poll_is_refused(
    running: VerifierProcess, operator: Operator, members: dict[str, Any]
) -> None:
    """Each is wrong in one way."""
    answer = poll(running, operator.stream(), **members)
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("malformed")


def test_a_stream_is_its_receivers_alone(running: VerifierProcess, operator: Operator) -> None:
    """Another stream's secret, none, and the operator's credential open nothing."""
    mine, other = operator.stream(), operator.stream()
    pushed = operator.stream("https://rp.example/events")
    for secret in (other["secret"], "x", running.credential, "blstr_"):
        assert poll(running, mine, secret).status_code == 401
    # It is pushed: nobody polls it.
    assert poll(running, pushed).status_code == 401
    status = f"{running.url}/v1/streams/status"
    for secret, expected in ((mine["secret"], 200), (other["secret"], 401), ("x", 401)):
        answer = httpx2.get(
            status,
            params={"stream_id": mine["stream_id"]},
            headers={"authorization": f"Bearer {secret}"},
        )
        assert answer.status_code == expected
        if expected == 200:
            assert answer.json() == {"stream_id": mine["stream_id"], "status": "enabled"}
    verification = f"{running.url}/v1/streams/verification"
    for named_id, body, expected in (
        (mine["stream_id"], {}, 204),
        (mine["stream_id"], {"state": "x"}, 204),
        (other["stream_id"], {}, 401),
        (mine["stream_id"], {"state": 7}, 400),
        (mine["stream_id"], {"state": "x" * 1025}, 400),
        (mine["stream_id"], {"more": "x"}, 400),
        (7, {}, 400),
    ):
        answer = httpx2.post(
            verification,
            json={"stream_id": named_id, **body},
            headers={"authorization": f"Bearer {mine['secret']}"},
        )
        assert answer.status_code == expected


def test_verifications_are_not_asked_for_without_end(
    running: VerifierProcess, operator: Operator
) -> None:
    """A receiver fills its own stream no faster than this."""
    stream = operator.stream()
    headers = {"authorization": f"Bearer {stream['secret']}"}
    with httpx2.Client(base_url=running.url, headers=headers, timeout=20) as http:
        statuses = [
            http.post(
                "/v1/streams/verification", json={"stream_id": stream["stream_id"]}
            ).status_code
            for _ in range(62)
        ]
    assert statuses[0] == 204
    assert statuses[-1] == 429


def test_polls_that_wait_are_few(running: VerifierProcess, operator: Operator) -> None:
    """One more is answered at once; an event answers all that wait."""
    stream = operator.stream()
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        waiting = [
            pool.submit(poll, running, stream, returnImmediately=False) for _ in range(MOST_WAITING)
        ]
        time.sleep(1)
        assert not any(each.done() for each in waiting)
        assert poll(running, stream, returnImmediately=False).json() == {"sets": {}}
        httpx2.post(
            f"{running.url}/v1/streams/verification",
            json={"stream_id": stream["stream_id"]},
            headers={"authorization": f"Bearer {stream['secret']}"},
        )
        answered = [each.result(timeout=10).json()["sets"] for each in waiting]
    assert all(len(each) == 1 for each in answered)
    assert answered.count(answered[0]) == MOST_WAITING


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"aud": AUDIENCE},
        {"aud": AUDIENCE, "delivery": {"method": "smoke signals"}},
        {"aud": AUDIENCE, "delivery": {"method": PUSH}},
        {"aud": AUDIENCE, "delivery": {"method": PUSH, "endpoint_url": "http://rp.example/"}},
        {"aud": AUDIENCE, "delivery": {"method": POLL, "endpoint_url": "https://rp.example/"}},
        {
            "aud": AUDIENCE,
            "delivery": {
                "method": PUSH,
                "endpoint_url": "https://rp.example/",
                "authorization_header": 7,
            },
        },
        {
            "aud": AUDIENCE,
            "delivery": {"method": PUSH, "endpoint_url": "https://rp.example/", "more": 1},
        },
        {"aud": AUDIENCE, "delivery": {"method": POLL}, "more": 1},
        {"aud": 7, "delivery": {"method": POLL}},
    ],
)
def test_a_malformed_wish_for_a_stream_is_refused(operator: Operator, wish: dict[str, Any]) -> None:
    """Each is wrong in one way."""
    operator.post("/v1/admin/streams", wish, 400)
    assert operator.streams() == {}


def test_streams_are_the_operators(running: VerifierProcess, operator: Operator) -> None:
    """Nobody else makes, lists, removes or verifies one; nothing shows what is secret."""
    stream = operator.pushed_to(free_port())
    path = f"{running.url}/v1/admin/streams"
    one = f"{path}/{stream['stream_id']}"
    for method, url in (
        ("POST", path),
        ("GET", path),
        ("DELETE", one),
        ("POST", f"{one}/verification"),
    ):
        headers = {"authorization": f"Bearer {stream['secret']}"}
        assert httpx2.request(method, url, headers=headers).status_code == 401
        assert httpx2.request(method, url).status_code == 401
    listed = operator.http.get("/v1/admin/streams").text
    assert stream["secret"] not in listed
    assert HEADER not in listed
    assert HEADER not in running.log
    assert operator.http.delete(f"/v1/admin/streams/{'0' * 32}").status_code == 404
    assert operator.http.post(f"/v1/admin/streams/{'0' * 32}/verification").status_code == 404


def test_the_commands_make_list_verify_and_remove(
    operator: Operator,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole life of a stream, as an operator types it."""
    credential = operator.http.headers["authorization"].removeprefix("Bearer ")
    monkeypatch.setenv(CREDENTIAL_VARIABLE, credential)
    monkeypatch.setenv("BOOTLEASE_VERIFIER", str(operator.http.base_url).rstrip("/"))

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(["verifier", "stream", *arguments])
        return code, *capsys.readouterr()

    port = free_port()
    header = tmp_path / "header"
    header.write_text(f"{HEADER}\n")
    url = f"http://127.0.0.1:{port}/events"
    code, made, _ = command(
        *("add", "--audience", AUDIENCE, "--push", url),
        *("--authorization-file", str(header), "--json"),
    )
    assert code == 0
    stream = json.loads(made)["stream_id"]
    with listening(heard, port):
        code, told, _ = command("verify", stream)
        assert (code, "was taken after" in told) == (0, True)
        heard.until(lambda event: event.subject == StreamSubject(stream))
    code, told, _ = command("verify", stream)
    assert code == 3
    assert "cannot reach" in told
    code, listed, _ = command("list")
    assert f"{stream} is pushed to {url}, for {AUDIENCE}" in listed
    assert "enabled: 1 events wait, the oldest since" in listed
    assert "trouble: cannot reach" in listed
    code, secret, where = command("add", "--audience", AUDIENCE, "--poll")
    assert secret.startswith("blstr_")
    assert "is polled at" in where
    assert command("remove", stream)[:2] == (0, f"stream {stream} is removed\n")
    assert len(json.loads(command("list", "--json")[1])["streams"]) == 1
    for wrong in (
        ("add", "--audience", AUDIENCE),
        ("add", "--audience", AUDIENCE, "--poll", "--push", url),
        ("add", "--audience", AUDIENCE, "--poll", "--authorization-file", str(header)),
        ("remove", "x"),
        ("verify", stream),
        ("add", "--audience", AUDIENCE, "--push", "http://rp.example/"),
    ):
        assert command(*wrong)[0] == 2
    header.write_text("\n")
    empty = command(
        "add", "--audience", AUDIENCE, "--push", url, "--authorization-file", str(header)
    )
    assert empty[0] == 2
