"""Who may do what: the table of roles, and the gate that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from bootlease.ports import Act, Role, StoreBusyError
from bootlease.store import SQLStore
from bootlease.testing.keys import fresh_keys
from bootlease.testing.scene import POLICY
from bootlease.verifier.app import ROUTES, build_app
from bootlease.verifier.operators.access import ADMIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.operators.roles import ACT_ROLES, ROUTE_ROLES, demand_role, roles_for
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.authentication import authenticate
from bootlease.verifier.service import build_service

ROOT = Path(__file__).parents[4]
ISSUER = "https://v.example"
AUTHOR = "cli:init"
DIGEST = "0" * 64


READ_BY_POST = "/v1/introspect"
"""RFC 7662 asks with POST."""


def admin_routes() -> set[tuple[str, str]]:
    """Every route of the application that is behind the gate: method and path."""
    return {
        (method, route.path)
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute) and is_behind_the_gate(route)
        for method in route.methods or ()
    }


def is_behind_the_gate(route: APIRoute) -> bool:
    """Tell whether a route asks for a credential; all under /v1/admin must."""
    asks = any(each.call is authenticate for each in route.dependant.dependencies)
    assert asks or not route.path.startswith("/v1/admin"), route.path
    return asks


@dataclass
class Office:
    """A verifier with one credential of each role.

    Attributes:
        client: Reaches it.
        credentials: The credentials.
    """

    client: TestClient
    credentials: dict[Role, str] = field(default_factory=dict)

    def ask(self, role: Role, method: str, path: str) -> Any:
        """Ask for something in a role."""
        headers = {"authorization": f"Bearer {self.credentials[role]}"}
        return self.client.request(method, path, headers=headers)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A verifier with one credential of each role."""
    folder: Path = tmp_path_factory.mktemp("office")
    keys = fresh_keys(ISSUER)
    store = SQLStore.open(folder / "verifier.db", keys.ledger, keys.ledger.key.name)
    credentials = {role: new_secret(ADMIN_PREFIX) for role in Role}

    async def build() -> Any:
        for role, secret in credentials.items():
            await store.add_credential(
                secret_digest(secret), label=role.value, now=1, author=AUTHOR, roles=[role]
            )
        service = await build_service(store, keys, ISSUER)
        await service.registry.activate_policy(POLICY.encode(), author=AUTHOR)
        return service

    with TestClient(build_app(asyncio.run(build()))) as client:
        yield Office(client, credentials)
    store.close()


def test_every_route_has_its_roles_and_every_row_its_route() -> None:
    """A route that somebody forgot to think about, and a row that stands for nothing, are found."""
    assert admin_routes() == set(ROUTE_ROLES)
    assert all(roles for roles in ROUTE_ROLES.values())
    assert set(ACT_ROLES) == set(Act)


def test_a_route_without_a_row_is_the_operators_alone() -> None:
    """A forgotten row gives nobody a right."""
    assert roles_for("GET", "/v1/admin/forgotten") == {Role.OPERATOR}
    assert roles_for("DELETE", "/v1/admin/nodes") == {Role.OPERATOR}


def test_the_operator_may_do_everything_and_the_auditor_reads_everything() -> None:
    """What the words say; and whoever only reads changes nothing."""
    for (method, path), roles in ROUTE_ROLES.items():
        assert Role.OPERATOR in roles
        assert (Role.AUDITOR in roles) == (method == "GET" or path == READ_BY_POST), path


def test_what_each_role_may_change() -> None:
    """The table of docs/operators.md, as far as it is about changes."""
    may = {
        role: {
            path
            for (method, path), roles in ROUTE_ROLES.items()
            if role in roles and method != "GET"
        }
        for role in (Role.POLICY_AUTHOR, Role.ENROLLER)
    }
    assert may[Role.POLICY_AUTHOR] >= {
        "/v1/admin/policies",
        "/v1/admin/references",
        "/v1/admin/proposals/{proposal}/approval",
    }
    assert may[Role.ENROLLER] == {"/v1/admin/join-tokens", "/v1/admin/nodes/{node}/labels"}
    assert not any("credential" in path or "root" in path for path in may[Role.POLICY_AUTHOR])


