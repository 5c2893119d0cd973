"""The acts that the two-person rule may hold back: checked, then done or proposed.

While the rule is off, whoever may ask for an act has it done. While it holds, the same request
makes a proposal (202), and another person's approval has it done, with the very bytes of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from fastapi import Request

from bootlease.endorsement import parse_certificates
from bootlease.errors import MalformedError
from bootlease.policy import PolicyEpoch, parse_policy
from bootlease.ports import Act, Proposal, Role, StoredCredential
from bootlease.reference import AnyReference, kind_of, parse_any_reference
from bootlease.token import strictjson
from bootlease.verifier.loglines import log_event
from bootlease.verifier.operators.access import ADMIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.routes.lifting import demand_liftable, lift, parse_lift
from bootlease.verifier.service import Service

MAX_CREDENTIAL_LABEL: Final = 64
_MAY_PROPOSE: Final = frozenset({Role.OPERATOR, Role.POLICY_AUTHOR})
_REVOKE_NOW: Final = "revoke_now"
_NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class By:
    """In whose name an act is done.

    Attributes:
        author: As the ledger names them: one person, or two.
        credential: The credential of whoever asked for it now, and reads the answer.
        joint: Two persons do it.
    """

    author: str
    credential: StoredCredential
    joint: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What an act came to.

    Attributes:
        members: Of the answer.
        status: The answer's.
    """

    members: dict[str, Any]
    status: int = 201


Doing = Callable[[Service, bytes, Mapping[str, str], By], Awaitable[Done]]


async def act(
    request: Request, kind: Act, document: bytes, options: Mapping[str, str] = _NO_OPTIONS
) -> Done:
    """Do what an operator asks for, or keep it as a proposal where the rule demands another person.

    Raises:
        MalformedError: The document is not what the act needs.
        ProblemError: It cannot be done now.
    """
    service: Service = request.app.state.service
    by = By(request.state.author, request.state.credential)
    if not await withheld(service, kind, document):
        return await DOES[kind](service, document, options, by)
    await asyncio.to_thread(_CHECKS[kind], document)
    proposal = await service.proposals.propose(kind, document, by.credential, options)
    log_event("proposed", act=kind.value, proposal=proposal.digest)
    return Done({"proposal": proposal_members(proposal)}, 202)


