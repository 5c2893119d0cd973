"""The verifier as a log that has its checkpoints cosigned."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.ledger import (
    Ed25519Cosigner,
    parse_signed_checkpoint,
    verify_checkpoint,
    verify_cosignature,
)
from bootlease.ports import Store
from bootlease.testing.memory_ledger import NAME, MemoryLedger
from bootlease.testing.set_clock import SetClock
from bootlease.token import PrivateKeySigner
from bootlease.verifier import witness_client, witnesses
from bootlease.verifier.witness_client import WitnessAddress, WitnessClient, parse_witness
from bootlease.verifier.witnesses import Witnessing
from bootlease.witness import Witness
from bootlease.witness.app import build_app
from bootlease.witness.state import WitnessState

NOW = 1_790_000_100
URL = "http://127.0.0.1:8410"


Handler = Callable[[httpx2.Request], httpx2.Response]


@dataclass
class Carrier(httpx2.AsyncBaseTransport):
    """Carries requests to a witness, or what stands in its place.

    Attributes:
        app: The witness.
        instead: Answers in its place, while set.
        paths: What was asked.
    """

    app: FastAPI
    instead: Handler | None = None
    paths: list[str] = field(default_factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.paths.append(request.url.path)
        if self.instead is not None:
            await request.aread()
            return self.instead(request)
        return await httpx2.ASGITransport(self.app).handle_async_request(request)


def status(code: int, body: bytes = b"", media_type: str = "text/plain") -> Handler:
    """Answer everything so."""
    return lambda _: httpx2.Response(
        code, stream=httpx2.ByteStream(body), headers={"content-type": media_type}
    )


def unreachable(request: httpx2.Request) -> httpx2.Response:
    """Fail to connect."""
    raise httpx2.ConnectError("refused", request=request)


@dataclass
class Scene:
    """A ledger, a witness that knows it, and the way between them."""

    ledger: MemoryLedger
    cosigner: Ed25519Cosigner
    state: WitnessState
    carrier: Carrier

    def client(self) -> WitnessClient:
        """Return a connection to the witness."""
        return WitnessClient(WitnessAddress(self.cosigner.key, URL), transport=self.carrier)

    def witnessing(self, ledger: MemoryLedger | None = None, **options: float) -> Witnessing:
        """Return the verifier's side, as a process that has just started has it."""
        held = ledger or self.ledger
        store = cast("Store", held)
        key = self.ledger.signer.key
        return Witnessing(store, key, [self.client()], SetClock(NOW), **options)

    def check(self, ledger: MemoryLedger | None = None, *, require: bool = False) -> None:
        """Start a verifier over a ledger, as far as its witness is concerned."""
        asyncio.run(self.witnessing(ledger).check(require=require))

    def cosigned(self) -> list[int]:
        """Return the sizes whose checkpoints the witness cosigned, all verified."""
        for size, lines in self.ledger.current.cosignatures.items():
            whole = self.ledger.current.notes[size] + b"".join(lines.values())
            note = parse_signed_checkpoint(whole).note
            verify_cosignature(note.body, note.signatures[-1], self.cosigner.key)
        return sorted(self.ledger.current.cosignatures)

    def run_until(self, condition: Callable[[], object], witnessing: Witnessing) -> None:
        """Run in the background until something has happened."""

        async def running() -> None:
            task = asyncio.create_task(witnessing.run())
            try:
                async with asyncio.timeout(20):
                    while not condition() and not task.done():
                        await asyncio.wait([task], timeout=0.005)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        asyncio.run(running())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A ledger of 8 entries, with an earlier checkpoint of 5."""
    ledger = MemoryLedger()
    ledger.grow(4)
    ledger.grow(3)
    cosigner = Ed25519Cosigner("witness.example/w1", PrivateKeySigner(Ed25519PrivateKey.generate()))
    state = WitnessState(tmp_path / "state.db", make=True)
    app = build_app(Witness(state, [ledger.signer.key], [cosigner]), now=lambda: NOW)
    yield Scene(ledger, cosigner, state, Carrier(app))
    state.close()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Events that were logged."""
    events: list[str] = []
    monkeypatch.setattr(witnesses, "log_event", lambda event, **_: events.append(event))
    return events


