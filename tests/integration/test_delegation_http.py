"""Delegation from key to key over real HTTP: verifier, holders and relying party."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bootlease.cli import run
from bootlease.errors import TransportError, VerificationError
from bootlease.evidence import TokenEncoding
from bootlease.relyingparty import FetchedKeys, TokenChecker, UnsafeNoContinuity
from bootlease.relyingparty.exchange import TokenExchange, grant_child
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.chains import KEYS
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import AUDIENCE, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.tokens import HOLDER
from bootlease.testing.verifier_process import VerifierProcess, verifier_process
from bootlease.token import TokenFormat, base64url, make_proof
from bootlease.token.delegation import verify_chain

SECRETS: Final = (4711, 8001, 8002, 8003)
"""Of the holder's key and of the first of ``KEYS`` that it is passed on to."""


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier whose policy lets leases be passed on three times."""
    with verifier_process(
        tmp_path_factory.mktemp("verifier"),
        policy=make_policy(lease__delegation_depth="3"),
        roots=local_ca.roots_pem,
        references=[reference_file],
    ) as process:
        yield process


@pytest.fixture
def parent(http: httpx2.Client, local_ca: LocalCA, good_boot: SimulatedBoot) -> str:
    """The token of a lease that a node attested for, as HTTP carries it."""
    client = AttestingClient(http, SimulatedNode(local_ca, boot=good_boot), (default_lease(),))
    client.enrol()
    (lease,) = client.renew().leases
    assert lease.encoding is TokenEncoding.CWT
    return base64url.encode(lease.token)


@pytest.fixture
def endpoint(running: VerifierProcess, http: httpx2.Client) -> TokenExchange:
    """The verifier's token endpoint."""
    return TokenExchange(running.url, keys_of(running, http), client=http)


def keys_of(running: VerifierProcess, http: httpx2.Client) -> FetchedKeys:
    """Return the keys that the verifier publishes."""
    return FetchedKeys(f"{running.url}/.well-known/jwks.json", client=http)


def checker(running: VerifierProcess, http: httpx2.Client, depth: int) -> TokenChecker:
    """Return a relying party that accepts so deep a chain."""
    return TokenChecker(
        keys_of(running, http),
        issuer=running.url,
        audience=AUDIENCE,
        continuity=UnsafeNoContinuity(),
        max_depth=depth,
    )


@pytest.mark.parametrize("form", [None, TokenFormat.JWT])
def test_a_lease_is_passed_on_three_times_and_used(
    running: VerifierProcess,
    http: httpx2.Client,
    endpoint: TokenExchange,
    parent: str,
    form: TokenFormat | None,
) -> None:
    """Every holder makes a grant, every child exchanges it; a relying party checks the chain."""
    token, holder = parent, HOLDER
    for depth in (1, 2, 3):
        grant = grant_child(token, holder, KEYS[depth].public, depth=3 - depth)
        given = endpoint.exchange(token, grant, KEYS[depth], form)
        token, holder = given.text, KEYS[depth]
        assert verify_chain(given.claims).depth == depth
    proof = make_proof(
        holder,
        htm="GET",
        htu=f"{AUDIENCE}/x",
        iat=given.claims.issued_at,
        jti="one",
        access_token=token,
    )
    checked = checker(running, http, 3).check_request(
        authorization=f"DPoP {token}", dpop=proof, method="GET", url=f"{AUDIENCE}/x"
    )
    assert checked.token.claims == given.claims
    with pytest.raises(VerificationError) as raised:
        checker(running, http, 2).check(token)
    assert [each.id for each in raised.value.findings] == ["token.depth.exceeded"]
    with pytest.raises(VerificationError) as raised:
        grant_child(token, holder, KEYS[4].public)
    assert [each.id for each in raised.value.findings] == ["delegation.depth.exceeded"]


def test_a_refusal_comes_with_its_findings(endpoint: TokenExchange, parent: str) -> None:
    """What the verifier says reaches whoever asked; a grant is good for its own key alone."""
    grant = grant_child(parent, HOLDER, KEYS[1].public)
    with pytest.raises(VerificationError) as raised:
        endpoint.exchange(parent, grant, KEYS[2])
    assert [each.id for each in raised.value.findings] == ["delegation.proof.key-mismatch"]
    first = endpoint.exchange(parent, grant, KEYS[1])
    again = endpoint.exchange(parent, grant, KEYS[1])
    assert again.text == first.text


def test_children_outlive_a_killed_verifier(
    running: VerifierProcess, http: httpx2.Client, endpoint: TokenExchange, parent: str
) -> None:
    """What was given is on disk: the same grant gives the same token, and no second one."""
    grant = grant_child(parent, HOLDER, KEYS[1].public, depth=1)
    first = endpoint.exchange(parent, grant, KEYS[1])
    running.kill()
    with pytest.raises(TransportError):
        endpoint.exchange(parent, grant, KEYS[1])
    running.start()
    assert endpoint.exchange(parent, grant, KEYS[1]).text == first.text
    further = grant_child(first.text, KEYS[1], KEYS[2].public)
    second = endpoint.exchange(first.text, further, KEYS[2])
    assert checker(running, http, 2).check(second.text).claims.scope == ("tool:search",)
    database = running.folder / "verifier.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        counted = "SELECT count(*) FROM delegations WHERE lease_id IN (?, ?)"
        assert db.execute(counted, (first.claims.lease_id, second.claims.lease_id)).fetchone() == (
            2,
        )
    db.close()
    assert run(["replay", "--all", "--data", str(running.folder), "--workers", "1"]) == 0


