"""The streams of a verifier: made by its operator, and what is sent in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bootlease.errors import MalformedError
from bootlease.ports import (
    DeliveryMethod,
    EnrolledNode,
    EventStream,
    RevokedKind,
    StoredPolicy,
    StoredRevocation,
)
from bootlease.store import SQLStore
from bootlease.store import streams as stored
from bootlease.testing.keys import event_signer
from bootlease.testing.set_clock import SetClock
from bootlease.testing.store_scene import AUTHOR, NOW, PREFIX, FaultySealer, StoreScene
from bootlease.token.caep import (
    IssuerSubject,
    SessionRevoked,
    StreamSubject,
    StreamUpdated,
    TokenClaimsChange,
    Verification,
)
from bootlease.token.secevent import SecurityEvent, verify_set
from bootlease.verifier.operators.access import secret_digest
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.securityevents.streams import MAX_STREAMS, Outgoing, Streams, Wanted

ISSUER, AUDIENCE = "https://verifier.example", "https://rp.example"
URL = "https://rp.example/events"


class World:
    """A store with streams."""

    def __init__(self, store: SQLStore, path: Path, sealer: FaultySealer) -> None:
        self.scene = StoreScene(path, sealer, store)
        self.clock = SetClock(NOW)
        self.streams = Streams(store, event_signer(), ISSUER, self.clock)

    async def stream(self, endpoint: str | None = None) -> EventStream:
        """Make a stream."""
        made, _ = await self.streams.create(Wanted(AUDIENCE, endpoint), author=AUTHOR)
        return made

    async def activate(self, epoch: int = 1) -> None:
        """Let something happen that is one event."""
        policy = StoredPolicy(epoch, "p", bytes([epoch]) * 32, b"text", NOW)
        assert await self.scene.store.activate_policy(policy, author=AUTHOR)

    async def flow(self) -> None:
        """Make events of all that happened."""
        # Twice: what is no event is looked at again, and is none then either.
        for _ in range(2):
            while await self.streams.step():
                pass

    def read(self, sent: Outgoing) -> SecurityEvent:
        """What an event says to its receiver."""
        keys = self.streams.keys
        content = verify_set(sent.token, keys, issuer=ISSUER, audience=AUDIENCE).content
        assert content.jti == sent.jti
        return content


Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story in a world of its own."""

    def run(story: Story) -> None:
        async def whole() -> None:
            sealer = FaultySealer()
            path = tmp_path / "v.db"
            store = SQLStore.open(path, sealer, PREFIX)
            try:
                await story(World(store, path, sealer))
            finally:
                store.close()

        asyncio.run(whole())

    return run


Tell = Callable[[Story], None]


def test_a_stream_is_made_with_a_secret_that_is_not_kept(tell: Tell) -> None:
    """Its receiver shows it; another's, or none, is not taken for it."""

    async def story(world: World) -> None:
        streams = world.streams
        made, secret = await streams.create(Wanted(AUDIENCE), author=AUTHOR)
        other, others = await streams.create(Wanted(AUDIENCE, URL, "Bearer x"), author=AUTHOR)
        assert (made.method, made.endpoint) == (DeliveryMethod.POLL, None)
        assert (other.method, other.endpoint) == (DeliveryMethod.PUSH, URL)
        assert other.authorization == "Bearer x"
        assert secret.startswith("blstr_")
        assert streams.all() == (made, other) or streams.all() == (other, made)
        assert streams.get(made.id) == made
        assert streams.authenticated(made.id, secret_digest(secret)) == made
        assert streams.authenticated(made.id, secret_digest(others)) is None
        assert streams.authenticated(made.id, None) is None
        assert streams.authenticated("0" * 32, secret_digest(secret)) is None
        # The digest that stands for no stream opens none.
        assert streams.authenticated("0" * 32, bytes(32)) is None

    tell(story)


def test_streams_are_there_again_after_a_restart(tell: Tell) -> None:
    """The store has them; whoever loads them sends what waits."""

    async def story(world: World) -> None:
        made = await world.stream()
        await world.activate()
        await world.flow()
        again = Streams(world.scene.store, event_signer(), ISSUER, world.clock)
        assert again.all() == ()
        await again.load()
        assert again.all() == (made,)
        first = await world.streams.outgoing(made, at_most=9)
        second = await again.outgoing(made, at_most=9)
        assert first == second != []

    tell(story)


def test_there_is_a_bound_on_streams(tell: Tell) -> None:
    """Each costs a place in memory and a task; one that is removed makes room."""

    async def story(world: World) -> None:
        made = [await world.stream() for _ in range(MAX_STREAMS)]
        with pytest.raises(ProblemError) as caught:
            await world.stream()
        assert caught.value.kind is ProblemKind.CONFLICT
        await world.streams.remove(made[0].id, author=AUTHOR)
        await world.stream()
        with pytest.raises(ProblemError) as caught:
            await world.streams.remove(made[0].id, author=AUTHOR)
        assert caught.value.kind is ProblemKind.NOT_FOUND

    tell(story)


