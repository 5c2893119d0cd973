"""What a workload may ask for, by method and path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from bootlease.errors import MalformedError
from bootlease.localapi import encode_event, parse_lease_ask, parse_proof_ask, wire
from bootlease.localapi.info import AgentInfo
from bootlease.localapi.proofs import encode_proof
from bootlease.model import Finding
from bootlease.node.workloads.http import HTTPConnection, Request
from bootlease.node.workloads.journal import Journal
from bootlease.node.workloads.leases import Leases
from bootlease.node.workloads.peers import Peer
from bootlease.node.workloads.problems import (
    ProblemError,
    ProblemKind,
    malformed,
    nobody,
    unknown_lease,
)
from bootlease.node.workloads.proofs import Proofs

_LEASE: Final = wire.LEASE_HEADER.lower().encode()
_TYPE: Final = b"content-type"
_PATHS: Final = {wire.LEASES, wire.CURRENT, wire.EVENTS, wire.PROOFS, wire.INFO}

_Parsed = TypeVar("_Parsed")


class Routes:
    """Serves requests.

    Args:
        leases: The open leases.
        proofs: Makes proofs.
        journal: Told of refusals.
        info: Tells what the agent says of itself.
    """

    def __init__(
        self, leases: Leases, proofs: Proofs, journal: Journal, info: Callable[[], AgentInfo]
    ) -> None:
        self._leases = leases
        self._proofs = proofs
        self._journal = journal
        self._info = info

    async def serve(self, http: HTTPConnection, peer: Peer, request: Request) -> bool:
        """Serve one request; True where its answer is a stream that is open now.

        Raises:
            ProblemError: It is not served.
        """
        if not self._leases.rules_about(peer):
            unknown = nobody(peer)
            self._journal.note_refusal(peer, unknown.findings)
            raise unknown
        match request.method, request.target:
            case "POST", wire.LEASES:
                self._open(http, peer, request)
                return True
            case "GET", wire.EVENTS:
                self._watch(http, peer, request)
                return True
            case "GET", wire.CURRENT:
                granted, _ = self._leases.standing(peer, _handle(request))
                http.answer(encode_event(granted))
            case "POST", wire.PROOFS:
                await self._prove(http, peer, request)
            case "GET", wire.INFO:
                http.answer(self._info().encode())
            case _:
                raise _no_route(request)
        return False

    def _open(self, http: HTTPConnection, peer: Peer, request: Request) -> None:
        ask = _parsed(parse_lease_ask, request)
        try:
            self._leases.open(peer, ask, http)
        except ProblemError as exc:
            self._journal.note_refusal(peer, exc.findings)
            raise
        http.begin_stream()

    def _watch(self, http: HTTPConnection, peer: Peer, request: Request) -> None:
        lease = self._leases.watchable(peer, _handle(request))
        http.begin_stream()
        self._leases.watch(lease, http)

    async def _prove(self, http: HTTPConnection, peer: Peer, request: Request) -> None:
        handle = _handle(request)
        _, holding = self._leases.standing(peer, handle)
        headers = await self._proofs.headers(holding, _parsed(parse_proof_ask, request))
        # A TPM takes its time, in which the lease may have ended.
        self._leases.standing(peer, handle)
        http.answer(encode_proof(headers))


def _handle(request: Request) -> str:
    handle = request.headers.get(_LEASE)
    if handle is None:
        raise malformed(f"it has no header {wire.LEASE_HEADER}, the handle of a lease")
    try:
        return handle.decode("ascii")
    except UnicodeDecodeError as exc:
        raise unknown_lease() from exc


def _parsed(parse: Callable[[bytes], _Parsed], request: Request) -> _Parsed:
    if request.headers.get(_TYPE, b"").partition(b";")[0].strip().lower() != wire.JSON.encode():
        raise ProblemError(
            ProblemKind.MEDIA,
            Finding("workload.request.malformed", f"The body's Content-Type is {wire.JSON}."),
        )
    try:
        return parse(request.body)
    except MalformedError as exc:
        raise malformed(str(exc)) from exc


def _no_route(request: Request) -> ProblemError:
    known = request.target in _PATHS
    return ProblemError(
        ProblemKind.METHOD if known else ProblemKind.NOT_FOUND,
        Finding("workload.route.unknown", "The agent has no such method and path."),
    )
