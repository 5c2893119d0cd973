"""A JWT library that is not ours finds keys by discovery and checks tokens, over real HTTP."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx2
import jwt
import pytest

from bootlease.evidence import TokenEncoding
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import AUDIENCE, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import VerifierProcess, verifier_process
from bootlease.token import Algorithm

OTHER = "https://careful.example"
BEARER_POLICY = make_policy(
    lease__audiences=f'["{AUDIENCE}", "{OTHER}"]',
    lease__unsafe_bearer_audiences=f'["{AUDIENCE}"]',
)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier whose policy allows bearer tokens for one of its two audiences."""
    with verifier_process(
        tmp_path_factory.mktemp("bearer"),
        policy=BEARER_POLICY,
        roots=local_ca.roots_pem,
        references=[reference_file],
    ) as process:
        yield process


@pytest.fixture
def node(http: httpx2.Client, local_ca: LocalCA, good_boot: SimulatedBoot) -> AttestingClient:
    """An enrolled node."""
    client = AttestingClient(http, SimulatedNode(local_ca, boot=good_boot), ())
    client.enrol()
    return client


def lease(node: AttestingClient, encoding: TokenEncoding, audience: str = AUDIENCE) -> str:
    """Attest for one lease and return its token."""
    node.leases = (dataclasses.replace(default_lease(audience=audience), encoding=encoding),)
    return node.renew().leases[0].token.decode("ascii")


def fetch(url: str) -> Any:
    """GET a JSON document."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this machine
        return json.load(answer)


def check(issuer: str, token: str, audience: str = AUDIENCE) -> dict[str, Any]:
    """Check as a program that knows its issuer, its audience, PyJWT, and nothing else."""
    found = fetch(f"{issuer}/.well-known/openid-configuration")
    assert found["issuer"] == issuer
    key = jwt.PyJWKClient(found["jwks_uri"]).get_signing_key_from_jwt(token)
    return jwt.decode(
        token,
        key,
        algorithms=found["id_token_signing_alg_values_supported"],
        audience=audience,
        issuer=issuer,
        leeway=5,
        options={"require": ["exp", "iat", "nbf", "sub"]},
    )


def test_a_stock_library_verifies_a_bearer_token_through_discovery(
    running: VerifierProcess, node: AttestingClient
) -> None:
    """Issuer and audience are all that its program was told."""
    claims = check(running.url, lease(node, TokenEncoding.UNSAFE_BEARER))
    assert claims["sub"] == node.node.hex()
    assert claims["scope"] == "tool:search"


@pytest.mark.parametrize("audience", [AUDIENCE, OTHER])
def test_a_stock_library_refuses_a_token_that_needs_possession(
    running: VerifierProcess, node: AttestingClient, audience: str
) -> None:
    """So a stolen one opens nothing, even where bearer tokens are allowed."""
    token = lease(node, TokenEncoding.JWT, audience)
    with pytest.raises(jwt.InvalidTokenError, match="bootlease_pop"):
        check(running.url, token, audience)


def test_a_stock_library_refuses_another_audience(
    running: VerifierProcess, node: AttestingClient
) -> None:
    """A bearer token for one program is worth nothing at another."""
    token = lease(node, TokenEncoding.UNSAFE_BEARER)
    with pytest.raises(jwt.InvalidAudienceError):
        check(running.url, token, OTHER)


def test_no_bearer_token_is_issued_for_another_audience(node: AttestingClient) -> None:
    """The verifier refuses, names the finding, and grants nothing else of the request."""
    wish = dataclasses.replace(default_lease(audience=OTHER), encoding=TokenEncoding.UNSAFE_BEARER)
    refused = node.present(node.attest(leases=(default_lease(), wish)))
    assert refused.status_code == 403
    assert finding_ids(refused) == {"policy.unsafe-bearer.denied"}


@pytest.mark.parametrize(
    ("name", "members"),
    [
        (
            "openid-configuration",
            {
                *("issuer", "jwks_uri", "response_types_supported", "subject_types_supported"),
                "id_token_signing_alg_values_supported",
            },
        ),
        ("oauth-authorization-server", {"issuer", "response_types_supported", "jwks_uri"}),
    ],
)
def test_both_documents_have_what_their_specification_demands(
    http: httpx2.Client, running: VerifierProcess, name: str, members: set[str]
) -> None:
    """OpenID Connect Discovery 1.0 §3, RFC 8414 §2; no list is empty."""
    answer = http.get(f"/.well-known/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert members <= document.keys()
    assert document["issuer"] == running.url
    assert all(document.values())
    assert set(document["dpop_signing_alg_values_supported"]) == {each.value for each in Algorithm}


@pytest.mark.parametrize("name", ["openid-configuration", "oauth-authorization-server"])
def test_every_address_in_the_documents_is_served(
    http: httpx2.Client, running: VerifierProcess, name: str
) -> None:
    """Nothing is promised that is not there."""
    document = http.get(f"/.well-known/{name}").json()
    paths = {each: url.removeprefix(running.url) for each, url in document.items() if _is_url(url)}
    described = http.get("/openapi.json").json()["paths"]
    assert paths.keys() == {"issuer", "jwks_uri", "token_endpoint", "introspection_endpoint"}
    assert {path for path in paths.values() if path} <= described.keys()
    assert [*described[paths["token_endpoint"]]] == ["post"]
    assert [*described[paths["introspection_endpoint"]]] == ["post"]


def _is_url(value: object) -> bool:
    return isinstance(value, str) and bool(re.match("https?://", value))


def test_the_claims_that_are_named_are_those_of_a_token(
    http: httpx2.Client, running: VerifierProcess, node: AttestingClient
) -> None:
    """``claims_supported`` neither forgets one nor invents one."""
    claims = check(running.url, lease(node, TokenEncoding.UNSAFE_BEARER))
    document = http.get("/.well-known/openid-configuration").json()
    assert claims.keys() <= set(document["claims_supported"])
    assert set(document["claims_supported"]) - claims.keys() <= {*("act", "bootlease_delegation")}
