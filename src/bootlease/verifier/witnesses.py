"""Having the ledger's checkpoints cosigned, and heeding a witness that has seen another ledger.

Specification: C2SP tlog-witness v1, as the log's side of it.

In the background, and never in the way of an answer: a token carries the ledger's own signature,
and witnesses are for those who ask later. Before serving, though, every witness is asked. One that
has seen more than there is here, or something else, means that this store was put back from a
backup or copied: the verifier does not start, since it would write a second history. A witness that
cannot be reached proves nothing: the verifier says so, starts, and keeps asking, unless
it was told to require its witnesses. Until a witness has agreed once, its contradiction ends the
verifier even later; afterwards it is logged and recorded, for then the trouble is not this store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from bootlease.ledger.note import NoteKey
from bootlease.model import Finding
from bootlease.ports import Clock, Shard, Store
from bootlease.verifier.loglines import log_event
from bootlease.verifier.witness_client import Conflict, Unproven, WitnessClient

AHEAD: Final = "witness.ahead"
CONTRADICTS: Final = "witness.contradicts"
CONTRADICTED: Final = "witness.contradicted"
"""Kind of the governance record."""

INTERVAL: Final = 10.0
"""Seconds between two checkpoints of one shard that are given to a witness."""
MAX_PAUSE: Final = 300.0
FIRST_CONTACT: Final = 15.0
"""Seconds that a start waits for a witness."""
CHECKED_SHARDS: Final = 2
"""Shards that are compared before serving: what was lost may lie before the last change of month.
Our own witness tells of every shard it has seen."""

_TRIES: Final = 4
_AUTHOR: Final = "verifier"


@dataclass(slots=True)
class _Standing:
    """What is known of one witness.

    Attributes:
        sizes: Size that it cosigned last, by origin.
        complete: Final shards whose final checkpoint it has cosigned.
        agreed: It has cosigned something of this process's.
        reached: The last attempt found it.
        contradicted: Shards whose contradiction was recorded.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    agreed: bool = False
    reached: bool = True
    contradicted: set[str] = field(default_factory=set)