def earlier(scene: Scene, size: int) -> MemoryLedger:
    """Return the ledger as a backup of an earlier size has it."""
    backup = MemoryLedger(scene.ledger.private)
    backup.current.leaves[:] = scene.ledger.current.leaves[:size]
    backup.seal(backup.current)
    return backup


def test_a_start_has_the_latest_checkpoint_cosigned(scene: Scene) -> None:
    """A witness that knows nothing yet, and the same witness at the next start."""
    scene.check(require=True)
    scene.ledger.grow(5)
    scene.check(require=True)
    assert scene.cosigned() == [8, 13]


def test_new_checkpoints_are_cosigned_in_the_background(scene: Scene) -> None:
    """Without a word at the start; only the log's own signature is sent along."""
    witnessing = scene.witnessing(interval=0.01)
    scene.run_until(lambda: scene.cosigned() == [8], witnessing)
    scene.ledger.grow(5)
    scene.run_until(lambda: scene.cosigned() == [8, 13], witnessing)
    seen = scene.state.latest(f"{NAME}/2026-11")
    assert len(parse_signed_checkpoint(seen.checkpoint).note.signatures) == 1


def test_what_is_cosigned_is_not_sent_again(scene: Scene) -> None:
    """A log at rest leaves its witness at rest."""
    witnessing = scene.witnessing(interval=0.001)
    scene.run_until(lambda: scene.cosigned() == [8], witnessing)
    asked = len(scene.carrier.paths)

    async def rest() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await witnessing.run()

    asyncio.run(rest())
    assert len(scene.carrier.paths) == asked


def test_final_checkpoints_are_cosigned_too(scene: Scene) -> None:
    """A shard that was closed while no witness was there."""
    scene.ledger.open_shard("2026-12")
    scene.ledger.open_shard("2027-01")
    scene.run_until(
        lambda: all(shard.cosignatures for shard in scene.ledger.shards_held),
        scene.witnessing(interval=0.01),
    )
    assert [seen.size for seen in scene.state.all()] == [8, 1, 1]


def test_without_witnesses_nothing_runs(scene: Scene) -> None:
    """The check passes and the background ends."""
    nobody = Witnessing(cast("Store", scene.ledger), scene.ledger.signer.key, [], SetClock(NOW))

    async def both() -> None:
        await nobody.check(require=True)
        await nobody.run()
        await nobody.close()

    asyncio.run(both())


def refusal(scene: Scene, ledger: MemoryLedger | None = None) -> str:
    """Return the id of the finding that a start is refused with."""
    with pytest.raises(VerificationError) as caught:
        scene.check(ledger)
    return caught.value.findings[0].id


def test_a_restored_backup_does_not_start(scene: Scene) -> None:
    """The witness has seen more entries than there are."""
    scene.check()
    assert refusal(scene, earlier(scene, 5)) == "witness.ahead"


def test_nor_does_one_that_has_grown_since(scene: Scene) -> None:
    """As many entries as the witness has seen, or more, but others."""
    scene.check()
    for count in (3, 7):
        backup = earlier(scene, 5)
        backup.grow(count, salt="other")
        assert refusal(scene, backup) == "witness.contradicts"


def stock(request: httpx2.Request, scene: Scene) -> httpx2.Response:
    """Answer as a witness that only does what the protocol asks of it."""
    if request.url.path == "/logs":
        return status(404)(request)
    witness = Witness(scene.state, [scene.ledger.signer.key], [scene.cosigner])
    answer = witness.add_checkpoint(request.content, now=NOW)
    return httpx2.Response(
        answer.status,
        headers={"content-type": answer.media_type},
        stream=httpx2.ByteStream(answer.body),
    )


def test_a_stock_witness_is_enough(scene: Scene) -> None:
    """What is beyond the protocol is not needed: neither to be cosigned nor to be refused."""
    scene.carrier.instead = lambda request: stock(request, scene)
    scene.check(require=True)
    assert scene.cosigned() == [8]
    assert refusal(scene, earlier(scene, 5)) == "witness.ahead"


