"""A token exchange as values, and what of it needs no store: the grant, and what is asked for.

Specifications: RFC 8693 §2.1 and §2.2.2, RFC 6749 §5.2 (errors), RFC 9449 §5.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import TokenFormat, scope
from bootlease.token.grants import Holding, VerifiedGrant, verify_grant
from bootlease.token.verify import DEFAULT_LEEWAY


class ExchangeFault(enum.Enum):
    """Why an exchange is refused, as OAuth says it (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 9449)."""

    REQUEST = "invalid_request"
    """The request, or its subject token: RFC 8693 has no other word for that one."""
    GRANT_TYPE = "unsupported_grant_type"
    GRANT = "invalid_grant"
    SCOPE = "invalid_scope"
    TARGET = "invalid_target"
    PROOF = "invalid_dpop_proof"


class ExchangeError(Exception):
    """Ends an exchange.

    Attributes:
        fault: Why.
        findings: Every finding, where checks were made.
    """

    def __init__(self, fault: ExchangeFault, detail: str, *findings: Finding) -> None:
        super().__init__(detail)
        self.fault = fault
        self.findings = findings

    @classmethod
    def of(cls, fault: ExchangeFault, exc: VerificationError) -> ExchangeError:
        """Return what ends an exchange because something does not verify."""
        return cls(fault, str(exc), *exc.findings)


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """What is asked for: unverified.

    Attributes:
        parent: The token of the lease that was passed on.
        grant: What its holder signed.
        form: Form of the child's token; None for the parent's.
        scope: Scope asked for; None for the grant's.
        audience: Relying party asked for; None for the grant's.
        proof: The DPoP header.
    """

    parent: str
    grant: str
    form: TokenFormat | None
    scope: str | None
    audience: str | None
    proof: str | None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was given for a grant.

    Attributes:
        token: The token's text; a CWT carries its receipt.
        form: Its form.
        receipt: The receipt that belongs to a JWT.
        expires_in: Seconds.
        scope: Scope names.
        lease_id: Of the child.
        again: It had been given before.
    """

    token: str
    form: TokenFormat
    receipt: str | None
    expires_in: int
    scope: tuple[str, ...]
    lease_id: bytes
    again: bool


_OUT_OF_DEPTH: Final = Finding(
    "delegation.depth.policy", "The policy does not let this lease be passed on."
)
_FAULTS: Final = {
    "delegation.scope.wider": ExchangeFault.SCOPE,
    "delegation.audience.mismatch": ExchangeFault.TARGET,
}


def granted(text: str, holding: Holding, depth: int, now: int) -> VerifiedGrant:
    """Prove that a grant may become a lease now, under what policy allows.

    Args:
        text: Unverified.
        holding: What the holder of the parent may pass on.
        depth: Grants that policy allows in one chain.
        now: Seconds since the epoch.

    Raises:
        ExchangeError: It may not.
    """
    left = depth - (len(holding.keys) - 1)
    if left <= 0:
        raise ExchangeError(ExchangeFault.GRANT, _OUT_OF_DEPTH.message, _OUT_OF_DEPTH)
    try:
        grant = verify_grant(text, holding.within(left))
    except MalformedError as exc:
        raise ExchangeError(ExchangeFault.GRANT, f"bootlease_grant: {exc}.") from exc
    except VerificationError as exc:
        faults = {_FAULTS.get(finding.id, ExchangeFault.GRANT) for finding in exc.findings}
        fault = faults.pop() if len(faults) == 1 else ExchangeFault.GRANT
        raise ExchangeError.of(fault, exc) from exc
    findings = []
    if grant.expires_at <= now:
        findings.append(
            Finding("delegation.grant.expired", "The grant is over.", seen=str(grant.expires_at))
        )
    if grant.issued_at > now + DEFAULT_LEEWAY:
        findings.append(
            Finding(
                "delegation.grant.future",
                "The grant was made in the future; a clock is wrong.",
                seen=str(grant.issued_at),
            )
        )
    if findings:
        raise ExchangeError(ExchangeFault.GRANT, findings[0].message, *findings)
    return grant


def demand_same(request: ExchangeRequest, grant: VerifiedGrant) -> None:
    """Demand that nothing else is asked for than the grant says.

    A child that asked for less would hold less than its own grants are measured by.

    Raises:
        ExchangeError: Something else is asked for.
    """
    if request.scope is not None:
        try:
            asked = scope.parse(request.scope)
        except ValueError:
            asked = ()
        if set(asked) != set(grant.scope):
            other = Finding(
                "delegation.request.scope",
                "The request asks for another scope than the grant.",
                expected=" ".join(grant.scope),
            )
            raise ExchangeError(ExchangeFault.SCOPE, other.message, other)
    if request.audience not in {None, grant.audience}:
        other = Finding(
            "delegation.request.audience",
            "The request is for another relying party than the grant.",
            expected=grant.audience,
        )
        raise ExchangeError(ExchangeFault.TARGET, other.message, other)
