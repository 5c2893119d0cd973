"""Proofs of possession, made for workloads whose key is the agent's.

A workload chooses method, URL and nonce; what is signed is a DPoP proof with them in it, typed as
such, and nothing else. Keys in the TPM sign in a thread of their own, one after another: a TPM is
slow and may hang, and neither may keep other workloads waiting.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence import TokenEncoding
from bootlease.localapi import ProofAsk
from bootlease.localapi.proofs import AUTHORIZATION, DPOP
from bootlease.model import Finding
from bootlease.node.lease import Holding
from bootlease.node.wishbook import WishId
from bootlease.node.workloads.leases import token_text
from bootlease.node.workloads.problems import ProblemError, ProblemKind, busy, malformed
from bootlease.token import PrivateKeySigner, Signer, make_proof

_JTI_BYTES: Final = 16
_WAITING: Final = 4
"""Proofs of one lease that may wait for the TPM: it signs for each in turn."""
_WAIT: Final = 5.0

_Job = tuple[Callable[[], str], asyncio.Future[str]]


class Proofs:
    """Makes the headers that present a token. Belongs to the loop's thread.

    Args:
        now: Tells the wall clock.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._waiting: Counter[WishId] = Counter()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def headers(self, holding: Holding, ask: ProofAsk) -> dict[str, str]:
        """Return the headers for one request.

        Raises:
            ProblemError: The key is the workload's own, the URL is none, or the TPM does not sign.
        """
        token = token_text(holding)
        if holding.wish.encoding is TokenEncoding.UNSAFE_BEARER:
            return {AUTHORIZATION: f"Bearer {token}"}
        signer = holding.key.signer
        if signer is None:
            raise ProblemError(
                ProblemKind.OWN_KEY,
                Finding(
                    "workload.proof.own-key",
                    "The confirmation key is the workload's own: it makes its proofs itself.",
                ),
            )
        try:
            made = await self._made(holding.id, signer, self._maker(signer, token, ask))
        except MalformedError as exc:
            raise malformed(str(exc)) from exc
        return {AUTHORIZATION: f"DPoP {token}", DPOP: made}

    def stop(self) -> None:
        """Make no more; a thread that hangs in the TPM is left there."""
        if self._thread is not None:
            self._jobs.put(None)

    def _maker(self, signer: Signer, token: str, ask: ProofAsk) -> Callable[[], str]:
        return lambda: make_proof(
            signer,
            htm=ask.method,
            htu=ask.url,
            iat=self._now(),
            jti=secrets.token_urlsafe(_JTI_BYTES),
            access_token=token,
            nonce=ask.nonce,
        )

    async def _made(self, wish: WishId, signer: Signer, make: Callable[[], str]) -> str:
        if isinstance(signer, PrivateKeySigner):
            return make()
        if self._waiting[wish] >= _WAITING:
            raise busy(f"{_WAITING} proofs of this lease wait for the TPM already.")
        self._waiting[wish] += 1
        try:
            return await asyncio.wait_for(self._in_thread(make), _WAIT)
        except (TransportError, TimeoutError) as exc:
            raise ProblemError(
                ProblemKind.UNAVAILABLE,
                Finding("workload.proof.unavailable", "The TPM does not sign at this moment."),
                retry_after=1,
            ) from exc
        finally:
            self._waiting[wish] -= 1
            if not self._waiting[wish]:
                del self._waiting[wish]

    def _in_thread(self, make: Callable[[], str]) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            # A daemon: an agent that stops does not wait for a TPM that hangs.
            self._thread = threading.Thread(
                target=_sign, args=(self._jobs, loop), name="workload-proofs", daemon=True
            )
            self._thread.start()
        future: asyncio.Future[str] = loop.create_future()
        self._jobs.put((make, future))
        return future


def _sign(jobs: queue.SimpleQueue[_Job | None], loop: asyncio.AbstractEventLoop) -> None:
    while (job := jobs.get()) is not None:
        make, future = job
        if future.cancelled():
            continue
        try:
            made = make()
        except (TransportError, MalformedError) as exc:
            _settle(loop, future, exc)
        else:
            _settle(loop, future, made)


def _settle(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[str], result: str | Exception
) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