def test_a_shard_that_was_lost_whole_is_missed(scene: Scene) -> None:
    """The backup is complete for its last shard, but the witness lists another one."""
    backup = earlier(scene, 8)
    scene.ledger.open_shard("2026-12")
    scene.check()
    assert refusal(scene, backup) == "witness.ahead"


def test_a_restore_that_opened_another_shard_is_found_by_a_stock_witness(scene: Scene) -> None:
    """The shard before the last one is compared as well."""
    scene.carrier.instead = lambda request: stock(request, scene)
    scene.check()
    backup = earlier(scene, 5)
    backup.open_shard("2026-11.2")
    assert refusal(scene, backup) == "witness.ahead"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/logs", unreachable),
        ("/logs", status(500)),
        ("/logs", status(200, b'{"logs": 1}')),
        ("/logs", status(200, b'{"logs": [{"origin": 1}]}')),
        ("/logs", status(200, b"x" * (witness_client.MAX_LOGS + 1))),
        ("/add-checkpoint", unreachable),
        ("/add-checkpoint", status(500)),
        ("/add-checkpoint", status(404, b"unknown log")),
        ("/add-checkpoint", status(403)),
        ("/add-checkpoint", status(409, b"8\n")),
        ("/add-checkpoint", status(409, b"08\n", "text/x.tlog.size")),
        ("/add-checkpoint", status(422)),
        ("/add-checkpoint", status(200, b"no signature\n")),
        ("/add-checkpoint", status(200, b"x" * (witness_client.MAX_ANSWER + 1))),
    ],
)
def test_a_witness_that_does_not_work_delays_nothing(
    scene: Scene, logged: list[str], path: str, answer: Handler
) -> None:
    """It is told of, and is a reason not to start only where it is required."""
    scene.carrier.instead = lambda request: (
        answer(request) if request.url.path == path else stock(request, scene)
    )
    scene.check()
    assert logged == ["witness-unreachable"]
    with pytest.raises(TransportError):
        scene.check(require=True)


def test_a_cosignature_that_does_not_verify_is_not_kept(scene: Scene) -> None:
    """That of another checkpoint, for one."""
    scene.check()
    (line,) = scene.ledger.current.cosignatures[8].values()
    scene.ledger.grow(2)
    scene.carrier.instead = lambda request: (
        status(200, line) if request.url.path == "/add-checkpoint" else status(404)
    )(request)
    with pytest.raises(TransportError, match="no cosignature"):
        scene.check(require=True)
    assert scene.cosigned() == [8]


def test_a_witness_that_comes_back_is_used_again(scene: Scene, logged: list[str]) -> None:
    """After pauses that grow, and without a word in between."""
    scene.carrier.instead = unreachable
    witnessing = scene.witnessing(interval=0.005)
    scene.run_until(lambda: len(scene.carrier.paths) >= 3, witnessing)
    scene.carrier.instead = None
    scene.run_until(scene.cosigned, witnessing)
    assert logged == ["witness-unreachable", "witness-reached"]


def test_a_first_word_that_contradicts_ends_the_verifier(scene: Scene) -> None:
    """A witness that could not be reached at the start is heeded when it can."""
    scene.check()
    backup = earlier(scene, 5)
    scene.carrier.instead = unreachable
    witnessing = scene.witnessing(backup, interval=0.01)
    asyncio.run(witnessing.check(require=False))
    scene.carrier.instead = None
    with pytest.raises(VerificationError) as caught:
        asyncio.run(asyncio.wait_for(witnessing.run(), 20))
    assert caught.value.findings[0].id == "witness.ahead"


def test_a_later_contradiction_is_recorded_once(scene: Scene, logged: list[str]) -> None:
    """Then it is not this store that went back: the verifier goes on, and the ledger says it."""
    witnessing = scene.witnessing(interval=0.001)
    scene.run_until(scene.cosigned, witnessing)
    scene.carrier.instead = status(409, b"99\n", "text/x.tlog.size")
    scene.ledger.grow(1)
    scene.run_until(lambda: logged.count("witness-contradicts") >= 3, witnessing)
    assert [kind for kind, _ in scene.ledger.events] == ["witness.contradicted"]
    assert scene.ledger.events[0][1]["witness"] == "witness.example/w1"