PAGE_ROWS = {
    "activate, propose": ("POST", ["policies", "references", "proposals/{proposal}/approval"]),
    "read policies": (
        "GET",
        [
            *("policies", "references", "references/{name}", "decisions/{decision}"),
            *("decisions/{decision}/pieces", "proposals", "proposals/{proposal}", "two-person"),
        ],
    ),
    "list nodes": ("GET", ["nodes", "nodes/{node}", "roots"]),
    "read proofs": ("GET", ["leases/{lease}/proof", "credentials", "revocations", "streams"]),
    "read the join bundle": ("GET", ["bundle"]),
    "make join tokens": ("POST", ["join-tokens", "nodes/{node}/labels"]),
    "trust roots": (
        "POST",
        [
            *("roots", "revocations", "nodes/{node}/readmission", "nodes/{node}/replacement"),
            *("streams", "streams/{stream}/verification", "keys"),
        ],
    ),
    "make and revoke credentials": (
        "POST",
        ["credentials", "credentials/{credential}/revocation", "two-person"],
    ),
    "ask whether": ("POST", ["/v1/introspect"]),
}
"""How each row of the page's table begins, and the routes that it is about."""
ELSEWHERE = {("DELETE", "/v1/admin/streams/{stream}")}


def test_the_page_says_who_may_what() -> None:
    """The table of docs/operators.md is the table of the code."""
    lines = (ROOT / "docs" / "operators.md").read_text().splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    roles = [Role(cell.strip()) for cell in table[0][1:]]
    told = set()
    for first, *cells in table[1:]:
        (name,) = [begin for begin in PAGE_ROWS if first.strip().startswith(begin)]
        may = {role for role, cell in zip(roles, cells, strict=True) if cell.strip() == "yes"}
        method, paths = PAGE_ROWS[name]
        for path in paths:
            route = method, path if path.startswith("/") else f"/v1/admin/{path}"
            assert ROUTE_ROLES[route] == may, route
            told.add(route)
    assert told | ELSEWHERE == set(ROUTE_ROLES)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_is_refused_where_it_has_no_right(office: Office, role: Role) -> None:
    """With 403, a finding that names the role that could, and nothing done."""
    for method, path in sorted(admin_routes()):
        filled = path
        for name in ("proposal", "credential", "decision", "node", "name", "lease", "stream"):
            filled = filled.replace("{" + name + "}", DIGEST)
        answer = office.ask(role, method, filled)
        allowed = role in ROUTE_ROLES[method, path]
        if allowed:
            assert answer.status_code != 403, (method, path)
            continue
        assert answer.status_code == 403, (method, path)
        problem = answer.json()
        assert problem["type"] == ProblemKind.FORBIDDEN.uri
        (finding,) = problem["findings"]
        assert finding["id"] == "admin.role.refused"
        assert finding["seen"] == role.value
        wanted = ROUTE_ROLES[method, path]
        assert finding["expected"].split(" or ") == [each.value for each in Role if each in wanted]


def test_several_roles_may_what_each_of_them_may() -> None:
    """One that may is enough; none at all may nothing."""
    demand_role((Role.AUDITOR, Role.ENROLLER), frozenset({Role.ENROLLER, Role.OPERATOR}))
    for held in ((), (Role.AUDITOR,)):
        with pytest.raises(ProblemError) as refused:
            demand_role(held, frozenset({Role.OPERATOR}))
        assert refused.value.kind is ProblemKind.FORBIDDEN
    assert refused.value.findings[0].seen == "auditor"


def test_a_credential_that_was_revoked_is_let_go_of_when_that_is_repeated(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was durable and the verifier failed before it knew: the second time it does."""
    service = office.client.app.state.service  # type: ignore[attr-defined]  # a FastAPI application
    digest = secret_digest(office.credentials[Role.RELYING_PARTY])
    path = f"/v1/admin/credentials/{digest.hex()}/revocation"

    async def busy() -> None:
        raise StoreBusyError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(service.registry, "reload", busy)
        assert office.ask(Role.OPERATOR, "POST", path).status_code == 503
    assert office.ask(Role.OPERATOR, "POST", path).status_code == 404
    assert office.ask(Role.RELYING_PARTY, "POST", READ_BY_POST).status_code == 401
