"""Expiring keys in a TPM: policy sessions, permits and tickets.

Specification: TPM 2.0 Library part 3 §11.1 (StartAuthSession), §12.3 (LoadExternal), §23.3
(PolicySigned), §23.5 (PolicyTicket), §20.2 (Sign); part 1 §19.7.13 (policy tickets).

A permit is good in one session, which is held from the quote to the answer: one for all keys that
the quote asks for, since a TPM has few (three loaded, 64 in all). The tickets made of permits are
used in sessions that live for one signature.

Nothing here enforces an end: the TPM does, whatever this process is made to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_SE
from tpm2_pytss.types import (
    TPM2B_NAME,
    TPM2B_PUBLIC,
    TPM2B_TIMEOUT,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF,
    TPMT_TK_AUTH,
)

from bootlease.errors import TransportError
from bootlease.node.tpm.esapi import Connection
from bootlease.tpm import parse_public
from bootlease.tpm.policy import NONCE_BYTES, permit_signature

_NO_SYMMETRIC: Final = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the TPM made of a permit; it takes it back until its time is over, or it was reset.

    Attributes:
        authority: Name of the leash key.
        policy_ref: policyRef.
        timeout: When the TPM's time is over, as the TPM writes it.
        ticket: Its own word for all of that.
    """

    authority: bytes
    policy_ref: bytes
    timeout: TPM2B_TIMEOUT
    ticket: TPMT_TK_AUTH


@contextlib.contextmanager
def policy_session(connection: Connection) -> Iterator[ESYS_TR]:
    """Open a policy session for the length of a block."""
    session = _start(connection)
    try:
        yield session
    finally:
        _end(connection, session)


@contextlib.contextmanager
def ticket_session(connection: Connection, ticket: Ticket) -> Iterator[ESYS_TR]:
    """Open a session that satisfies the ticket's policy, for one command.

    Raises:
        TransportError: The ticket's time is over, or the TPM was reset since.
    """
    with policy_session(connection) as session:
        with connection.command("TPM2_PolicyTicket"):
            connection.esapi.policy_ticket(
                session,
                ticket.timeout,
                TPM2B_NAME(ticket.authority),
                ticket.ticket,
                policy_ref=ticket.policy_ref,
            )
        yield session


class PermitSession:
    """The policy session that permits are asked for; to be closed.

    Attributes:
        nonce: Its nonceTPM.
    """

    def __init__(self, connection: Connection) -> None:
        """Start it: the time of every permit counts from here.

        Raises:
            TransportError: The TPM refuses.
        """
        self._connection = connection
        self._session: ESYS_TR | None = _start(connection)
        with connection.command("TPM2_StartAuthSession"):
            self.nonce = bytes(connection.esapi.trsess_get_nonce_tpm(self._session))
        if len(self.nonce) != NONCE_BYTES:
            self.close()
            raise TransportError(f"TPM {connection.tcti} gave a session nonce of another size")

    def close(self) -> None:
        """End it, if it has not ended yet."""
        session, self._session = self._session, None
        if session is not None:
            _end(self._connection, session)

    def redeem(self, authority: bytes, permits: Sequence[tuple[bytes, int, bytes]]) -> list[Ticket]:
        """Have the TPM verify permits, and return its tickets.

        Args:
            authority: TPMT_PUBLIC of the leash key.
            permits: Of each its policyRef, seconds, and signature ``r || s``.

        Raises:
            TransportError: A permit is not for this session, or too late, or this is closed.
        """
        session = self._session
        if session is None:
            raise TransportError("the session that the permits are for has ended")
        with _loaded(self._connection, authority) as (key, name):
            return [
                Ticket(name, policy_ref, *self._signed(session, key, policy_ref, seconds, signed))
                for policy_ref, seconds, signed in permits
            ]

    def _signed(
        self, session: ESYS_TR, key: ESYS_TR, policy_ref: bytes, seconds: int, signature: bytes
    ) -> tuple[TPM2B_TIMEOUT, TPMT_TK_AUTH]:
        parsed, _ = TPMT_SIGNATURE.unmarshal(permit_signature(signature).marshal())
        with self._connection.command("TPM2_PolicySigned"):
            timeout, ticket = self._connection.esapi.policy_signed(
                *(key, session, parsed),
                nonce_tpm=self.nonce,
                policy_ref=policy_ref,
                expiration=-seconds,
            )
        return timeout, ticket


@contextlib.contextmanager
def _loaded(connection: Connection, public: bytes) -> Iterator[tuple[ESYS_TR, bytes]]:
    area, _ = TPMT_PUBLIC.unmarshal(public)
    with connection.command("TPM2_LoadExternal"):
        # Under the null hierarchy tickets die with the TPM's next reset in any case.
        key = connection.esapi.load_external(TPM2B_PUBLIC(publicArea=area), None, ESYS_TR.NULL)
    try:
        yield key, parse_public(public).name
    finally:
        with connection.command("TPM2_FlushContext"):
            connection.esapi.flush_context(key)


def _start(connection: Connection) -> ESYS_TR:
    with connection.command("TPM2_StartAuthSession"):
        # nonceTPM is as long as the caller's nonce (part 1 §19.6.3).
        return connection.esapi.start_auth_session(
            *(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, _NO_SYMMETRIC, TPM2_ALG.SHA256),
            nonce_caller=os.urandom(NONCE_BYTES),
        )


def _end(connection: Connection, session: ESYS_TR) -> None:
    with connection.command("TPM2_FlushContext"):
        connection.esapi.flush_context(session)
