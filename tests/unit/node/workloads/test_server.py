"""What workloads can do, and what they cannot, over a real socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.localapi import (
    Alive,
    ConfirmationChoice,
    Denied,
    Ended,
    EndedReason,
    Event,
    Granted,
    Unreached,
)
from bootlease.model import Effect, Finding
from bootlease.node import logline
from bootlease.node.confirm import Confirmation
from bootlease.node.lease import EndReason
from bootlease.node.observing import Outcome
from bootlease.node.wish import LeaseWish
from bootlease.node.workloads import Rules, wishing
from bootlease.node.workloads.journal import Journal
from bootlease.testing.tokens import HOLDER, ISSUER, fixed_signer
from bootlease.token import TokenFormat, base64url, verify_proof, verify_token
from bootlease.workload import AgentGoneError, LeaseStream, new_handle
from tests.unit.node.workloads.conftest import (
    API,
    AUDIENCE,
    OTHER_USER,
    drain,
    finding_ids,
    rule,
    run_as_other_user,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = ["tool:search"]
GUARD = b"Bootlease-Workload: true\r\n"


def opened(api: API, **changes: object) -> LeaseStream:
    """Open a lease, and have it granted."""
    stream = api.client.lease(SCOPE, AUDIENCE, **changes)  # type: ignore[arg-type]
    api.core.grant()
    assert isinstance(stream.next_event(3), Granted)
    return stream


def until(stream: LeaseStream, kind: type[Event]) -> Event:
    """Return the next event of a kind."""
    while not isinstance(event := stream.next_event(3), kind):
        assert event is not None
    return event


def refused(call: Callable[[], object]) -> list[str]:
    """Return the findings of a refusal."""
    with pytest.raises(VerificationError) as caught:
        call()
    return [finding.id for finding in caught.value.findings]


# -- leases


def test_a_lease_is_wished_for_as_long_as_its_stream_is_open(api: API) -> None:
    """Opening it adds a wish, and closing it withdraws that."""
    with api.client.lease(SCOPE, AUDIENCE, encoding="jwt", level=0):
        (wished,) = api.core.wishes.snapshot()
        assert wished.wish.scope == ("tool:search",)
        assert wished.wish.audience == AUDIENCE
        assert wished.wish.encoding.value == "jwt"
        assert wished.wish.optional
        assert wished.key is Confirmation.PROCESS
    wait_until(lambda: not api.core.wishes.snapshot())
    wait_until(lambda: api.server.leases == 0 and api.server.connections == 0)
    assert api.names() == ["workload.opened", "workload.closed"]


@pytest.mark.parametrize("encoding", list(TokenFormat))
def test_a_grant_reaches_its_workload(serve: Callable[..., API], encoding: TokenFormat) -> None:
    """With a token that counts, and both ends of the lease."""
    api = serve(rule(encoding=frozenset(TokenFormat)))
    with opened(api, encoding=encoding) as stream:
        granted = api.client.current(stream.handle)
    token = granted.token if encoding is not TokenFormat.CWT else granted.token_bytes()
    claims = verify_token(
        token, api.core.issuer.keys, now=time.time(), issuer=ISSUER, audience=AUDIENCE
    ).claims
    assert (granted.lease_id, granted.scope) == (claims.lease_id.hex(), claims.scope)
    assert (granted.encoding, granted.expires_at) == (encoding, claims.expires_at)
    left = granted.deadline - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 55 < left <= 60
    assert granted.life == 60


def test_each_workload_gets_its_own(api: API) -> None:
    """One decision serves all; nobody sees another's token."""
    with api.client.lease(["tool:a"], AUDIENCE) as a, api.client.lease(["tool:b"], AUDIENCE) as b:
        api.core.grant()
        for stream, scope in ((a, ("tool:a",)), (b, ("tool:b",))):
            granted = stream.next_event(3)
            assert isinstance(granted, Granted)
            assert granted.scope == scope
            assert granted.handle == stream.handle