# -- the commands


@pytest.fixture
def keys(tmp_path: Path) -> Sequence[Path]:
    """Key files of the holder and of three others."""
    files = []
    for number, secret in enumerate(SECRETS):
        key = ec.derive_private_key(secret, ec.SECP256R1())
        file = tmp_path / f"key-{number}.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (tmp_path / f"public-{number}.pem").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        files.append(file)
    return files


@pytest.fixture
def token_file(parent: str, tmp_path: Path) -> Path:
    """A file with the parent's token."""
    file = tmp_path / "token"
    file.write_text(parent)
    return file


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must succeed; return what it printed."""
    code = run(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.strip()


def test_the_commands_pass_a_lease_on(
    running: VerifierProcess,
    parent: str,
    keys: Sequence[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``token delegate`` on one side, ``token exchange`` on the other, whatever names the key."""
    bundle = tmp_path / "bundle.json"
    printed(capsys, "verifier", "bundle", "--data", running.folder, "-o", bundle)
    token = tmp_path / "token"
    token.write_text(parent)
    thumbprint = base64url.encode(KEYS[1].public.thumbprint())
    jwk = tmp_path / "key.jwk"
    jwk.write_text(json.dumps(KEYS[1].public.jwk()))
    for to in (keys[1], tmp_path / "public-1.pem", jwk, thumbprint):
        grant = printed(
            *(capsys, "token", "delegate", token, "--key", keys[0], "--to", to),
            *("--scope", "tool:search", "--expires-in", 60, "--depth", 1),
        )
        child = printed(
            *(capsys, "token", "exchange", token, "--grant", grant, "--key", keys[1]),
            *("--bundle", bundle),
        )
        shown: dict[str, Any] = json.loads(printed(capsys, "token", "show", child, "--json"))
        assert shown["claims"]["cnf"]["jkt"] == thumbprint
        assert shown["claims"]["act"]["act"]["sub"].endswith(
            base64url.encode(HOLDER.public.thumbprint())
        )
    assert f"to {thumbprint}: lease" in printed(capsys, "token", "show", child)
    further = tmp_path / "grant"
    (tmp_path / "child").write_text(child)
    made: dict[str, Any] = json.loads(
        printed(
            *(capsys, "token", "delegate", tmp_path / "child", "--key", keys[1]),
            *("--to", keys[2], "--json"),
        )
    )
    assert (made["depth"], made["scope"], made["audience"]) == (0, ["tool:search"], AUDIENCE)
    further.write_text(made["grant"])
    last = json.loads(
        printed(
            *(capsys, "token", "exchange", tmp_path / "child", "--grant", further),
            *("--key", keys[2], "--issuer", running.url, "--jwt", "--json"),
        )
    )
    assert last["format"] == "jwt"
    assert len(last["claims"]["bootlease_delegation"]["links"]) == 2
    assert last["receipt"].startswith("c2sp.org/tlog-proof@v1")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("delegate", "--key", "0", "--to", "nothing"), 2, "neither a file nor a thumbprint"),
        (("delegate", "--key", "1", "--to", "2"), 1, "delegation.key.mismatch"),
        (("delegate", "--key", "0", "--to", "1", "--scope", "x:y"), 1, "delegation.scope.wider"),
        (("delegate", "--key", "0", "--to", "1", "--scope", "x y"), 2, "no such grant"),
        (("delegate", "--key", "0", "--to", "0"), 1, "delegation.key.repeated"),
        (("delegate", "--key", "0", "--to", "1", "--expires-in", "900"), 1, "expires.later"),
        (("exchange", "--grant", "x", "--key", "1"), 2, "give --bundle or --issuer"),
        (
            ("exchange", "--grant", "x", "--key", "1", "--issuer", "http://v.example"),
            2,
            "https",
        ),
        (
            ("exchange", "--grant", "x.y.z", "--key", "1", "--issuer", "http://127.0.0.1:9"),
            2,
            "base64url",
        ),
        (
            ("exchange", "--grant", "gone", "--key", "1", "--issuer", "http://127.0.0.1:9"),
            2,
            "gone: No such file",
        ),
        (
            ("exchange", "--grant", "1", "--key", "1", "--issuer", "http://127.0.0.1:9"),
            2,
            "--grant: ",
        ),
    ],
)
def test_what_cannot_be_passed_on_is_said(
    token_file: Path,
    keys: Sequence[Path],
    capsys: pytest.CaptureFixture[str],
    *,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """Before anything is sent; exit code 1 for what is refused, 2 for what is wrong."""
    named = [
        str(keys[int(each)]) if each.isdigit() and len(each) == 1 else each for each in arguments
    ]
    assert run(["token", named[0], str(token_file), *named[1:]]) == code
    assert said in capsys.readouterr().err


def test_a_verifier_that_is_gone_cannot_be_reached(
    token_file: Path, keys: Sequence[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3."""
    grant = printed(capsys, "token", "delegate", token_file, "--key", keys[0], "--to", keys[1])
    assert (
        run(
            [
                *("token", "exchange", str(token_file), "--grant", grant, "--key", str(keys[1])),
                *("--issuer", "http://127.0.0.1:9"),
            ]
        )
        == 3
    )