class Witnessing:
    """Keeps the ledger's checkpoints cosigned.

    Args:
        store: Holds the ledger and keeps cosignatures.
        key: The ledger's key.
        witnesses: Whom to ask.
        clock: Tells the time.
        interval: Seconds between two rounds.
    """

    def __init__(
        self,
        store: Store,
        key: NoteKey,
        witnesses: Sequence[WitnessClient],
        clock: Clock,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._interval = interval
        self._standings: Mapping[WitnessClient, _Standing] = {
            witness: _Standing() for witness in witnesses
        }

    async def check(self, *, require: bool) -> None:
        """Ask every witness, before anything is served, whether it knows this ledger.

        Args:
            require: A witness that cannot be reached is a reason not to serve.

        Raises:
            VerificationError: A witness has seen more than there is here, or something else.
            TransportError: A witness cannot be reached, and is required.
        """
        answers = await asyncio.gather(
            *(self._first_contact(*known) for known in self._standings.items()),
            return_exceptions=True,
        )
        failures = [answer for answer in answers if answer is not None]
        # A contradiction weighs more than silence, whoever answered first.
        for failure in sorted(failures, key=lambda one: isinstance(one, TransportError)):
            if require or not isinstance(failure, TransportError):
                raise failure

    async def run(self) -> None:
        """Have new checkpoints cosigned until cancelled.

        Raises:
            VerificationError: A witness that could not be reached before has seen more than there
                is here, or something else: stop serving.
        """
        tasks = [asyncio.create_task(self._attend(*known)) for known in self._standings.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError, VerificationError):
                    await task

    async def close(self) -> None:
        """Close every connection."""
        for witness in self._standings:
            await witness.close()

    async def _first_contact(self, witness: WitnessClient, standing: _Standing) -> None:
        try:
            async with asyncio.timeout(FIRST_CONTACT):
                await self._compare(witness, standing)
        except TimeoutError as exc:
            self._lost(witness, standing, f"no answer within {FIRST_CONTACT:g} s")
            raise TransportError(f"witness {witness.name} gave no answer in time") from exc
        except TransportError as exc:
            self._lost(witness, standing, str(exc))
            raise

    async def _compare(self, witness: WitnessClient, standing: _Standing) -> None:
        """Hold what the witness has seen against what there is."""
        shards = [shard for shard in await self._store.ledger.shards() if shard.size]
        ours = {shard.origin: shard.size for shard in shards}
        for origin, size in (await witness.logs(f"{self._key.name}/") or {}).items():
            if size > ours.get(origin, 0):
                raise _ahead(witness, origin, size, ours.get(origin, 0))
        for shard in shards[-CHECKED_SHARDS:]:
            await self._have_cosigned(witness, standing, shard)
        self._found(witness, standing)

    async def _attend(self, witness: WitnessClient, standing: _Standing) -> None:
        pause = self._interval
        while True:
            await asyncio.sleep(pause)
            try:
                if standing.agreed:
                    await self._round(witness, standing)
                else:
                    await self._compare(witness, standing)
            except TransportError as exc:
                self._lost(witness, standing, str(exc))
                pause = min(2 * pause, max(MAX_PAUSE, self._interval))
            except VerificationError as exc:
                if not standing.agreed:
                    raise
                await self._contradicted(witness, standing, exc)
                pause = min(2 * pause, max(MAX_PAUSE, self._interval))
            else:
                self._found(witness, standing)
                pause = self._interval

    async def _round(self, witness: WitnessClient, standing: _Standing) -> None:
        for shard in await self._store.ledger.shards():
            if shard.number in standing.complete or not shard.size:
                continue
            if standing.sizes.get(shard.origin) != shard.size:
                await self._have_cosigned(witness, standing, shard)
            elif shard.final:
                standing.complete.add(shard.number)

    async def _have_cosigned(
        self, witness: WitnessClient, standing: _Standing, shard: Shard
    ) -> None:
        """Have a shard's latest checkpoint cosigned and keep the cosignature."""
        old = standing.sizes.get(shard.origin, 0)
        for _ in range(_TRIES):
            checkpoint = await self._latest(shard)
            proof = await self._store.ledger.consistency(shard.number, old, checkpoint.size)
            if proof is None:
                raise TransportError(f"the ledger has no proof from {old} to {checkpoint.size}")
            answer = await witness.submit(old, tuple(proof), checkpoint)
            if isinstance(answer, Unproven):
                if old == 0:
                    raise TransportError(f"witness {witness.name} refuses a proof from nothing")
                raise _contradicts(witness, shard, old)
            if isinstance(answer, Conflict):
                latest = await self._latest(shard)
                if answer.size > latest.size:
                    raise _ahead(witness, shard.origin, answer.size, latest.size)
                if answer.size == old == checkpoint.size:
                    raise _contradicts(witness, shard, old)
                old = answer.size
                continue
            # By key, not by name alone: a witness may have an Ed25519 and an ML-DSA-44 key.
            name = f"{answer.name}+{answer.key_id.hex()}"
            await self._store.ledger.add_cosignature(
                shard.number, checkpoint.size, name=name, line=answer.line()
            )
            standing.sizes[shard.origin] = checkpoint.size
            standing.agreed = True
            return
        raise TransportError(f"witness {witness.name} is given checkpoints by somebody else too")

    async def _latest(self, shard: Shard) -> VerifiedCheckpoint:
        note = await self._store.ledger.checkpoint(shard.number)
        try:
            return verify_checkpoint(note or b"", self._key, origin=shard.origin)
        except MalformedError as exc:
            raise TransportError(f"the store has no checkpoint of {shard.name}: {exc}") from exc

    async def _contradicted(
        self, witness: WitnessClient, standing: _Standing, error: VerificationError
    ) -> None:
        log_event("witness-contradicts", witness=witness.name, findings=error.findings)
        what = str(error)
        if what in standing.contradicted:
            return
        with suppress(TransportError):
            details = {"witness": witness.name, "message": what}
            now = self._clock.now()
            await self._store.record_event(CONTRADICTED, details, now=now, author=_AUTHOR)
            standing.contradicted.add(what)

    @staticmethod
    def _lost(witness: WitnessClient, standing: _Standing, reason: str) -> None:
        if standing.reached:
            log_event("witness-unreachable", witness=witness.name, reason=reason)
        standing.reached = False

    @staticmethod
    def _found(witness: WitnessClient, standing: _Standing) -> None:
        if not standing.reached:
            log_event("witness-reached", witness=witness.name)
        standing.reached = True


@asynccontextmanager
async def witnessed(
    witnessing: Witnessing, *, require: bool, stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Compare with the witnesses, then have checkpoints cosigned for as long as this is open.

    Args:
        witnessing: The witnesses.
        require: As for ``Witnessing.check``.
        stop: Called where what runs inside must end; the reason is raised at the end.

    Raises:
        VerificationError: A witness has seen more than there is here, or something else.
        TransportError: A witness cannot be reached, and is required.
    """
    task: asyncio.Task[None] | None = None
    try:
        await witnessing.check(require=require)
        task = asyncio.create_task(witnessing.run())
        task.add_done_callback(
            lambda done: stop() if not done.cancelled() and done.exception() else None
        )
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await witnessing.close()


def _ahead(witness: WitnessClient, origin: str, seen: int, here: int) -> VerificationError:
    return VerificationError(
        Finding(
            AHEAD,
            f"Witness {witness.name} has seen more of {origin} than there is here: this store was"
            " put back from a backup, or another verifier signs with its ledger key.",
            expected=f"{seen} entries",
            seen=f"{here} entries",
        )
    )


def _contradicts(witness: WitnessClient, shard: Shard, size: int) -> VerificationError:
    return VerificationError(
        Finding(
            CONTRADICTS,
            f"Witness {witness.name} has seen another tree of {size} entries for {shard.origin}:"
            " this store has been changed, or another verifier signs with its ledger key.",
        )
    )