def test_what_happens_is_sent_in_every_stream(tell: Tell) -> None:
    """Once, in order, until the receiver has it."""

    async def story(world: World) -> None:
        one, other = await world.stream(), await world.stream()
        await world.activate(1)
        await world.activate(2)
        await world.flow()
        await world.flow()
        for stream in (one, other):
            read = [world.read(each) for each in await world.streams.outgoing(stream, at_most=9)]
            assert [each.subject for each in read] == [IssuerSubject(), IssuerSubject()]
            epochs = [
                each.event.claims["bootlease_policy"]["epoch"]
                for each in read
                if isinstance(each.event, TokenClaimsChange)
            ]
            assert epochs == [1, 2]
        sent = await world.streams.outgoing(one, at_most=1)
        assert len(sent) == 1
        assert await world.streams.settle(one, [sent[0].jti]) == 1
        assert await world.streams.settle(one, []) == 0
        assert not await world.streams.waits(one, sent[0].jti)
        assert (await world.streams.backlog(one)).queued == 1
        assert (await world.streams.backlog(other)).queued == 2

    tell(story)


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (RevokedKind.NODE, ""),
        (RevokedKind.LEASE, "ab" * 16),
        (RevokedKind.LINEAGE, ""),
        (RevokedKind.REFERENCE, b"r".hex() * 32),
        (RevokedKind.EPOCH, "7"),
        (RevokedKind.KEY, "k" * 43),
    ],
)
def test_whatever_is_revoked_is_told(tell: Tell, kind: RevokedKind, subject: str) -> None:
    """From the store's own record of it, of every kind but a family."""

    async def story(world: World) -> None:
        stream = await world.stream()
        scene = world.scene
        node = await scene.node()
        await scene.renew(node, now=NOW + 1)
        named = {RevokedKind.NODE: node.id, RevokedKind.LINEAGE: node.commits[0].root}
        what = subject or named[kind].hex()
        revocation = StoredRevocation(
            kind, what, in_force=True, reason="stolen", author=AUTHOR, at=NOW
        )
        await world.flow()
        assert await scene.store.continuity.add_revocation(revocation)
        await world.flow()
        (sent,) = await world.streams.outgoing(stream, at_most=9)
        told = world.read(sent).event
        assert isinstance(told, SessionRevoked | TokenClaimsChange)
        assert told.cause.reason == "stolen"

    tell(story)


