"""What the verifier says of its leases, signed: continuity statements and status lists.

A statement is made when something has changed or when the last one is a third of its life old, and
is then the same for everybody who asks: asking often costs no signatures. Changes that come close
after each other share one statement, at most 30 ms after the first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.ports import Clock
from bootlease.token import KeySet
from bootlease.token.claimparts import STATUS_PATH
from bootlease.token.continuity import Statement, sign_statement
from bootlease.token.statuslist import (
    StatusList,
    StatusListToken,
    sign_status_cwt,
    sign_status_jwt,
)
from bootlease.verifier.answers import Issuer
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.limits import Limits
from bootlease.verifier.registry import Registry

GATHERED: Final = 0.03
"""Seconds for which changes are gathered into one statement."""


@dataclass(frozen=True, slots=True)
class Made:
    """A signed statement and what it rests on.

    Attributes:
        text: The statement.
        sequence: Its number.
        issued_at: Seconds since the epoch.
        min_epoch: The lowest policy epoch that counts, as it says.
    """

    text: str
    sequence: int
    issued_at: int
    min_epoch: int


class Statements:
    """Makes statements.

    Args:
        issuer: Signs them.
        keys: Returns the token keys whose tokens count.
        registry: Says which epochs count, and for how long a statement is believed.
        live: Knows which leases have ended.
        clock: Tells the time.
        limits: Bounds.
    """

    def __init__(
        self,
        issuer: Issuer,
        keys: Callable[[], KeySet],
        registry: Registry,
        live: LiveLeases,
        *,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.issuer = issuer
        self._keys = keys
        self._registry = registry
        self._live = live
        self._clock = clock
        self._limits = limits
        self._made: Made | None = None
        self._lists: dict[str, tuple[int, str | bytes]] = {}
        self._sequence = 0
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._due: asyncio.TimerHandle | None = None
        self._due_on: asyncio.AbstractEventLoop | None = None

    @property
    def valid(self) -> int:
        """Seconds for which a statement made now is believed."""
        active = self._registry.now.active
        return self._limits.continuity if active is None else active.policy.lease.continuity

    @property
    def fresh(self) -> int:
        """Seconds after which a statement is made anew though nothing has changed."""
        return max(1, self.valid // 3)

    @property
    def keys(self) -> KeySet:
        """The token keys whose tokens count."""
        return self._keys()

    @property
    def closed(self) -> bool:
        """The verifier is about to end."""
        return self._closed

    def statement(self, now: int) -> str:
        """Return the statement of this moment."""
        made = self._made
        if (
            made is None
            or now - made.issued_at >= self.fresh
            or now < made.issued_at
            or made.min_epoch != self._registry.now.min_epoch(now)
        ):
            made = self._made = self._make(now)
        return made.text

    def status_jwt(self, now: int) -> str:
        """Return the status list of this moment as a JWT."""
        found = self._listed("jwt", now)
        if not isinstance(found, str):
            found = sign_status_jwt(self._status(now), self.issuer.signer)
            self._lists["jwt"] = now, found
        return found

    def status_cwt(self, now: int) -> bytes:
        """Return the status list of this moment as a CWT."""
        found = self._listed("cwt", now)
        if not isinstance(found, bytes):
            found = sign_status_cwt(self._status(now), self.issuer.signer)
            self._lists["cwt"] = now, found
        return found

    def _listed(self, form: str, now: int) -> str | bytes | None:
        at, found = self._lists.get(form, (0, None))
        return found if 0 <= now - at < self.fresh else None

    def _status(self, now: int) -> StatusListToken:
        return StatusListToken(
            uri=self.issuer.url + STATUS_PATH,
            issued_at=now,
            expires_at=now + self.valid,
            ttl=self.fresh,
            status=StatusList.of(self._live.bits(now)),
        )

    def _make(self, now: int) -> Made:
        self._sequence = max(self._sequence + 1, now * 1000)
        min_epoch = self._registry.now.min_epoch(now)
        statement = Statement(
            issuer=self.issuer.url,
            issued_at=now,
            expires_at=now + self.valid,
            sequence=self._sequence,
            min_epoch=min_epoch,
            key_ids=frozenset(each.key_id for each in self.keys.keys),
            status=StatusList.of(self._live.bits(now)),
        )
        text = sign_statement(statement, self.issuer.signer)
        return Made(text, self._sequence, now, min_epoch)

    def changed(self) -> None:
        """Something ended: whoever asks from now on is told, and whoever listens soon."""
        self._made = None
        self._lists.clear()
        loop = asyncio.get_running_loop()
        if self._due is None or self._due_on is not loop:
            self._due, self._due_on = loop.call_later(GATHERED, self._wake), loop

    def _wake(self) -> None:
        self._due = None
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def close(self) -> None:
        """Let everybody go who listens: the verifier is about to end."""
        self._closed = True
        self._wake()

    def next_change(self) -> asyncio.Future[None]:
        """Return what is done when something changes, or the verifier is about to end."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(change)
        return change

    def forget(self, change: asyncio.Future[None]) -> None:
        """Wait no longer for a change."""
        self._waiting.discard(change)
