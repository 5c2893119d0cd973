"""Who acts as an operator, and since when: admin logins go into the ledger.

A credential is sent with every request. A *login* is its first use from a client, and its first
after a quarter of an hour without one, or after a restart.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from bootlease.ports import Clock, Store, StoredCredential

IDLE: Final = 900
"""Seconds without a request after which the next one is a login again."""
_REMEMBERED: Final = 1024


def author_of(credential: StoredCredential) -> str:
    """Return how the ledger names the holder of a credential.

    A label may be given twice, and by whoever can write to the database: the digest tells which
    credential it was, and the ledger who created that.
    """
    return f"operator:{credential.label}#{credential.digest[:4].hex()}"


class Logins:
    """Records logins.

    Args:
        store: Where the ledger is.
        clock: Tells the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: OrderedDict[tuple[bytes, str], int] = OrderedDict()
        self._recording = asyncio.Lock()

    async def seen(self, credential: StoredCredential, client: str) -> None:
        """Note a request, and record it if it is a login: before anything is done for it."""
        now, key = self._clock.now(), (credential.digest, client)
        if not self._goes_on(key, now):
            # Requests that come with the first one wait for its record, and make none of their own.
            async with self._recording:
                now = self._clock.now()
                if not self._goes_on(key, now):
                    await self._store.record_event(
                        "admin.login", {"client": client}, now=now, author=author_of(credential)
                    )
                    self._seen[key] = now
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _goes_on(self, key: tuple[bytes, str], now: int) -> bool:
        known = self._seen.get(key)
        return known is not None and 0 <= now - known < IDLE
