"""Who may do what: every operator's route, with the roles that may use it, in one table.

A credential has one role or several, and may do what any of them may. A route that the table lacks
is the operator's alone, so that a forgotten row gives nobody a right; a test walks all routes and
fails for it.

- *operator*: everything. Under the two-person rule, some acts only with a second person
  (``proposals``).
- *policy-author*: proposes, activates and tries out policies and reference sets.
- *auditor*: reads everything, changes nothing.
- *enroller*: makes join tokens and labels nodes.
- *relying-party*: asks whether a token counts, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bootlease.model import Finding
from bootlease.ports import Act, Role
from bootlease.verifier.problems import ProblemError, ProblemKind

_OPERATOR: Final = frozenset({Role.OPERATOR})
_AUTHORS: Final = frozenset({Role.OPERATOR, Role.POLICY_AUTHOR})
_ENROLLERS: Final = frozenset({Role.OPERATOR, Role.ENROLLER})
_READERS: Final = frozenset({Role.OPERATOR, Role.AUDITOR})
_AUTHORS_AND_READERS: Final = _AUTHORS | _READERS
_RELYING_PARTIES: Final = frozenset({Role.RELYING_PARTY})
_ALL: Final = frozenset(Role) - _RELYING_PARTIES

ROUTE_ROLES: Final[Mapping[tuple[str, str], frozenset[Role]]] = MappingProxyType(
    {
        ("POST", "/v1/admin/references"): _AUTHORS,
        ("GET", "/v1/admin/references"): _AUTHORS_AND_READERS,
        ("GET", "/v1/admin/references/{name}"): _AUTHORS_AND_READERS,
        ("POST", "/v1/admin/policies"): _AUTHORS,
        ("GET", "/v1/admin/policies"): _AUTHORS_AND_READERS,
        ("POST", "/v1/admin/roots"): _OPERATOR,
        ("GET", "/v1/admin/roots"): _ALL,
        ("POST", "/v1/admin/join-tokens"): _ENROLLERS,
        ("GET", "/v1/admin/nodes"): _ALL,
        ("GET", "/v1/admin/nodes/{node}"): _ALL,
        ("POST", "/v1/admin/nodes/{node}/labels"): _ENROLLERS,
        ("POST", "/v1/admin/nodes/{node}/readmission"): _OPERATOR,
        ("POST", "/v1/admin/nodes/{node}/replacement"): _OPERATOR,
        ("GET", "/v1/admin/decisions/{decision}"): _AUTHORS_AND_READERS,
        ("GET", "/v1/admin/decisions/{decision}/pieces"): _AUTHORS_AND_READERS,
        ("GET", "/v1/admin/leases/{lease}/proof"): _READERS,
        ("GET", "/v1/admin/bundle"): _READERS | _ENROLLERS,
        ("POST", "/v1/admin/credentials"): _OPERATOR,
        ("GET", "/v1/admin/credentials"): _READERS,
        ("POST", "/v1/admin/credentials/{credential}/revocation"): _OPERATOR,
        ("GET", "/v1/admin/proposals"): _AUTHORS_AND_READERS,
        ("GET", "/v1/admin/proposals/{proposal}"): _AUTHORS_AND_READERS,
        ("POST", "/v1/admin/proposals/{proposal}/approval"): _AUTHORS,
        ("POST", "/v1/admin/streams"): _OPERATOR,
        ("GET", "/v1/admin/streams"): _READERS,
        ("DELETE", "/v1/admin/streams/{stream}"): _OPERATOR,
        ("POST", "/v1/admin/streams/{stream}/verification"): _OPERATOR,
        ("POST", "/v1/admin/revocations"): _OPERATOR,
        ("GET", "/v1/admin/revocations"): _READERS,
        ("POST", "/v1/admin/keys"): _OPERATOR,
        ("POST", "/v1/introspect"): _READERS | _RELYING_PARTIES,
        ("GET", "/v1/admin/two-person"): _AUTHORS_AND_READERS,
        ("POST", "/v1/admin/two-person"): _OPERATOR,
    }
)

ACT_ROLES: Final[Mapping[Act, frozenset[Role]]] = MappingProxyType(
    {
        Act.POLICY: _AUTHORS,
        Act.REFERENCE: _AUTHORS,
        Act.ROOT: _OPERATOR,
        Act.CREDENTIAL: _OPERATOR,
        Act.RULE: _OPERATOR,
        Act.LIFT: _OPERATOR,
    }
)
"""Who may approve what another proposed: whoever could have proposed it."""


def roles_for(method: str, path: str) -> frozenset[Role]:
    """Return the roles that may use a route."""
    return ROUTE_ROLES.get((method, path), _OPERATOR)


def demand_role(held: tuple[Role, ...], wanted: frozenset[Role]) -> None:
    """Demand that a credential has one of some roles.

    Raises:
        ProblemError: It has none of them.
    """
    if wanted.isdisjoint(held):
        raise ProblemError(
            ProblemKind.FORBIDDEN,
            "The credential has no role that may do this.",
            findings=[
                Finding(
                    "admin.role.refused",
                    "The credential has no role that may do this; another one is needed.",
                    expected=" or ".join(role.value for role in Role if role in wanted),
                    seen=" ".join(role.value for role in held) or "no role",
                )
            ],
        )
