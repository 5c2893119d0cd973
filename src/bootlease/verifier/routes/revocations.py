"""The operator's routes for revocations."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError
from bootlease.ports import Act, RevokedKind
from bootlease.token import strictjson
from bootlease.verifier.continuity.revoking import Revocation
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.acts import act
from bootlease.verifier.routes.authentication import GATE, authenticate, author, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.routes.lifting import lift_document, revocation_members
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])
_SMALL_BODY: Final = 8192
_MAX_REASON: Final = 500
_MAX_SUBJECT: Final = 512
_DIGEST_DIGITS: Final = 64
_KINDS: Final = {kind.value: kind for kind in RevokedKind}
_MEMBERS: Final = frozenset({"kind", "subject", "reason"})


@router.post(
    "/revocations",
    status_code=201,
    responses={
        200: success("It was revoked before, or is taken back.", JSON),
        201: success("It is revoked.", JSON),
        202: success("It is to be taken back, and waits for a second person.", JSON),
        **problems(*GATE, *BODY, ProblemKind.NOT_FOUND, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def revoke(request: Request) -> Response:
    """Revoke: ``{"kind": kind, "subject": text, "reason": text}``; ``"lift": true`` takes back.

    A reference set is named by its digest, or by its name for every version that is registered.
    """
    service: Service = request.app.state.service
    kind, subject, reason, lift = await with_upload(request, JSON, _SMALL_BODY, _wish)
    subjects = _digests(service, subject) if kind is RevokedKind.REFERENCE else [subject]
    if lift:
        done = await act(request, Act.LIFT, _lift_document(service, kind, subjects, reason))
        return json_answer(done.members, done.status)
    revoked = [
        await service.revoking.revoke(kind, each, reason=reason, author=author(request))
        for each in subjects
    ]
    return json_answer(_answer(revoked), 201 if any(each.new for each in revoked) else 200)


@router.get(
    "/revocations",
    responses={200: success("Every revocation, and every end of one.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_revocations(request: Request) -> Response:
    """List revocations, the oldest first."""
    service: Service = request.app.state.service
    stored = await service.store.continuity.revocations()
    return json_answer(
        {
            "revocations": [*map(revocation_members, stored)],
            "min_epoch": service.registry.now.min_epoch(service.clock.now()),
        }
    )


@router.post(
    "/keys",
    status_code=201,
    responses={
        201: success("Tokens are signed by another key.", JSON),
        **problems(*GATE, *BODY, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def rotate_key(request: Request) -> Response:
    """Sign tokens with a new key: ``{}``; the one before counts until its tokens have run out."""
    service: Service = request.app.state.service
    await with_upload(request, JSON, _SMALL_BODY, _nothing)
    before = service.tokens.key_id
    new = await service.rotating.rotate(author=author(request))
    service.statements.changed()
    return json_answer({"key": new.key_id, "previous": before}, 201)


async def _nothing(body: bytes) -> None:
    if strictjson.parse_object(body):
        raise MalformedError("a rotation takes {} and nothing else")


async def _wish(body: bytes) -> tuple[RevokedKind, str, str, bool]:
    members = strictjson.parse_object(body)
    kind, subject, reason = (members.get(name) for name in ("kind", "subject", "reason"))
    lift = members.get("lift", False)
    if members.keys() - {"lift"} != _MEMBERS or type(lift) is not bool:
        raise MalformedError('a revocation needs {"kind": kind, "subject": text, "reason": text}')
    if type(kind) is not str or kind not in _KINDS:
        raise MalformedError(f"kind is one of {', '.join(_KINDS)}")
    if type(subject) is not str or not 0 < len(subject) <= _MAX_SUBJECT:
        raise MalformedError(f"a subject has 1 to {_MAX_SUBJECT} characters")
    if type(reason) is not str or not 0 < len(reason) <= _MAX_REASON or not reason.isprintable():
        raise MalformedError(f"a reason has 1 to {_MAX_REASON} printable characters")
    return _KINDS[kind], subject, reason, lift


def _lift_document(service: Service, kind: RevokedKind, subjects: list[str], reason: str) -> bytes:
    # Of the sets of one name, those that are revoked.
    revoked = service.registry.now.revoked
    if kind is RevokedKind.REFERENCE and len(subjects) > 1:
        subjects = [each for each in subjects if revoked.has(kind, each)] or subjects
    named = [service.revoking.demand_liftable(kind, each) for each in subjects]
    return lift_document(kind, named, reason)


def _digests(service: Service, subject: str) -> list[str]:
    if len(subject) == _DIGEST_DIGITS and set(subject) <= set("0123456789abcdef"):
        return [subject]
    named = [each.digest.hex() for each in service.registry.now.references if each.name == subject]
    if not named:
        raise ProblemError(ProblemKind.NOT_FOUND, "No reference set of this name is registered.")
    return named


def _answer(done: list[Revocation]) -> dict[str, Any]:
    return {
        "revocations": [revocation_members(each.stored) for each in done],
        "nodes": sum(each.nodes for each in done),
        "leases": sum(each.leases for each in done),
    }