def test_a_server_is_told_to_stop_and_why(scene: Scene) -> None:
    """What runs inside is ended first, and then the reason is raised."""
    scene.check()
    backup = earlier(scene, 5)
    scene.carrier.instead = unreachable
    order: list[str] = []

    async def serve() -> None:
        stopped = asyncio.Event()
        witnessing = scene.witnessing(backup, interval=0.01)
        async with witnesses.witnessed(witnessing, require=False, stop=stopped.set):
            scene.carrier.instead = None
            await asyncio.wait_for(stopped.wait(), 20)
            order.append("ended")

    with pytest.raises(VerificationError):
        asyncio.run(serve())
    assert order == ["ended"]


def test_a_server_that_ends_by_itself_is_not_told_to(scene: Scene) -> None:
    """Nor one without witnesses."""

    async def serve() -> None:
        nobody = Witnessing(cast("Store", scene.ledger), scene.ledger.signer.key, [], SetClock(NOW))
        for witnessing in (nobody, scene.witnessing(interval=0.01)):
            async with witnesses.witnessed(witnessing, require=True, stop=pytest.fail):
                await asyncio.sleep(0.05)

    asyncio.run(serve())


VKEY = str(Ed25519Cosigner("w.example/1", PrivateKeySigner(Ed25519PrivateKey.generate())).key)


def test_an_option_names_key_and_place() -> None:
    """The place without its last slash."""
    parsed = parse_witness(f"{VKEY}=https://w.example/prefix/")
    assert (str(parsed.key), parsed.url) == (VKEY, "https://w.example/prefix")


@pytest.mark.parametrize(
    "text",
    [
        "",
        VKEY,
        f"{VKEY}=",
        f"{VKEY}=w.example",
        f"{VKEY}=http://w.example",
        f"{VKEY}=https://",
        f"{VKEY}=https://[",
        f"x{VKEY}=https://w.example",
        f"{MemoryLedger().vkey}=https://w.example",
    ],
    ids=itertools.count(),
)
def test_other_options_are_refused(text: str) -> None:
    """No key, no place, plain HTTP elsewhere, a wrong id, or a log's key."""
    with pytest.raises(MalformedError):
        parse_witness(text)


def redirected(request: httpx2.Request) -> httpx2.Response:
    """Send whoever asks to another place of this witness, which would answer."""
    if request.url.path == "/elsewhere":
        return httpx2.Response(200, stream=httpx2.ByteStream(b'{"logs": []}'))
    headers = {"location": f"{URL}/elsewhere"}
    return httpx2.Response(307, stream=httpx2.ByteStream(b""), headers=headers)


def test_a_redirect_is_not_followed(scene: Scene) -> None:
    """The operator chose whom to ask, and nobody else is asked."""
    scene.carrier.instead = redirected
    with pytest.raises(TransportError, match="307"):
        asyncio.run(scene.client().logs("v"))
    assert scene.carrier.paths == ["/logs"]


@dataclass
class Flood(httpx2.AsyncByteStream):
    """An answer of a hundred parts."""

    part: bytes
    sent: int = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            self.sent += 1
            yield self.part


@pytest.mark.parametrize(
    ("at_most", "ask"),
    [
        (witness_client.MAX_ANSWER, "submit"),
        (witness_client.MAX_LOGS, "logs"),
    ],
)
def test_no_more_is_read_than_an_answer_may_have(scene: Scene, at_most: int, ask: str) -> None:
    """However much a witness sends."""
    flood = Flood(b"x" * (at_most // 10 + 1))
    scene.carrier.instead = lambda _: httpx2.Response(200, stream=flood)
    key = scene.ledger.signer.key
    note = scene.ledger.current.notes[8]

    async def story() -> None:
        if ask == "logs":
            await scene.client().logs("v")
        else:
            await scene.client().submit(0, (), verify_checkpoint(note, key))

    with pytest.raises(TransportError, match=f"more than {at_most} bytes"):
        asyncio.run(story())
    assert flood.sent == 10
