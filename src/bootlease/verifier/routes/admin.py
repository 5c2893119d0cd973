"""The operator's routes to references, policies, nodes, decisions and the join bundle."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.ledger import DecisionRecord
from bootlease.ports import Act, EnrolledNode, StoredDecision, StoredLineage
from bootlease.reference import serialise_any_reference
from bootlease.verifier.bundle import bundle_members
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.acts import act, policy_members, policy_options, reference_members
from bootlease.verifier.routes.authentication import (
    GATE,
    authenticate,
    json_answer,
)
from bootlease.verifier.routes.contract import BODY, JSON, TOML, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.routes.nodes import identifier
from bootlease.verifier.service import Service

_PAGE: Final = 1000
_RECENT: Final = 20


router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/references",
    status_code=201,
    responses={
        200: success("This very set was registered before.", JSON),
        201: success("The set is registered.", JSON),
        202: success("It waits for a second person.", JSON),
        **problems(*GATE, *BODY),
    },
    openapi_extra=described(body=JSON, admin=True),
    response_class=Response,
)
async def register_reference(request: Request) -> Response:
    """Register a reference set."""
    done = await with_upload(
        request,
        JSON,
        _service(request).limits.reference,
        lambda body: act(request, Act.REFERENCE, body),
    )
    return json_answer(done.members, done.status)


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
                {**reference_members(each), "accepted": each.digest in accepted}
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


@router.post(
    "/policies",
    status_code=201,
    responses={
        201: success("The policy is active.", JSON),
        202: success("It waits for a second person.", JSON),
        **problems(*GATE, *BODY, ProblemKind.CONFLICT),
    },
    openapi_extra=described(body=TOML, admin=True),
    response_class=Response,
)
async def activate_policy(request: Request) -> Response:
    """Activate a policy file as the next epoch."""
    options = policy_options(request.query_params)
    done = await with_upload(
        request,
        TOML,
        _service(request).limits.admin,
        lambda body: act(request, Act.POLICY, body, options),
    )
    return json_answer(done.members, done.status)


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
    return json_answer({**policy_members(service.registry.now.policy), "document": text})


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
        "nodes": [
            node_members(node, await service.store.lineage(node.enrolment.node)) for node in nodes
        ]
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
    members = node_members(enrolled, await service.store.lineage(node))
    return json_answer({**members, "decisions": [_summary(decision) for decision in recent]})


def node_members(node: EnrolledNode, lineage: StoredLineage) -> dict[str, Any]:
    """Return what is told of a node."""
    record, prior = node.enrolment, lineage.prior
    members: dict[str, Any] = {
        "node": record.node.hex(),
        "ek": record.ek_digest.hex(),
        "ak_name": record.ak_name.hex(),
        "enrolled_at": record.enrolled_at,
        "labels": list(record.labels),
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
    return json_answer(
        bundle_members(
            *(service.issuer.url, service.keys, service.ledger_key),
            leash_key=service.issuer.leash_key,
        )
    )