def test_renewals_and_ends_are_told(api: API) -> None:
    """In order; an end is told to those who wait too, and the stream stays."""
    with opened(api) as stream:
        api.core.grant()
        assert isinstance(stream.next_event(3), Granted)
        found = Finding("quote.nonce.mismatch", "No.")
        for reason, told in (
            (EndReason.LAPSED, EndedReason.LAPSED),
            (EndReason.REFUSED, EndedReason.REFUSED),
            (EndReason.REBOOTED, EndedReason.REBOOTED),
            (EndReason.UNUSABLE, EndedReason.LAPSED),
        ):
            api.core.end(reason, found)
            assert stream.next_event(3) == Ended(told, (found,))
        api.core.grant()
        assert isinstance(stream.next_event(3), Granted)


@pytest.mark.parametrize("reason", [EndReason.STOPPED, EndReason.UNWANTED])
def test_the_agents_stop_is_no_end(api: API, reason: EndReason) -> None:
    """What was granted goes on without it until its deadline."""
    with opened(api) as stream:
        api.core.end(reason)
        api.core.grant()
        assert isinstance(stream.next_event(3), Granted)


def test_a_stopping_agent_hangs_up(api: API) -> None:
    """Without a word; the socket is gone, and a new agent may take its place."""
    with opened(api) as stream:
        api.server.stop()
        with pytest.raises(AgentGoneError):
            stream.next_event(3)
    assert not api.path.exists()
    api.core.grant()
    api.server.stop()


def test_attempts_without_an_answer_are_told(api: API) -> None:
    """With the time of the next; of a lease that stands, a refusal is told by the keeper alone."""
    with opened(api) as stream:
        refusal = VerificationError(Finding("a.b", "No."))
        api.server.stepped(Outcome(1.0, error=refusal), None)
        api.server.stepped(Outcome(2.5, error=TransportError("no\nroute")), bytes(32))
        assert stream.next_event(3) == Unreached("no?route", 2.5)
    assert api.client.info().node == bytes(32).hex()


def test_a_refused_node_is_told_of_once(api: API) -> None:
    """Who waits for a first lease hears why there is none, not again at each attempt."""
    found = Finding("a.b", "No.")
    with api.client.lease(SCOPE, AUDIENCE) as stream:
        for _ in range(2):
            api.server.stepped(Outcome(1.0, error=VerificationError(found)), None)
        api.server.stepped(Outcome(2.5, error=TransportError("no route")), None)
        assert stream.next_event(3) == Ended(EndedReason.REFUSED, (found,))
        assert stream.next_event(3) == Unreached("no route", 2.5)
        api.core.grant()
        assert isinstance(stream.next_event(3), Granted)


def test_a_wish_that_is_denied_alone_ends(api: API) -> None:
    """Its stream says why and is closed; others go on."""
    with opened(api) as denied, opened(api) as other:
        first, _ = api.core.wishes.snapshot()
        found = Finding("policy.scope.not-granted", "No.", Effect.NOTES)
        api.server.stepped(Outcome(1.0, denied={first.id: (found,)}), None)
        api.core.grant()
        # A note on the node's decision: to this workload it is the refusal.
        refusal = Finding("policy.scope.not-granted", "No.", Effect.REFUSES)
        assert until(denied, Denied) == Denied((refusal,))
        with pytest.raises(AgentGoneError):
            denied.next_event(3)
        assert isinstance(other.next_event(3), Granted)
    assert first not in api.core.wishes.snapshot()


