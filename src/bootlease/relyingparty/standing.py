"""What of a token is judged at each use of it, or demanded besides: a handful of its claims.

Building the whole claims model takes half as long as the signature check, and code that only asks
whether a token counts reads none of it. The few values are therefore taken from the decoded claims
set of a verified token, and their form is checked here. A token that was delegated, or whose node
states a level, is rare and is read through the claims model, as is whatever has another form.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.token import ExecutionClaims, Tier, TokenFormat, VerifiedToken, base64url
from bootlease.token import scope as scopes
from bootlease.token.claimkeys import DELEGATION, EAR_STATUS, LEVEL, POLICY, SUBMODULES
from bootlease.token.claimparts import MAX_NUMBER, status_index
from bootlease.token.ear import TIERS_BY_LABEL, tier_from_value

_ID_SIZE: Final = 16


class Standing(NamedTuple):
    """A verified token and what its standing rests on.

    Attributes:
        token: The token.
        expires_at: First second at which it is over.
        scope: Scope names.
        epoch: Policy epoch that granted it.
        place: In the status list.
        parents: Places of the leases it was delegated from.
        depth: How many grants lie between the node's own lease and it.
        tier: The node's appraisal.
        level: At which the node says that it enforces, if it says so.
    """

    token: VerifiedToken
    expires_at: int
    scope: tuple[str, ...]
    epoch: int
    place: int
    parents: tuple[int, ...]
    depth: int
    tier: Tier
    level: int | None


def standing_of(token: VerifiedToken) -> Standing:
    """Return a token's standing.

    Raises:
        MalformedError: The issuer signed a value that the claims model does not allow.
    """
    try:
        found = _of_jwt(token) if token.format is not TokenFormat.CWT else _of_cwt(token)
    except (KeyError, TypeError, ValueError, MalformedError):
        found = None
    return _of_claims(token) if found is None else found


def _of_cwt(token: VerifiedToken) -> Standing | None:
    members = token.members
    if DELEGATION in members or LEVEL in members[SUBMODULES]["node"]:
        return None
    _, _, epoch = members[POLICY]
    tier = tier_from_value(members[EAR_STATUS])
    return _plain(token, members[4], members[9], epoch, members[7], tier)


def _of_jwt(token: VerifiedToken) -> Standing | None:
    members = token.members
    node = members["submods"]["node"]
    if "bootlease_delegation" in members or "ear_attester_claims" in node:
        return None
    epoch = members["bootlease_policy"]["epoch"]
    tier = TIERS_BY_LABEL[members["ear_status"]]
    lease_id = base64url.decode(members["jti"])
    return _plain(token, members["exp"], members["scope"], epoch, lease_id, tier)


def _plain(  # noqa: PLR0917 - a call by name costs more than the rest
    token: VerifiedToken,
    expires_at: int,
    scope: str,
    epoch: Any,  # noqa: ANN401 - as it was decoded
    lease_id: bytes,
    tier: Tier,
) -> Standing | None:
    # What has another form is for the claims model to refuse, in its words.
    if type(epoch) is not int or not 0 <= epoch <= MAX_NUMBER:
        return None
    if expires_at > MAX_NUMBER or len(lease_id) != _ID_SIZE:
        return None
    names = _scope_names(scope)
    return Standing(token, expires_at, names, epoch, status_index(lease_id), (), 0, tier, None)


@functools.lru_cache(maxsize=1024)
def _scope_names(scope: str) -> tuple[str, ...]:
    # The leases of a fleet have few scopes.
    names = scopes.parse(scope)
    scopes.check(names)
    return names


def _of_claims(token: VerifiedToken) -> Standing:
    claims: ExecutionClaims = token.claims
    delegation = claims.delegation
    parents: tuple[int, ...] = ()
    depth, tier = 0, claims.status
    if delegation is not None:
        # A delegated lease has no appraisal of its own: the node's is that of the chain's root.
        depth, tier = delegation.depth, delegation.root.status
        leases = (delegation.root.lease_id, *(link.lease_id for link in delegation.links))
        # The last is the token's own, which is looked at by itself.
        parents = tuple(map(status_index, leases[:-1]))
    return Standing(
        *(token, claims.expires_at, claims.scope, claims.policy.epoch, claims.status_index),
        *(parents, depth, tier, claims.level),
    )
