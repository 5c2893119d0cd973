"""Who acts as an operator, and since when: admin logins go into the ledger.

A credential is sent with every request. A *login* is its first use from a client, and its first
after a quarter of an hour without one, or after a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from bootlease.ports import Clock, Store, StoredCredential

IDLE: Final = 900
"""Seconds without a request after which the next one is a login again."""
_REMEMBERED: Final = 1024


def author_of(credential: StoredCredential) -> str:
    """Return how the ledger names the holder of a credential."""
    return f"operator:{credential.label}"


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

    async def seen(self, credential: StoredCredential, client: str) -> None:
        """Note a request, and record it if it is a login: before anything is done for it."""
        now = self._clock.now()
        known = self._seen.get((credential.digest, client))
        if known is None or not 0 <= now - known < IDLE:
            await self._store.record_event(
                "admin.login", {"client": client}, now=now, author=author_of(credential)
            )
        self._seen[credential.digest, client] = now
        self._seen.move_to_end((credential.digest, client))
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
