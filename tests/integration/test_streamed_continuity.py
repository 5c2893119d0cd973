"""A stream of continuity statements from a real server, broken in every way that streams break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from bootlease.errors import VerificationError
from bootlease.relyingparty import FetchedKeys, StreamedContinuity
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.publishing import PublishingVerifier, publishing
from bootlease.testing.scene import POLICY
from bootlease.testing.served import served
from bootlease.testing.verifier_process import run_cli, verifier_process

PATIENCE = 10.0


def wait_for(condition: Callable[[], bool], *, seconds: float = PATIENCE) -> float:
    """Wait until it holds and return how long that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            pytest.fail("it never happened")
        time.sleep(0.002)
    return time.monotonic() - began


@pytest.fixture
def verifier() -> Iterator[PublishingVerifier]:
    """A verifier whose statements count for 3 seconds."""
    with publishing(PublishingVerifier()) as publisher:
        yield publisher


@contextmanager
def listening(verifier: PublishingVerifier) -> Iterator[StreamedContinuity]:
    """Give a source that listens as soon as it is asked."""
    url = f"{verifier.url}/v1/continuity"
    with httpx2.Client() as client:
        keys = FetchedKeys(f"{verifier.url}/.well-known/jwks.json", client=client)
        with StreamedContinuity(url, keys, issuer=verifier.url) as source:
            yield source


def revoked(source: StreamedContinuity, index: int) -> bool:
    """Tell whether the newest statement ends the lease at this index."""
    return bool(source.current().status.get(index))


def test_a_revocation_arrives_at_once(verifier: PublishingVerifier) -> None:
    """Within a fraction of a heartbeat, and without a poll."""
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: source.current().sequence >= 2)
        polls = verifier.polls
        verifier.publish(revoked=[5])
        took = wait_for(lambda: revoked(source, 5))
        assert took < 0.5
        assert verifier.polls == polls


def test_heartbeats_keep_it_fresh_without_polls(verifier: PublishingVerifier) -> None:
    """Longer than any one statement counts."""
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: verifier.streams == 1)
        polls, end = verifier.polls, time.monotonic() + 3.5
        while time.monotonic() < end:
            source.current()
            time.sleep(0.01)
        assert (verifier.polls, verifier.streams) == (polls, 1)


def test_nothing_is_opened_before_it_is_used(verifier: PublishingVerifier) -> None:
    """A constructor does no I/O, and closing what never began is no error."""
    with listening(verifier):
        time.sleep(0.05)
    assert (verifier.polls, verifier.streams) == (0, 0)


def test_without_a_stream_statements_are_polled(verifier: PublishingVerifier) -> None:
    """A verifier, or a proxy before it, that offers no stream is no reason to refuse."""
    verifier.streaming = False
    with listening(verifier) as source:
        source.current()
        verifier.publish(revoked=[5])
        assert wait_for(lambda: revoked(source, 5)) < 3
        assert (verifier.polls >= 2, verifier.streams) == (True, 0)
        verifier.streaming = True
        wait_for(lambda: verifier.streams == 1)


def test_a_stream_that_ends_is_opened_again(verifier: PublishingVerifier) -> None:
    """After a pause that begins small."""
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: verifier.streams == 1)
        verifier.streaming = False
        time.sleep(0.1)
        verifier.streaming = True
        assert wait_for(lambda: verifier.streams == 2) < 2
        verifier.publish(revoked=[6])
        assert wait_for(lambda: revoked(source, 6)) < 0.5


def test_a_stream_that_says_nothing_is_not_believed(verifier: PublishingVerifier) -> None:
    """Half a connection looks open: the statement is polled, and the stream opened anew."""
    verifier.heartbeats = False
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: verifier.streams == 1)
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            source.current()
            time.sleep(0.01)
        assert verifier.polls >= 2
        wait_for(lambda: verifier.streams == 2)


