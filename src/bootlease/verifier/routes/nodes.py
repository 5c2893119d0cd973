"""The routes that nodes use."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from bootlease.errors import VerificationError
from bootlease.verifier.bodies import announced_length
from bootlease.verifier.leasing import Decided
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import MEDIA_TYPE, ProblemError, ProblemKind
from bootlease.verifier.routes.contract import (
    ACTIVATION,
    BODY,
    CHALLENGE,
    CREDENTIAL,
    ENROLMENT,
    EVIDENCE,
    LEASE,
    RECEIPT,
    described,
    problems,
    success,
)
from bootlease.verifier.routes.gate import Presenter, client_of, throttled, with_body
from bootlease.verifier.service import Service

router: Final = APIRouter()
_ID_DIGITS: Final = 64
_LOWER_HEX: Final = frozenset("0123456789abcdef")


def identifier(request: Request, name: str) -> bytes:
    """Return a 32-byte identifier from the path; one spelling only.

    Raises:
        ProblemError: The path has none, so it names nothing.
    """
    text: str = request.path_params[name]
    if len(text) != _ID_DIGITS or not _LOWER_HEX.issuperset(text):
        raise ProblemError(
            ProblemKind.NOT_FOUND, f"The {name} in the path is not 64 lower-case hex digits."
        )
    return bytes.fromhex(text)


@router.post(
    "/v1/enrolments",
    status_code=201,
    responses={
        201: success("A credential that only the node's TPM can open.", CREDENTIAL),
        **problems(*BODY, ProblemKind.ENROLMENT_REFUSED, ProblemKind.BUSY_CLIENT),
    },
    openapi_extra=described(body=ENROLMENT),
    response_class=Response,
)
async def enrol(request: Request) -> Response:
    """Ask to be known: EK, AK, EK certificates."""
    service: Service = request.app.state.service
    client = client_of(request)
    throttled(service.throttle.enrolments, (client,), service.clock.now())

    async def begin(body: bytes) -> bytes:
        try:
            return (await service.enrolling.begin(body)).encode()
        except VerificationError as exc:
            log_event("enrolment-refused", findings=exc.findings, client=client)
            raise ProblemError(
                ProblemKind.ENROLMENT_REFUSED,
                "The node may not enrol.",
                findings=exc.findings,
            ) from exc

    answer = await with_body(request, ENROLMENT, service.limits.enrolment, begin, client)
    return Response(answer, 201, media_type=CREDENTIAL)


@router.post(
    "/v1/enrolments/{enrolment}/activation",
    status_code=201,
    responses={
        201: success("The node is enrolled.", RECEIPT),
        **problems(
            *BODY,
            ProblemKind.ENROLMENT_REFUSED,
            ProblemKind.NOT_FOUND,
            ProblemKind.UNKNOWN_ENROLMENT,
            ProblemKind.BUSY_CLIENT,
        ),
    },
    openapi_extra=described(identifiers=["enrolment"], body=ACTIVATION),
    response_class=Response,
)
async def activate(request: Request) -> Response:
    """Prove with the opened secret that AK and EK are in one TPM."""
    service: Service = request.app.state.service
    enrolment = identifier(request, "enrolment")
    client = client_of(request)
    throttled(service.throttle.enrolments, (client,), service.clock.now())

    async def finish(body: bytes) -> bytes:
        receipt = await service.enrolling.finish(enrolment, body)
        log_event("enrolled", node=receipt.node, client=client)
        return receipt.encode()

    answer = await with_body(request, ACTIVATION, service.limits.enrolment, finish, client)
    return Response(answer, 201, media_type=RECEIPT)


@router.post(
    "/v1/nodes/{node}/challenges",
    status_code=201,
    responses={
        201: success("A challenge for this node.", CHALLENGE),
        **problems(
            ProblemKind.MALFORMED,
            ProblemKind.TOO_LARGE,
            ProblemKind.TIMEOUT,
            ProblemKind.NOT_FOUND,
            ProblemKind.UNKNOWN_NODE,
            ProblemKind.BUSY_CLIENT,
            ProblemKind.UNAVAILABLE,
        ),
    },
    openapi_extra=described(identifiers=["node"]),
    response_class=Response,
)
async def challenge(request: Request) -> Response:
    """Ask for a challenge; the body is empty."""
    service: Service = request.app.state.service
    node = identifier(request, "node")
    client, now = client_of(request, node.hex()), service.clock.now()
    throttled(service.throttle.challenges_per_client, (client,), now)
    throttled(service.throttle.challenges, (client, node.hex()), now)

    async def ask(_: bytes) -> bytes:
        return (await service.leasing.challenge(node)).encode()

    answer = await with_body(request, None, 0, ask, client)
    return Response(answer, 201, media_type=CHALLENGE)


@router.post(
    "/v1/nodes/{node}/leases",
    responses={
        200: success("Leases, and the next challenge.", LEASE),
        **problems(
            *BODY,
            ProblemKind.UNVERIFIED,
            ProblemKind.REFUSED,
            ProblemKind.NOT_FOUND,
            ProblemKind.UNKNOWN_NODE,
            ProblemKind.SPENT,
            ProblemKind.OUTDATED,
            ProblemKind.LOG_WANTED,
            ProblemKind.IMA_WANTED,
            ProblemKind.BUSY_CLIENT,
        ),
    },
    openapi_extra=described(identifiers=["node"], body=EVIDENCE),
    response_class=Response,
)
async def lease(request: Request) -> Response:
    """Present evidence."""
    service: Service = request.app.state.service
    node = identifier(request, "node")
    client, now = client_of(request, node.hex()), service.clock.now()
    presenter = Presenter(service, client, node, now)
    try:
        await presenter.admit(announced_length(request))
        decided = await with_body(
            request, EVIDENCE, service.longest_evidence, presenter.decide, client
        )
    except VerificationError as exc:
        raise ProblemError(
            ProblemKind.UNVERIFIED,
            "The evidence does not verify; nothing was recorded or consumed.",
            findings=exc.findings,
        ) from exc
    except ProblemError as exc:
        presenter.count_unread(exc)
        raise
    _tell(service, node, decided)
    if decided.answer.granted:
        return Response(decided.answer.body, 200, media_type=LEASE)
    return Response(decided.answer.body, ProblemKind.REFUSED.status, media_type=MEDIA_TYPE)


def _tell(service: Service, node: bytes, decided: Decided) -> None:
    if decided.commit is None:
        service.counts["answered-again"] += 1
    elif decided.answer.granted:
        service.counts["granted"] += 1
    else:
        service.counts["refused"] += 1
        log_event("refused", node=node, decision=decided.commit.digest, findings=decided.findings)