def policy_options(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return how a policy is to be activated, as its request says: ``revoke_now=1``, or nothing.

    Raises:
        MalformedError: The request says anything else.
    """
    if query and dict(query) != {_REVOKE_NOW: "1"}:
        raise MalformedError("an activation takes revoke_now=1, and nothing else")
    return dict(query)


async def withheld(service: Service, kind: Act, document: bytes) -> bool:
    """Tell whether an act needs a second person now."""
    if not await service.proposals.demanded():
        return False
    if kind is Act.RULE:
        # Who switches on what is on changes nothing.
        return not parse_rule(document)
    # A credential that can neither propose nor approve is no second voice.
    return kind is not Act.CREDENTIAL or not _MAY_PROPOSE.isdisjoint(parse_credential(document)[1])


def proposal_members(proposal: Proposal) -> dict[str, Any]:
    """Return what is told of a proposal, its document left out."""
    return {
        "digest": proposal.digest.hex(),
        "act": proposal.act.value,
        "options": dict(proposal.options),
        "proposed_by": proposal.author,
        "proposed_at": proposal.proposed_at,
        "expires_at": proposal.expires_at,
    }


def parse_credential(document: bytes) -> tuple[str, tuple[Role, ...]]:
    """Parse what a new credential is to be: ``{"label": text, "roles": [role, ...]}``.

    Raises:
        MalformedError: It is not that.
    """
    members = strictjson.parse_object(document)
    label, roles = members.get("label"), members.get("roles")
    if members.keys() != {"label", "roles"} or type(label) is not str or type(roles) is not list:
        raise MalformedError('a credential needs {"label": text, "roles": [role, ...]}')
    if not 0 < len(label) <= MAX_CREDENTIAL_LABEL or not label.isprintable():
        raise MalformedError(f"a label has 1 to {MAX_CREDENTIAL_LABEL} printable characters")
    names = {role.value: role for role in Role}
    if not roles or any(type(name) is not str or name not in names for name in roles):
        raise MalformedError(f"roles are one or more of {', '.join(names)}")
    return label, tuple(role for role in Role if role.value in roles)


def parse_rule(document: bytes) -> bool:
    """Parse what the two-person rule is to be: ``{"demanded": true or false}``.

    Raises:
        MalformedError: It is not that.
    """
    members = strictjson.parse_object(document)
    demanded = members.get("demanded")
    if members.keys() != {"demanded"} or type(demanded) is not bool:
        raise MalformedError('the two-person rule needs {"demanded": true or false}')
    return demanded


def reference_members(reference: AnyReference) -> dict[str, Any]:
    """Return what is told of a reference set."""
    return {
        "kind": kind_of(reference),
        "name": reference.name,
        "version": reference.version,
        "digest": reference.digest.hex(),
    }


def policy_members(active: PolicyEpoch) -> dict[str, Any]:
    """Return what is told of a policy in force."""
    return {
        "id": active.policy.id,
        "epoch": active.epoch,
        "digest": active.policy.digest.hex(),
    }


async def check_again(service: Service, kind: Act, document: bytes) -> None:
    """Look whether a proposal can be done now, before it is taken out to be done.

    Raises:
        MalformedError: It names what the verifier does not have.
        ProblemError: It takes back what is not revoked.
    """
    if kind is Act.LIFT:
        demand_liftable(service, document)
    if kind is Act.POLICY:
        service.registry.demand_known(parse_policy(document))


async def _activate(service: Service, document: bytes, options: Mapping[str, str], by: By) -> Done:
    active = await service.registry.activate_policy(
        document, author=by.author, revoke_now=_REVOKE_NOW in options
    )
    log_event("policy-activated", id=active.policy.id, epoch=active.epoch)
    return Done(policy_members(active))


async def _register(service: Service, document: bytes, options: Mapping[str, str], by: By) -> Done:
    del options
    reference, new = await service.registry.register_reference(document, author=by.author)
    log_event("reference-registered", name=reference.name, digest=reference.digest)
    return Done(reference_members(reference), 201 if new else 200)


async def _trust(service: Service, document: bytes, options: Mapping[str, str], by: By) -> Done:
    del options
    added = await service.registry.add_roots(document, author=by.author)
    for fingerprint in added:
        log_event("root-added", root=fingerprint)
    return Done({"roots": [fingerprint.hex() for fingerprint in added]})


async def _make_credential(
    service: Service, document: bytes, options: Mapping[str, str], by: By
) -> Done:
    del options
    label, roles = parse_credential(document)
    credential = new_secret(ADMIN_PREFIX)
    digest = secret_digest(credential)
    await service.store.add_credential(
        digest,
        label=label,
        now=service.clock.now(),
        author=by.author,
        roles=roles,
        maker=by.credential.digest,
        joint=by.joint,
    )
    await service.registry.reload()
    log_event("credential-made", label=label, digest=digest)
    return Done(
        {
            "credential": credential,
            "id": digest.hex(),
            "label": label,
            "roles": [role.value for role in roles],
        }
    )


async def _switch_rule(
    service: Service, document: bytes, options: Mapping[str, str], by: By
) -> Done:
    del options
    demanded = parse_rule(document)
    await service.proposals.switch(demanded=demanded, author=by.author)
    log_event("two-person-rule", demanded=demanded)
    return Done({"demanded": demanded}, 200)


async def _lift(service: Service, document: bytes, options: Mapping[str, str], by: By) -> Done:
    del options
    return Done(await lift(service, document, by.author), 200)


DOES: Final[Mapping[Act, Doing]] = MappingProxyType(
    {
        Act.POLICY: _activate,
        Act.REFERENCE: _register,
        Act.ROOT: _trust,
        Act.CREDENTIAL: _make_credential,
        Act.RULE: _switch_rule,
        Act.LIFT: _lift,
    }
)
_CHECKS: Final[Mapping[Act, Callable[[bytes], object]]] = MappingProxyType(
    {
        Act.POLICY: parse_policy,
        Act.REFERENCE: parse_any_reference,
        Act.ROOT: parse_certificates,
        Act.CREDENTIAL: parse_credential,
        Act.RULE: parse_rule,
        Act.LIFT: parse_lift,
    }
)