def test_a_stream_of_another_verifier_is_left(verifier: PublishingVerifier) -> None:
    """A statement that does not count is not taken; polling goes on."""
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: source.current().sequence >= 2)
        good = source.current().sequence
        verifier.publish(issuer="https://other.example")
        with pytest.raises(VerificationError) as caught:
            wait_for(lambda: source.current().sequence > good + 100, seconds=5)
        assert caught.value.findings[0].id == "continuity.stale"
        verifier.publish(issuer=verifier.url)
        time.sleep(0.5)
        assert source.current().sequence > good


def test_a_verifier_that_is_gone_is_believed_no_longer_than_it_said() -> None:
    """And found again when it is back."""
    fake = PublishingVerifier(valid=2)
    with ExitStack() as stack:
        url = stack.enter_context(served(fake))
        fake.url = url
        with listening(fake) as source:
            source.current()
            wait_for(lambda: fake.streams == 1)
            stack.close()
            gone = time.monotonic()
            while True:
                try:
                    source.current()
                except VerificationError as exc:
                    found = exc.findings[0].id
                    break
                time.sleep(0.005)
            assert found == "continuity.stale"
            assert time.monotonic() - gone <= 2.1
            with served(fake, port=int(url.rpartition(":")[2])):
                wait_for(lambda: fake.streams == 2)
                assert source.current().sequence > 1


def test_closing_ends_the_stream_at_once(verifier: PublishingVerifier) -> None:
    """No thread is left that waits for the next heartbeat; what is closed is not opened again."""
    with listening(verifier) as source:
        source.current()
        wait_for(lambda: verifier.streams == 1)
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < 0.5
        source.current()
        time.sleep(0.3)
        assert verifier.streams == 1


def test_an_event_too_long_for_a_statement_ends_the_stream() -> None:
    """Nobody fills a relying party's memory with one line that never ends."""
    fake = PublishingVerifier()

    async def endless(scope: object, receive: object, send: object) -> None:
        assert isinstance(scope, dict)
        assert callable(send)
        assert callable(receive)
        if scope["path"] != "/v1/continuity/stream":
            await fake(scope, receive, send)
            return
        fake.streams += 1
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"data" * 4096, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with served(endless) as url:
        fake.url = url
        with listening(fake) as source:
            source.current()
            wait_for(lambda: fake.streams >= 2)
            assert source.current().sequence >= 1


def test_the_stream_is_fetched_by_https_too() -> None:
    """Its URL follows from the other one."""
    with pytest.raises(ValueError, match="https"):
        StreamedContinuity("http://x.example/c", FetchedKeys("https://x.example/k"), issuer="x")


def test_a_stream_that_answers_with_an_error_is_left(verifier: PublishingVerifier) -> None:
    """While the statement in hand counts, an outage is none."""
    with listening(verifier) as source:
        source.current()
        verifier.status = 503
        verifier.streaming = False
        time.sleep(0.5)
        assert source.current().sequence >= 1
        assert httpx2.get(f"{verifier.url}/v1/continuity").status_code == 503


def test_a_real_verifier_is_heard(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes
) -> None:
    """Its heartbeats keep the statement fresh, and an operator's revocation arrives at once."""
    with (
        verifier_process(
            private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
        ) as process,
        httpx2.Client() as client,
    ):
        keys = FetchedKeys(f"{process.url}/.well-known/jwks.json", client=client)
        url = f"{process.url}/v1/continuity"
        with StreamedContinuity(url, keys, issuer=process.url) as source:
            first = source.current()
            wait_for(lambda: source.current().sequence > first.sequence)
            assert source.current().min_epoch <= 1
            credential = private_folder / "credential"
            credential.write_text(process.credential)
            credential.chmod(0o600)
            policy = private_folder / "next.toml"
            policy.write_text(POLICY.replace("life = 120", "life = 60"))
            run_cli(
                *("policy", "activate", str(policy), "--revoke-now"),
                *("--verifier", process.url, "--credential-file", str(credential)),
            )
            assert wait_for(lambda: source.current().min_epoch == 2) < 1