def test_a_family_that_is_revoked_is_looked_up(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes whose grants were live are asked for, each once."""
    from bootlease.verifier.securityevents import streams as module  # noqa: PLC0415 - to look into it

    asked: list[bytes] = []

    async def story(world: World) -> None:
        await world.stream()
        node = await world.scene.node()

        async def look(node: bytes) -> EnrolledNode | None:
            asked.append(node)
            return await world.scene.store.node(node)

        monkeypatch.setattr(world.streams, "_nodes", look)
        monkeypatch.setattr(module, "families_wanted", lambda _: [node.id, node.id, b"?" * 32])
        seen: list[dict[bytes, Any]] = []

        def occurrences(_: object, enrolments: dict[bytes, Any]) -> list[Any]:
            seen.append(enrolments)
            return []

        monkeypatch.setattr(module, "occurrences", occurrences)
        assert not await world.streams.step()
        assert asked == [node.id, b"?" * 32]
        assert seen == [{node.id: node.record}]

    tell(story)


def test_renewals_are_noted_now_and_then(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that renews makes no event, and costs no write at each look."""
    from bootlease.verifier.securityevents import streams as module  # noqa: PLC0415 - to look into it

    monkeypatch.setattr(module, "_WORTH_NOTING", 3)

    async def story(world: World) -> None:
        stream = await world.stream()
        node = await world.scene.node()
        await world.scene.renew(node, now=NOW + 1)

        async def noted() -> int:
            causes = await world.scene.store.streams.causes()
            assert causes is not None
            return causes.before.decision

        for renewals, expected in ((1, 1), (2, 1), (3, 1), (4, 4)):
            await world.flow()
            assert (len(node.commits), await noted()) == (renewals, expected)
            await world.scene.renew(node, now=NOW + 2)
        assert await world.streams.outgoing(stream, at_most=9) == []
        # What an operator did is noted, event or not.
        before = await world.scene.store.streams.causes()
        assert before is not None
        now = world.clock.now()
        await world.scene.store.record_event("admin.login", {}, now=now, author=AUTHOR)
        await world.flow()
        after = await world.scene.store.streams.causes()
        assert after is not None
        assert after.before.governance == before.before.governance + 1

    tell(story)


def test_what_happened_is_looked_at_to_its_end(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In portions, without waiting in between."""
    monkeypatch.setattr(stored, "SPAN", 2)

    async def story(world: World) -> None:
        stream = await world.stream()
        for epoch in range(1, 6):
            await world.activate(epoch)
        assert await world.streams.step()
        await world.flow()
        assert len(await world.streams.outgoing(stream, at_most=9)) == 5

    tell(story)


def test_whoever_missed_events_is_told_before_all_others(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that is acknowledged; what was dropped meanwhile is told anew."""
    monkeypatch.setattr(stored, "MAX_QUEUED", 2)

    async def story(world: World) -> None:
        stream = await world.stream()
        for epoch in range(1, 6):
            await world.activate(epoch)
        await world.flow()
        sent = await world.streams.outgoing(stream, at_most=9)
        report = world.read(sent[0])
        assert report.subject == StreamSubject(stream.id)
        assert isinstance(report.event, StreamUpdated)
        assert report.event.reason is not None
        assert report.event.reason.startswith("overflow: 3 events were dropped")
        assert len(sent) == 3
        assert (await world.streams.outgoing(stream, at_most=9))[0].jti == report.jti
        await world.activate(6)
        await world.flow()
        newer = await world.streams.outgoing(stream, at_most=9)
        assert newer[0].jti != report.jti
        # Whoever acknowledges the older report does not know of the newer one.
        await world.streams.settle(stream, [report.jti])
        assert (await world.streams.backlog(stream)).dropped == 4
        assert await world.streams.settle(stream, [newer[0].jti]) == 1
        assert (await world.streams.backlog(stream)).dropped == 0
        later = await world.streams.outgoing(stream, at_most=9)
        assert [each.jti for each in later] == [each.jti for each in newer[1:]]

    tell(story)


def test_a_verification_says_what_was_asked_for(tell: Tell) -> None:
    """Of the stream itself, to its receiver alone."""

    async def story(world: World) -> None:
        stream, other = await world.stream(), await world.stream()
        jti = await world.streams.verify(stream, "state-1")
        (sent,) = await world.streams.outgoing(stream, at_most=9)
        read = world.read(sent)
        assert (read.jti, read.subject) == (jti, StreamSubject(stream.id))
        assert read.event == Verification("state-1")
        assert await world.streams.outgoing(other, at_most=9) == []

    tell(story)


def test_whoever_waits_hears_of_arrivals(tell: Tell) -> None:
    """Of events, of a verification, and of the stream's end."""

    async def story(world: World) -> None:
        stream = await world.stream()
        for happen in (
            lambda: world.activate(1),
            lambda: world.streams.verify(stream, None),
            lambda: world.streams.remove(stream.id, author=AUTHOR),
        ):
            arrived = world.streams.arrivals(stream)
            await world.flow()
            assert not arrived.is_set()
            await happen()
            await world.flow()
            async with asyncio.timeout(1):
                await arrived.wait()

    tell(story)


def test_the_source_wakes_when_it_is_told(tell: Tell) -> None:
    """And after its time else; a call that came before is not lost."""

    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        world.streams.wake()
        await world.streams.woken(30)
        loop.call_later(0.01, world.streams.wake)
        await world.streams.woken(30)
        await world.streams.woken(0.01)
        assert loop.time() - started < 5

    tell(story)


def test_whoever_looks_after_streams_hears_of_others(tell: Tell) -> None:
    """Also of one that was made before he began to wait."""

    async def story(world: World) -> None:
        seen = world.streams.version
        await world.stream()
        async with asyncio.timeout(1):
            await world.streams.changed(seen, 30)
        waiting = asyncio.create_task(world.streams.changed(world.streams.version, 30))
        await asyncio.sleep(0)
        await world.stream()
        async with asyncio.timeout(1):
            await waiting

    tell(story)


@pytest.mark.parametrize(
    "url",
    ["https://rp.example/events", "https://10.0.0.7:8443/x?y=z", "http://127.0.0.1:9/e"],
)
def test_an_endpoint_is_https_or_on_this_machine(url: str) -> None:
    """Relying parties are in private networks, and the operator alone says where."""
    assert Wanted(AUDIENCE, url).endpoint == url


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("https://rp.example", "http://rp.example/events"), "must be https"),
        (("https://rp.example", "ftp://rp.example/events"), "must be https"),
        (("https://rp.example", "/events"), "not the URL"),
        (("https://rp.example", "https:///events"), "not the URL"),
        (("https://rp.example", "https://u:p@rp.example/"), "not the URL"),
        (("https://rp.example", "https://rp.example/#x"), "not the URL"),
        (("https://rp.example", "https://rp.example/a b"), "not the URL"),
        (("https://rp.example", "https://rp.example/é"), "not the URL"),
        (("https://rp.example", "https://rp.example/\n"), "not the URL"),
        (("https://rp.example", "https://rp.example:0/"), "not the URL"),
        (("https://rp.example", "https://rp.example:x/"), "not the URL"),
        (("https://rp.example", "https://rp.example/" + "x" * 1024), "not the URL"),
        (("",), "aud"),
        (("x" * 513,), "aud"),
        (("a\nb",), "aud"),
        ((AUDIENCE, None, "Bearer x"), "goes with an endpoint"),
        ((AUDIENCE, URL, ""), "authorization"),
        ((AUDIENCE, URL, "x" * 4097), "authorization"),
        ((AUDIENCE, URL, "Bearer x\r\nHost: y"), "authorization"),
        ((AUDIENCE, URL, "é"), "authorization"),
    ],
)
def test_a_stream_that_could_not_work_is_not_made(wanted: Any, expected: str) -> None:
    """Each is wrong in one way."""
    with pytest.raises(MalformedError, match=expected):
        Wanted(*wanted)