def test_a_silent_stream_says_that_it_lives(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a dead agent is told from one with nothing to say."""
    monkeypatch.setattr("bootlease.localapi.wire.ALIVE_EVERY", 0.5)
    with opened(api) as stream:
        assert stream.next_event(4) == Alive()
    assert api.server.alive()


def test_a_watcher_sees_what_the_holder_sees(api: API) -> None:
    """From what was granted last on; its going ends nothing; the holder's going ends it."""
    with opened(api) as holder:
        with api.client.events(holder.handle) as watcher:
            assert watcher.next_event(3) == api.client.current(holder.handle)
        with api.client.events(holder.handle) as watcher:
            watcher.next_event(3)
            api.core.grant()
            assert isinstance(watcher.next_event(3), Granted)
            assert len(api.core.wishes.snapshot()) == 1
            holder.close()
            with pytest.raises(AgentGoneError):
                watcher.next_event(3)


def test_a_lease_that_is_over_by_the_clock_is_not_given(api: API) -> None:
    """Also where the agent's watch has not come round yet."""
    with api.client.lease(SCOPE, AUDIENCE) as stream:
        assert refused(lambda: api.client.current(stream.handle)) == ["workload.lease.none"]
        api.core.grant(life=1.0)
        assert isinstance(stream.next_event(3), Granted)
        time.sleep(1.1)
        assert refused(lambda: api.client.current(stream.handle)) == ["workload.lease.none"]
        assert refused(lambda: api.client.proof(stream.handle, "GET", "https://x")) == [
            "workload.lease.none"
        ]


def test_a_handle_in_use_is_not_opened_again(api: API) -> None:
    """Who knows a handle cannot push its holder out; once it is free it is good again."""
    with opened(api) as stream:
        assert refused(lambda: api.client.lease(SCOPE, AUDIENCE, handle=stream.handle)) == [
            "workload.handle.in-use"
        ]
        assert stream.next_event(0.05) is None
    wait_until(lambda: api.server.leases == 0)
    with opened(api, handle=stream.handle) as again:
        assert again.handle == stream.handle


# -- who may


def test_an_unknown_handle_and_anothers_are_the_same(serve: Callable[..., API]) -> None:
    """A workload under one rule learns nothing of handles under another."""
    ours, theirs = rule("ours", scope=("tool:a",)), rule("theirs", scope=("tool:b",))
    api = serve(ours, theirs)
    with api.client.lease(["tool:b"], AUDIENCE) as stream:
        api.core.grant()
        stream.next_event(3)
        api.server.reload(Rules((ours, rule("theirs", scope=("tool:b",), uids=frozenset({1})))))
        assert isinstance(stream.next_event(3), Denied)
    answers = set()
    for handle in (stream.handle, new_handle(), "x", "é".encode().decode("latin-1")):
        answer = api.raw(
            b"GET /v1/leases/current HTTP/1.1\r\nHost: x\r\n"
            + GUARD
            + b"Bootlease-Lease: "
            + handle.encode("latin-1")
            + b"\r\n\r\n"
        )
        answers.add(answer)
    assert len(answers) == 1
    assert finding_ids(answers.pop()) == ["workload.lease.unknown"]


@pytest.mark.root
def test_another_users_handle_is_unknown(serve: Callable[..., API]) -> None:
    """The same answer as for a handle that nobody has, also to who has stolen it."""
    api = serve(rule("root"), rule("other", uids=frozenset({OTHER_USER})))
    script = """
for call in (client.current, client.events, lambda handle: client.proof(handle, "GET", "http://x")):
    ids(lambda: call(sys.argv[2]))
"""
    with opened(api) as stream:
        for handle in (stream.handle, new_handle()):
            found = run_as_other_user(api.path, script, handle)
            assert found == ["workload.lease.unknown"] * 3


@pytest.mark.root
def test_a_user_that_no_rule_speaks_of_has_nothing(api: API) -> None:
    """Not even what the agent says of itself; the log says who came."""
    script = """
ids(client.info)
ids(lambda: client.lease(["tool:a"], "https://tools.example"))
"""
    found = run_as_other_user(api.path, script)
    assert found == ["workload.peer.not-permitted"] * 2
    assert api.names() == ["workload.refused"]
    assert f"user {OTHER_USER}" in api.said[0]


def test_who_no_rule_speaks_of_is_told_what_was_seen(serve: Callable[..., API]) -> None:
    """User, group, program and cgroup: to the process itself, and to who reads the log."""
    api = serve(rule(uids=frozenset({OTHER_USER})))
    with pytest.raises(VerificationError) as caught:
        api.client.info()
    (found,) = caught.value.findings
    exe = str(Path("/proc/self/exe").readlink())
    seen = f"user {os.geteuid()}, group {os.getegid()}, program {exe}, cgroup /"
    assert found.id == "workload.peer.not-permitted"
    assert seen in found.message
    (line,) = api.said
    assert isinstance(line, logline.Event)
    assert seen in line
    assert (line.members["gid"], line.members["exe"]) == (os.getegid(), exe)


@pytest.mark.root
def test_root_of_a_user_namespace_is_still_its_user(api: API) -> None:
    """To the kernel outside, uid 0 inside is the user that made the namespace."""
    script = """
libc = ctypes.CDLL(None)
libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is this user's again
assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER
open("/proc/self/uid_map", "w").write("0 %d 1")
print(os.getuid())
ids(client.info)
""".replace("%d", str(OTHER_USER))
    assert run_as_other_user(api.path, script) == ["0", "workload.peer.not-permitted"]


def test_each_part_of_what_is_asked_for_is_permitted_or_named(api: API) -> None:
    """All that is not permitted is found at once."""
    assert refused(
        lambda: api.client.lease(
            ["repo:x", "tool:a", "repo:y"],
            "https://evil.example",
            encoding="unsafe-bearer",
            confirmation="tpm",
        )
    ) == [
        "workload.scope.not-permitted",
        "workload.scope.not-permitted",
        "workload.audience.not-permitted",
        "workload.confirmation.not-permitted",
        "workload.encoding.not-permitted",
    ]
    assert api.core.wishes.snapshot() == ()


def test_a_level_is_believed_as_far_as_the_rule_says(serve: Callable[..., API]) -> None:
    """What a workload states beyond is not passed on."""
    for believed, told in ((0, 0), (1, 1), (3, 2)):
        api = serve(rule(level=believed))
        with opened(api, level=2) as stream:
            assert api.client.current(stream.handle).level == told
        with opened(api) as stream:
            assert api.client.current(stream.handle).level is None


def test_a_rule_permits_so_many_leases(serve: Callable[..., API]) -> None:
    """One that is given up makes room."""
    api = serve(rule(leases=2))
    with opened(api), opened(api) as second:
        with pytest.raises(AgentGoneError, match="permits 2 leases") as caught:
            api.client.lease(SCOPE, AUDIENCE)
        assert caught.value.retry_after == 5
        assert finding_ids(api.raw(_open_request())) == ["workload.leases.too-many"]
        second.close()
        wait_until(lambda: api.server.leases == 1)
        opened(api).close()


def test_a_confirmation_that_the_agent_does_not_know_is_refused(
    serve: Callable[..., API], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule may name more than this agent makes."""
    api = serve(rule(confirmation=frozenset()))
    assert refused(lambda: api.client.lease(SCOPE, AUDIENCE)) == [
        "workload.confirmation.not-permitted"
    ]

    def unknown(_: object) -> Confirmation:
        raise ValueError

    monkeypatch.setattr(wishing, "Confirmation", unknown)
    api = serve(rule(confirmation=frozenset({ConfirmationChoice.TPM_EXPIRING})))
    with pytest.raises(AgentGoneError, match="makes no such key"):
        api.client.lease(SCOPE, AUDIENCE, confirmation="tpm-expiring")
    answer = api.raw(_open_request(confirmation="tpm-expiring"))
    assert finding_ids(answer) == ["workload.confirmation.unavailable"]


def test_rules_that_permit_no_more_end_a_lease(serve: Callable[..., API]) -> None:
    """Its stream says so, its wish is withdrawn, its handle names nothing."""
    api = serve(rule())
    with opened(api) as stream, opened(api) as watched, api.client.events(watched.handle) as eye:
        eye.next_event(3)
        api.server.reload(Rules((rule("renamed", leases=1),)))
        assert api.client.current(stream.handle)
        assert {wished.holder.rule for wished in api.core.wishes.snapshot() if wished.holder} == {
            "renamed"
        }
        api.server.reload(Rules((rule("all", scope=("tool:other",)),)))
        for each in (stream, watched, eye):
            event = until(each, Denied)
            assert isinstance(event, Denied)
            assert [finding.id for finding in event.findings] == [
                "workload.rule.withdrawn",
                "workload.scope.not-permitted",
            ]
            with pytest.raises(AgentGoneError):
                each.next_event(3)
        assert api.core.wishes.snapshot() == ()
        assert refused(lambda: api.client.current(stream.handle)) == ["workload.lease.unknown"]


def test_a_reload_wishes_anew_where_a_level_is_believed_otherwise(
    serve: Callable[..., API],
) -> None:
    """What the token repeats is what the rules in force believe."""
    api = serve(rule(level=2))
    with opened(api, level=2) as stream:
        api.server.reload(Rules((rule(level=1),)))
        wait_until(lambda: [each.wish.level for each in api.core.wishes.snapshot()] == [1])
        api.core.grant()
        until(stream, Granted)
        assert api.client.current(stream.handle).level == 1


def test_a_greedy_rule_takes_nobodys_room(serve: Callable[..., API]) -> None:
    """Long leases fill the share of their own rule; those of another are opened all the same."""
    api = serve(rule("greedy"), rule("modest", scope=("repo:*",)))
    long = [f"tool:{at:0123}" for at in range(32)]
    with contextlib.ExitStack() as streams:
        with contextlib.suppress(AgentGoneError):
            for _ in range(16):
                streams.enter_context(api.client.lease(long, AUDIENCE))
        answer = api.raw(_open_request(scope=long))
        assert finding_ids(answer) == ["workload.leases.too-long"]
        other = [name.replace("tool", "repo") for name in long]
        for _ in range(len(api.core.wishes)):
            streams.enter_context(api.client.lease(other, AUDIENCE))


def test_a_full_book_is_said_to_be_full(api: API) -> None:
    """Wishes of others have filled it."""
    wish = LeaseWish(("a",), "b")
    with contextlib.suppress(TransportError):
        for _ in range(1000):
            api.core.wishes.add(wish)
    with pytest.raises(AgentGoneError, match="as many leases as it can"):
        api.client.lease(SCOPE, AUDIENCE)


# -- proofs


def proved(api: API, stream: LeaseStream, **changes: object) -> str:
    """Have a proof made, and verify it as a relying party does."""
    headers = api.client.proof(stream.handle, "POST", "https://tools.example/a?b=c", **changes)  # type: ignore[arg-type]
    token = api.client.current(stream.handle)
    scheme, _, text = headers["Authorization"].partition(" ")
    assert (scheme, text) == ("DPoP", token.token)
    (holding,) = api.core.grant().holdings
    verify_proof(
        headers["DPoP"],
        confirmation=holding.key.public,
        htm="POST",
        htu="https://tools.example/a",
        access_token=text,
        now=time.time(),
    )
    return headers["DPoP"]


def test_a_proof_counts(api: API) -> None:
    """It is for this request, this token, and made with the agent's key."""
    with opened(api) as stream:
        first, second = proved(api, stream), proved(api, stream, nonce="n-1")
        payloads = [json.loads(base64url.decode(each.split(".")[1])) for each in (first, second)]
        assert payloads[0]["jti"] != payloads[1]["jti"]
        assert "nonce" not in payloads[0]
        assert payloads[1]["nonce"] == "n-1"


class SlowSigner:
    """A key in a TPM, which signs when it is told to."""

    def __init__(self) -> None:
        self.inner = fixed_signer(77)
        self.public, self.key_id = self.inner.public, self.inner.key_id
        self.algorithm = self.inner.algorithm
        self.go = threading.Event()
        self.error: Exception | None = None
        self.request = None
        self.threads: set[str] = set()

    @property
    def signer(self) -> SlowSigner:
        """Itself."""
        return self

    def export(self) -> None:
        """Nothing leaves a TPM."""

    def sign(self, data: bytes) -> bytes:
        """Sign, after a while."""
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return self.inner.sign(data)


@pytest.fixture
def slow(serve: Callable[..., API]) -> tuple[API, SlowSigner]:
    """A server whose TPM keys are slow."""
    api, key = serve(rule(confirmation=frozenset(ConfirmationChoice), leases=8)), SlowSigner()
    api.core.special = {Confirmation.TPM: key}  # type: ignore[dict-item]
    return api, key


def test_a_key_in_the_tpm_signs_elsewhere(slow: tuple[API, SlowSigner]) -> None:
    """Its proofs count as well."""
    api, key = slow
    key.go.set()
    with opened(api, confirmation="tpm") as stream:
        proved(api, stream)
    assert key.threads == {"workload-proofs"}


def test_a_tpm_that_hangs_keeps_nobody_else_waiting(
    slow: tuple[API, SlowSigner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proofs of other keys, tokens and streams go on; who waits for it is told after a while."""
    monkeypatch.setattr("bootlease.node.workloads.proofs._WAIT", 0.5)
    api, key = slow
    with opened(api) as quick, opened(api, confirmation="tpm") as hung:
        quick.next_event(1)
        failed: list[str] = []

        def ask() -> None:
            try:
                api.client.proof(hung.handle, "GET", "https://x")
            except AgentGoneError as exc:
                failed.append(str(exc))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(failed) == 1)
        assert "wait for the TPM already" in failed[0]
        before = time.monotonic()
        assert api.client.proof(quick.handle, "GET", "https://x")
        assert time.monotonic() - before < 0.4
        for thread in threads:
            thread.join()
        assert sum("does not sign" in each for each in failed) == 4
    key.go.set()


def test_a_tpm_that_fails_is_said_to(slow: tuple[API, SlowSigner]) -> None:
    """Not how."""
    api, key = slow
    key.error = TransportError("TPM_RC_FAILURE at 0x80000001")
    key.go.set()
    with opened(api, confirmation="tpm") as stream:
        answer = api.raw(
            _request("POST", "/v1/proofs", b'{"method":"GET","url":"https://x"}', stream.handle)
        )
        assert b"503" in answer.partition(b"\r\n")[0]
        assert finding_ids(answer) == ["workload.proof.unavailable"]
        assert b"0x80000001" not in answer


def test_a_lease_that_ends_meanwhile_has_no_proof(slow: tuple[API, SlowSigner]) -> None:
    """A proof that the TPM was slow to make is not handed out after the end."""
    api, key = slow
    with opened(api, confirmation="tpm") as stream:
        found: list[list[str]] = []
        thread = threading.Thread(
            target=lambda: found.append(
                refused(lambda: api.client.proof(stream.handle, "GET", "https://x"))
            )
        )
        thread.start()
        wait_until(lambda: bool(key.threads))
        api.core.end(EndReason.REFUSED)
        key.go.set()
        thread.join()
    assert found == [["workload.lease.none"]]


def test_with_an_own_key_the_workload_makes_its_proofs(api: API) -> None:
    """The agent cannot, and says so; the token confirms that key."""
    with opened(api, key=HOLDER.public) as stream:
        (holding,) = api.core.grant().holdings
        assert holding.token.claims.confirmation == HOLDER.public
        assert refused(lambda: api.client.proof(stream.handle, "GET", "https://x")) == [
            "workload.proof.own-key"
        ]


def test_a_bearer_token_has_no_proof(serve: Callable[..., API]) -> None:
    """One header presents it."""
    api = serve(rule(encoding=frozenset(TokenFormat)))
    with opened(api, encoding="unsafe-bearer") as stream:
        headers = api.client.proof(stream.handle, "GET", "https://x")
        assert headers == {"Authorization": f"Bearer {api.client.current(stream.handle).token}"}


def test_a_url_that_is_none_is_not_signed(api: API) -> None:
    """Nothing but a proof is made of what a workload sends."""
    with opened(api) as stream:
        for url in ("ftp://x", "https://", "https://user@x/", "x"):
            with pytest.raises(MalformedError):
                api.client.proof(stream.handle, "GET", url)


# -- requests


def _request(
    method: str, path: str, body: bytes = b"", handle: str | None = None, headers: bytes = GUARD
) -> bytes:
    lease = b"" if handle is None else f"Bootlease-Lease: {handle}\r\n".encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode()
        + headers
        + lease
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )


def _open_request(**changes: object) -> bytes:
    members = {"scope": SCOPE, "audience": AUDIENCE, "handle": "A" * 43, **changes}
    return _request("POST", "/v1/leases", json.dumps(members).encode())


BIG = b"x" * 17_000


@pytest.mark.parametrize(
    ("request_", "status", "finding"),
    [
        (_request("GET", "/v1/info", headers=b""), 400, "workload.header.missing"),
        (
            _request("GET", "/v1/info", headers=b"Bootlease-Workload: yes\r\n"),
            400,
            "workload.header.missing",
        ),
        (_request("GET", "/v1/info", headers=GUARD * 2), 400, "workload.request.malformed"),
        (_request("GET", "/v1/nothing"), 404, "workload.route.unknown"),
        (_request("GET", "/v1/info?x"), 404, "workload.route.unknown"),
        (_request("DELETE", "/v1/leases"), 405, "workload.route.unknown"),
        (_request("GET", "/v1/leases/current"), 400, "workload.request.malformed"),
        (_request("POST", "/v1/leases", b"{"), 400, "workload.request.malformed"),
        (_request("POST", "/v1/leases", BIG), 413, "workload.request.too-large"),
        (
            b"POST /v1/leases HTTP/1.1\r\nHost: x\r\n"
            + GUARD
            + b"Content-Length: 9\r\n\r\nnot json!",
            415,
            "workload.request.malformed",
        ),
        (
            b"POST /v1/leases HTTP/1.1\r\nHost: x\r\n"
            + GUARD
            + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            411,
            "workload.request.malformed",
        ),
        (
            b"GET /v1/info HTTP/1.1\r\nHost: x\r\n" + GUARD + b"A: " + b"b" * 9000 + b"\r\n\r\n",
            413,
            "workload.request.too-large",
        ),
        (
            b"GET /v1/info HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000,
            413,
            "workload.request.too-large",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "workload.request.malformed"),
        (b"GET /v1/info HTTP/1.1\r\n\r\n", 400, "workload.request.malformed"),
        (
            b"GET /v1/info HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
            400,
            "workload.request.malformed",
        ),
    ],
)
def test_a_request_of_another_form_is_refused(
    api: API, request_: bytes, status: int, finding: str
) -> None:
    """With a problem document that says why, and the connection is closed."""
    answer = api.raw(request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in head
    assert finding_ids(answer) == [finding]
    assert json.loads(body)["status"] == status
    assert api.core.wishes.snapshot() == ()


def test_a_request_may_come_byte_by_byte(api: API) -> None:
    """And half-closed behind its end, as some clients do."""
    data = _request("GET", "/v1/info")
    with api.connection() as connection:
        for byte in data:
            connection.send(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert drain(connection).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_does_not_end_is_not_waited_for(serve: Callable[..., API]) -> None:
    """Nor is a connection that says nothing."""
    api = serve(request_seconds=0.2)
    for data in (b"", b"GET /v1/in"):
        assert finding_ids(api.raw(data)) == ["workload.request.too-slow"]


def test_a_second_request_is_not_answered(api: API) -> None:
    """A connection carries one; a stream whose client goes on talking is cut."""
    answer = api.raw(_request("GET", "/v1/info") * 2)
    assert answer.count(b"HTTP/1.1") == 1
    with api.connection() as connection:
        connection.sendall(_open_request())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"x")
        assert drain(connection) == b""
    wait_until(lambda: api.server.leases == 0)


def test_a_half_closed_stream_is_given_up(api: API) -> None:
    """Who will say nothing more holds nothing open."""
    answer = api.raw(_open_request(), half_close=True)
    assert answer.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: api.server.leases == 0)


# -- bounds


def test_who_does_not_read_is_cut_off(serve: Callable[..., API]) -> None:
    """What the agent keeps for a slow reader is bounded; others are served meanwhile."""
    api = serve(unread=16 * 1024)
    with opened(api) as other, api.connection() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(_open_request())
        wait_until(lambda: api.server.leases == 2)
        for _ in range(400):
            api.core.grant()
            assert isinstance(other.next_event(3), Granted)
            if api.server.leases == 1:
                break
        assert api.server.leases == 1
        assert api.client.current(other.handle)


def test_one_user_cannot_take_every_connection(serve: Callable[..., API]) -> None:
    """Beyond its share it is hung up on; what it has open goes on."""
    api = serve(per_uid=4)
    idle = [api.connection() for _ in range(4)]
    wait_until(lambda: api.server.connections == 4)
    assert api.raw(_request("GET", "/v1/info")) == b""
    idle.pop().close()
    wait_until(lambda: api.server.connections == 3)
    assert api.raw(_request("GET", "/v1/info")).startswith(b"HTTP/1.1 200 ")
    for connection in idle:
        connection.close()
    wait_until(lambda: "workload.turned-away" in api.names())


def test_who_no_rule_speaks_of_has_hardly_any_room(serve: Callable[..., API]) -> None:
    """Strangers are answered, a few at a time."""
    api = serve(rule(uids=frozenset({os.geteuid() + 1})), strangers_per_uid=2)
    idle = [api.connection() for _ in range(2)]
    wait_until(lambda: api.server.connections == 2)
    assert api.raw(_request("GET", "/v1/info")) == b""
    for connection in idle:
        connection.close()
    wait_until(lambda: api.server.connections == 0)
    assert finding_ids(api.raw(_request("GET", "/v1/info"))) == ["workload.peer.not-permitted"]


def test_a_flood_of_connections_is_slowed(serve: Callable[..., API]) -> None:
    """And what is open is served during it."""
    api = serve(rate=50, burst=50)
    with opened(api) as stream:
        turned_away = sum(api.raw(_request("GET", "/v1/info")) == b"" for _ in range(120))
        assert turned_away >= 40
        before = time.monotonic()
        api.core.grant()
        assert isinstance(stream.next_event(3), Granted)
        assert time.monotonic() - before < 0.5


def test_leases_opened_in_a_loop_are_slowed(serve: Callable[..., API]) -> None:
    """Each makes the agent attest out of turn."""
    api = serve(lease_rate=0.01, lease_burst=3)
    for _ in range(3):
        api.client.lease(SCOPE, AUDIENCE).close()
    with pytest.raises(AgentGoneError, match="too often"):
        api.client.lease(SCOPE, AUDIENCE)
    assert finding_ids(api.raw(_open_request())) == ["workload.agent.busy"]


def test_watchers_are_bounded(api: API) -> None:
    """One lease cannot be watched by hundreds."""
    with opened(api) as stream:
        watching = [api.client.events(stream.handle) for _ in range(16)]
        with pytest.raises(AgentGoneError, match="16 streams"):
            api.client.events(stream.handle)
        for each in watching:
            each.close()


def test_refusals_do_not_fill_the_log(api: API) -> None:
    """One line a second for each user, however often it asks."""
    for _ in range(20):
        refused(lambda: api.client.lease(["repo:x"], AUDIENCE))
    assert api.names() == ["workload.refused"]


def test_an_answer_to_head_has_no_body(api: API) -> None:
    """HEAD is refused as any other method is, and is no failure of the server's."""
    answer = api.raw(b"HEAD /v1/info HTTP/1.1\r\nHost: a\r\nBootlease-Workload: true\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")
    assert "workload.failed" not in api.names()


def test_failures_do_not_fill_the_log() -> None:
    """Whoever finds out how to make the server fail does not fill the log with that."""
    said: list[str] = []
    journal = Journal(said.append)
    for _ in range(10):
        journal.failed(RuntimeError("again"))
    assert len(said) == 1


def test_the_log_has_nothing_that_a_workload_wrote(api: API) -> None:
    """Neither scope, nor audience, nor handle."""
    with opened(api) as stream:
        refused(lambda: api.client.lease(["repo:INJECTED"], "https://INJECTED.example"))
        assert not any("INJECTED" in line or stream.handle in line for line in api.said)


# -- processes


HOLD = (
    "import os, sys, time; from bootlease.workload import WorkloadClient\n"
    "stream = WorkloadClient(sys.argv[1]).lease(['tool:a'], 'https://tools.example')\n"
    "print(stream.handle, flush=True)\n"
)


def test_a_process_that_is_killed_gives_its_lease_up(api: API) -> None:
    """The kernel closes its connection."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD + "time.sleep(60)", str(api.path)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    assert api.server.leases == 1
    holder.kill()
    holder.wait()
    holder.stdout.close()
    wait_until(lambda: api.server.leases == 0)


def test_a_connection_that_outlives_its_process_is_closed(api: API) -> None:
    """A child that inherited it holds no lease by it."""
    script = HOLD + (
        "os.set_inheritable(stream.fileno(), True)\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "os._exit(0)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(api.path)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    holder.wait()
    wait_until(lambda: api.server.leases == 0)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.stdout.close()


def test_a_process_that_ended_before_it_asked_is_refused(api: API) -> None:
    """What it connected is another's now, and nobody knows whose."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        connection = api.connection()
        socket.send_fds(theirs, [b"x"], [connection.fileno()])
        os._exit(0)
    os.waitpid(child, 0)
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    with ours, theirs, socket.socket(fileno=fds[0]) as connection:
        connection.settimeout(5)
        connection.sendall(_request("GET", "/v1/info"))
        assert finding_ids(drain(connection)) == ["workload.peer.gone"]


def test_a_stopped_reader_keeps_nobody_waiting(api: API) -> None:
    """SIGSTOP is one more way not to read."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD + "time.sleep(60)", str(api.path)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    with opened(api) as stream:
        for _ in range(5):
            api.core.grant()
            assert isinstance(stream.next_event(3), Granted)
    holder.kill()
    holder.wait()
    holder.stdout.close()
