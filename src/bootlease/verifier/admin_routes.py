"""The operator's routes. Every one of them is behind the admin credential, by their router."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.errors import MalformedError
from bootlease.ledger import DecisionRecord
from bootlease.policy import PolicyEpoch
from bootlease.ports import EnrolledNode, StoredDecision, StoredLineage
from bootlease.reference import AnyReference, kind_of, serialise_any_reference
from bootlease.token import strictjson
from bootlease.verifier.access import (
    JOIN_PREFIX,
    bearer_digest,
    credential_of,
    new_secret,
    secret_digest,
)
from bootlease.verifier.bundle import bundle_members
from bootlease.verifier.contract import BODY, JSON, TOML, described, problems, success
from bootlease.verifier.events import log_event
from bootlease.verifier.gate import client_of, throttled, with_upload
from bootlease.verifier.logins import author_of
from bootlease.verifier.node_routes import identifier
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.service import Service

GATE: Final = (ProblemKind.UNAUTHORIZED, ProblemKind.BUSY_CLIENT, ProblemKind.UNAVAILABLE)
_PAGE: Final = 1000
_RECENT: Final = 20
_MAX_JOIN_TIME: Final = 30 * 86_400
_SMALL_BODY: Final = 4096


async def authenticate(request: Request) -> None:
    """Let nobody pass without an admin credential (attack B8).

    Raises:
        ProblemError: None, a wrong one, or too many wrong ones from this client.
    """
    service: Service = request.app.state.service
    # Whoever has the credential is heard, whatever others did from the same address: there is
    # nothing to guess, so the rate only bounds what wrong ones cost and write into the log.
    digest = bearer_digest(request.headers.get("authorization"))
    client = client_of(request)
    known = None if digest is None else credential_of(digest, service.registry.now.credentials)
    if known is not None:
        await service.logins.seen(known, client)
        request.state.author = author_of(known)
        return
    throttled(service.throttle.logins, (client,), service.clock.now())
    log_event("admin-login-refused", client=client)
    raise ProblemError(
        ProblemKind.UNAUTHORIZED, "Send the admin credential as a bearer token; init printed it."
    )


router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])


def json_answer(members: object, status: int = 200) -> Response:
    """Return an answer that a person can read too."""
    body = json.dumps(members, ensure_ascii=False, indent=2) + "\n"
    return Response(body.encode(), status, media_type=JSON)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def author(request: Request) -> str:
    """Return whose credential a request came with, as the ledger names them."""
    name: str = request.state.author
    return name


@router.post(
    "/references",
    status_code=201,
    responses={
        200: success("This very set was registered before.", JSON),
        201: success("The set is registered.", JSON),
        **problems(*GATE, *BODY),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def register_reference(request: Request) -> Response:
    """Register a reference set."""
    service = _service(request)
    reference, new = await with_upload(
        request,
        JSON,
        service.limits.reference,
        partial(service.registry.register_reference, author=author(request)),
    )
    log_event("reference-registered", name=reference.name, digest=reference.digest)
    return json_answer(_reference(reference), 201 if new else 200)


@router.get(
    "/references",
    responses={200: success("Every registered set.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_references(request: Request) -> Response:
    """List reference sets, the oldest first."""
    snapshot = _service(request).registry.now
    accepted = {each.digest for each in snapshot.accepted}
    accepted |= {each.digest for each in snapshot.accepted_ima}
    return json_answer(
        {
            "references": [
                {**_reference(each), "accepted": each.digest in accepted}
                for each in snapshot.references
            ]
        }
    )


@router.get(
    "/references/{name}",
    responses={
        200: success("The reference file.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND),
    },
    openapi_extra={
        **described(admin=True),
        "parameters": [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
    },
    response_class=Response,
)
async def show_reference(request: Request) -> Response:
    """Return the latest registered set of this name."""
    name = request.path_params["name"]
    for reference in reversed(_service(request).registry.now.references):
        if reference.name == name:
            return Response(serialise_any_reference(reference), media_type=JSON)
    raise ProblemError(ProblemKind.NOT_FOUND, "No reference set of this name is registered.")


def _reference(reference: AnyReference) -> dict[str, Any]:
    return {
        "kind": kind_of(reference),
        "name": reference.name,
        "version": reference.version,
        "digest": reference.digest.hex(),
    }


@router.post(
    "/policies",
    status_code=201,
    responses={
        201: success("The policy is active.", JSON),
        **problems(*GATE, *BODY, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=TOML, admin=True),
    response_class=Response,
)
async def activate_policy(request: Request) -> Response:
    """Activate a policy file as the next epoch."""
    service = _service(request)
    active = await with_upload(
        request,
        TOML,
        service.limits.admin,
        partial(service.registry.activate_policy, author=author(request)),
    )
    log_event("policy-activated", id=active.policy.id, epoch=active.epoch)
    return json_answer(_policy(active), 201)


@router.get(
    "/policies",
    responses={200: success("The active policy.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def show_policy(request: Request) -> Response:
    """Return the active policy with its file."""
    service = _service(request)
    stored = await service.store.policy()
    text = "" if stored is None else stored.document.decode()
    return json_answer({**_policy(service.registry.now.policy), "document": text})


def _policy(active: PolicyEpoch) -> dict[str, Any]:
    return {
        "id": active.policy.id,
        "epoch": active.epoch,
        "digest": active.policy.digest.hex(),
    }


@router.post(
    "/join-tokens",
    status_code=201,
    responses={201: success("A join token, shown once.", JSON), **problems(*GATE, *BODY)},
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def make_join_token(request: Request) -> Response:
    """Make a join token: ``{"expires_in": seconds}``."""
    service = _service(request)
    seconds = await with_upload(request, JSON, _SMALL_BODY, _join_time)
    token = new_secret(JOIN_PREFIX)
    now = service.clock.now()
    await service.store.add_join_token(
        secret_digest(token), now=now, expires_at=now + seconds, author=author(request)
    )
    log_event("join-token-made", expires_at=now + seconds)
    return json_answer({"join_token": token, "expires_at": now + seconds}, 201)


async def _join_time(body: bytes) -> int:
    members = strictjson.parse_object(body)
    seconds = members.get("expires_in")
    if members.keys() != {"expires_in"} or type(seconds) is not int:
        raise MalformedError('a join token needs {"expires_in": seconds}')
    if not 0 < seconds <= _MAX_JOIN_TIME:
        raise MalformedError(f"expires_in is 1 to {_MAX_JOIN_TIME} seconds")
    return seconds


@router.get(
    "/nodes",
    responses={
        200: success("Enrolled nodes.", JSON),
        **problems(*GATE, ProblemKind.MALFORMED),
    },
    openapi_extra={
        **described(admin=True),
        "parameters": [
            {"name": "after", "in": "query", "required": False, "schema": {"type": "string"}}
        ],
    },
    response_class=Response,
)
async def list_nodes(request: Request) -> Response:
    """List a page of nodes, those behind ``after``; ``next`` names where the next page begins."""
    service = _service(request)
    try:
        after = bytes.fromhex(request.query_params.get("after", ""))
    except ValueError as exc:
        raise ProblemError(ProblemKind.MALFORMED, "after is not a node id in hex") from exc
    nodes = await service.store.nodes(after=after, at_most=_PAGE)
    page: dict[str, Any] = {
        "nodes": [_node(node, await service.store.lineage(node.enrolment.node)) for node in nodes]
    }
    if len(nodes) == _PAGE:
        page["next"] = nodes[-1].enrolment.node.hex()
    return json_answer(page)


@router.get(
    "/nodes/{node}",
    responses={
        200: success("One node and its latest decisions.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND, ProblemKind.UNKNOWN_NODE),
    },
    openapi_extra=described(identifiers=["node"], admin=True),
    response_class=Response,
)
async def show_node(request: Request) -> Response:
    """Return one node and its latest decisions."""
    service = _service(request)
    node = identifier(request, "node")
    enrolled = await service.store.node(node)
    if enrolled is None:
        raise ProblemError(ProblemKind.UNKNOWN_NODE, "No node with this id is enrolled.")
    recent = await service.store.decisions_of(node, at_most=_RECENT)
    members = _node(enrolled, await service.store.lineage(node))
    return json_answer({**members, "decisions": [_summary(decision) for decision in recent]})


def _node(node: EnrolledNode, lineage: StoredLineage) -> dict[str, Any]:
    record, prior = node.enrolment, lineage.prior
    members: dict[str, Any] = {
        "node": record.node.hex(),
        "ek": record.ek_digest.hex(),
        "ak_name": record.ak_name.hex(),
        "enrolled_at": record.enrolled_at,
        "generation": node.generation,
        "high_water": {
            "reset_count": node.high_water.reset_count,
            "restart_count": node.high_water.restart_count,
            "clock": node.high_water.clock,
        },
        "endorsement": None,
        "notes": [note.as_dict() for note in record.notes],
        "lineage": None,
        "last_decision": None if lineage.decision is None else lineage.decision.hex(),
    }
    if record.endorsement is not None:
        make = record.endorsement.identity
        members["endorsement"] = {
            "manufacturer": make.manufacturer,
            "model": make.model,
            "version": make.version,
            "root": record.endorsement.root.hex(),
        }
    if prior is not None:
        members["lineage"] = {
            "root": prior.root.hex(),
            "seq": prior.sequence,
            "head": prior.head.hex(),
            "expires_at": prior.expires_at,
            "ima_entries": None if prior.ima is None else prior.ima.state.entries,
        }
    return members


def _summary(decision: StoredDecision) -> dict[str, Any]:
    return {
        "number": decision.number,
        "decision": decision.digest.hex(),
        "granted": decision.granted,
        "time": decision.decided_at,
    }


@router.get(
    "/decisions/{decision}",
    responses={
        200: success("One decision as recorded.", JSON),
        **problems(*GATE, ProblemKind.NOT_FOUND),
    },
    openapi_extra=described(identifiers=["decision"], admin=True),
    response_class=Response,
)
async def show_decision(request: Request) -> Response:
    """Return a recorded decision with all its findings."""
    digest = identifier(request, "decision")
    stored = await _service(request).store.decision(digest)
    if stored is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "No decision of this digest is recorded.")
    return json_answer(_decision(stored, DecisionRecord.parse(stored.record)))


def _decision(stored: StoredDecision, record: DecisionRecord) -> dict[str, Any]:
    return {
        **_summary(stored),
        "node": record.node.hex(),
        "evidence": record.evidence.hex(),
        "lineage": {
            "root": record.lineage_root.hex(),
            "seq": record.sequence,
            "prev": None if record.lineage_previous is None else record.lineage_previous.hex(),
        },
        "policy": {
            "id": record.policy_id,
            "digest": record.policy_digest.hex(),
            "epoch": record.policy_epoch,
        },
        "references": [digest.hex() for digest in record.references],
        "findings": [finding.as_dict() for finding in record.findings],
        "leases": [
            {
                "id": lease.lease_id.hex(),
                "scope": list(lease.scope),
                "audience": lease.audience,
                "expires_at": lease.expires_at,
            }
            for lease in record.leases
        ],
        "claims": [digest.hex() for digest in stored.claims],
        "code_version": record.code_version,
        "code": record.code.hex(),
    }


@router.get(
    "/bundle",
    responses={200: success("The join bundle.", JSON), **problems(*GATE)},
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def show_bundle(request: Request) -> Response:
    """Return what a node must know of this verifier."""
    service = _service(request)
    return json_answer(bundle_members(service.issuer.url, service.keys, service.ledger_key))
