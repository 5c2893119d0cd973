"""``bootlease token``: what it prints and how it exits."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootlease.cli import run
from bootlease.ledger import encode_leaf
from bootlease.relyingparty import FileKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.chains import VERIFIER
from bootlease.testing.publishing import PublishingVerifier, publishing
from bootlease.testing.sealing import SealedLedger
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    FakeIssuer,
    execution_claims,
    fixed_signer,
)
from bootlease.token import (
    KeyProtection,
    LineageClaim,
    Tier,
    TrustVector,
    base64url,
    make_proof,
)
from bootlease.token.child import child_claims
from bootlease.token.delegation import holding_of
from bootlease.token.grants import make_grant, verify_grant
from bootlease.token.publickey import PublicKey
from bootlease.token.receipts import attach_receipt

if TYPE_CHECKING:
    from bootlease.token import ExecutionClaims

ISSUED = FakeIssuer()
URL = "https://tools.example/run"


def current(**changes: Any) -> ExecutionClaims:
    """Return claims issued now."""
    now = int(time.time())
    times = {"issued_at": now, "not_before": now, "expires_at": now + 90}
    return dataclasses.replace(execution_claims(), **{**times, **changes})


def jwt(**changes: Any) -> str:
    """Return a JWT issued now."""
    return ISSUED.jwt(current(**changes))


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """Return a file with the issuer's keys."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(ISSUED.keys.to_jwks()))
    return str(path)


def verify(token: str, keys: str, *more: str) -> int:
    """Run ``bootlease token verify`` for the tests' issuer and audience."""
    options = ["--keys", keys, "--issuer", ISSUER, "--audience", AUDIENCE]
    return run(["token", "verify", token, *options, *more])


def test_good_token_is_accepted(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, and the token readably on stdout."""
    assert verify(jwt(), keys, "--scope", "tools:read") == 0
    out, err = capsys.readouterr()
    assert out.startswith("accepted\n")
    assert "not checked: no --proof was given" in out
    assert err == ""


def test_token_is_read_from_a_file(keys: str, tmp_path: Path) -> None:
    """Binary CWT, its text, and a JWT with a final new line."""
    cwt = ISSUED.cwt(current())
    for number, data in enumerate(
        (cwt, base64url.encode(cwt).encode() + b"\n", jwt().encode() + b"\r\n")
    ):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert verify(str(path), keys) == 0


def test_cwt_that_ends_like_white_space_is_read_whole(keys: str, tmp_path: Path) -> None:
    """A binary token is not trimmed."""
    for number in range(400):
        cwt = ISSUED.cwt(current(lineage=LineageClaim(bytes(32), 1, number.to_bytes(32))))
        if cwt[-1:].isspace():
            break
    else:
        pytest.fail("no signature ended in white space")
    path = tmp_path / "token"
    path.write_bytes(cwt)
    assert verify(str(path), keys) == 0


def test_proof_is_checked(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --proof, possession is part of the verdict."""
    token = jwt()
    now = int(time.time())
    proof = make_proof(HOLDER, htm="GET", htu=URL, iat=now, jti="j", access_token=token)
    options = ["--proof", proof, "--url", URL]
    assert verify(token, keys, *options, "--method", "GET") == 0
    assert "proven with the confirmation key" in capsys.readouterr().out
    assert verify(token, keys, *options, "--method", "POST") == 1
    assert "[pop.method.mismatch]" in capsys.readouterr().err


def test_refused_token_exits_with_1(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason stands on stderr, one line for each finding."""
    assert verify(jwt(expires_at=5, audience="other"), keys) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.rpartition("[")[2] for line in err.splitlines()] == [
        "token.audience.mismatch]",
        "token.expired]",
    ]


def test_refusal_as_json_stands_on_stdout(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read findings from stdout, people from stderr."""
    assert verify(jwt(), keys, "--scope", "no", "--json") == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["verdict"] == "refused"
    assert document["findings"][0]["id"] == "token.scope.insufficient"
    assert "token.scope.insufficient" in err


def test_verdict_as_json(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict, what was not checked, the digest and the claims."""
    assert verify(jwt(), keys, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["possession"]) == ("accepted", "not-checked")
    assert document["claims"]["aud"] == AUDIENCE


@pytest.mark.parametrize("token", ["rubbish", "a.b.c", "", "é", "a" * 100_000])
def test_malformed_token_exits_with_2(
    keys: str, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear line and no traceback."""
    assert verify(token, keys) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bootlease: error: ")
    assert len(err.splitlines()) == 1


def test_keys_that_cannot_be_had_exit_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and a closed port are no verdict."""
    assert verify(jwt(), "/nonexistent/keys") == 3
    assert verify(jwt(), "http://127.0.0.1:9/keys") == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("more", [["--proof", "x"], ["--url", URL], ["--method", "GET"]])
def test_half_a_request_is_wrong_usage(keys: str, more: list[str]) -> None:
    """Proof, method and URL go together."""
    assert verify(jwt(), keys, *more) == 2


@pytest.mark.parametrize("scope", ["", "*", "tools:a b"])
def test_scope_that_is_no_scope_name_is_wrong_usage(keys: str, scope: str) -> None:
    """What no token can cover is the caller's mistake, not the token's."""
    assert verify(jwt(), keys, "--scope", scope) == 2


def test_keys_in_the_clear_are_wrong_usage(keys: str) -> None:
    """Keys come by https."""
    del keys
    assert verify(jwt(), "http://verifier.example/keys") == 2


@pytest.mark.parametrize(
    ("protection", "words"),
    [
        (KeyProtection.PROCESS, "held by a process"),
        (KeyProtection.TPM_EXPIRING, "which lets it be used under a permit only"),
    ],
)
def test_show_says_where_the_key_lives(
    protection: KeyProtection, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of key in words."""
    assert run(["token", "show", FakeIssuer(99).jwt(current(protection=protection))]) == 0
    assert words in capsys.readouterr().out


def test_show_says_that_nothing_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's token is shown, with words for numbers, under a warning."""
    token = FakeIssuer(99).jwt(current(protection=KeyProtection.TPM))
    assert run(["token", "show", token]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SIGNATURE NOT CHECKED")
    for words in (
        "renewal 7 of",
        "TPM reset 12, restart 0",
        "executables 3 (affirming): only approved software during boot",
        "resident in the node's TPM",
        "debian-12",
        "s from now",
    ):
        assert words in out


def test_show_of_an_old_first_lease(capsys: pytest.CaptureFixture[str]) -> None:
    """An ended lease is said to have ended, a first lease to be one."""
    assert run(["token", "show", jwt(expires_at=5, lineage=LineageClaim(bytes(32), 0))]) == 0
    out = capsys.readouterr().out
    assert "ended" in out
    assert "first lease of" in out


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON says that nothing was checked, too."""
    assert run(["token", "show", jwt(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "not-checked"


def test_accepted_although_just_ended(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the leeway for clocks the verdict and the time are not left to contradict."""
    now = int(time.time())
    assert verify(jwt(issued_at=now - 90, not_before=now - 90, expires_at=now - 2), keys) == 0
    out = capsys.readouterr().out
    assert re.search(r"ended [23] s ago, within the 5 s allowed for clocks", out)


def test_keys_of_a_join_bundle(tmp_path: Path) -> None:
    """What was handed to a node serves to check its tokens."""
    bundle = tmp_path / "join.json"
    ledger_key = str(SealedLedger.create().key)
    members = {"v": 1, "issuer": ISSUER, "keys": ISSUED.keys.to_jwks(), "ledger_key": ledger_key}
    bundle.write_text(json.dumps(members))
    assert verify(jwt(), str(bundle)) == 0


def test_show_tells_where_the_receipt_says_that_the_token_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CWT's own receipt, which is not checked either."""
    claims = current()
    leaf = encode_leaf(claims.decision, claims.digest)
    receipt = SealedLedger.create().append([leaf, leaf])[1]
    path = tmp_path / "token"
    path.write_bytes(attach_receipt(ISSUED.cwt(claims), receipt.cose()))
    assert run(["token", "show", str(path)]) == 0
    assert "entry 1 of 2 in verifier.example/ledger/2026-11, not checked" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"garbage", b"{}", b'{"v": 1, "keys": []}', b"\xff" * 9])
def test_file_without_keys_is_named(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what is looked for and where, the report which part it is."""
    file = tmp_path / "keys"
    file.write_bytes(data)
    assert verify(jwt(), str(file), "--json") == 2
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [each["id"] for each in found] == ["keys.malformed"]
    assert verify(jwt(), str(file)) == 2
    wanted = f"--keys: no JWK Set, COSE key set, PEM key or join bundle in {file}\n"
    assert capsys.readouterr().err == f"bootlease: error: {wanted}"


def test_malformed_proof_is_named(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the token is broken."""
    assert verify(jwt(), keys, "--proof", "x", "--method", "GET", "--url", URL) == 2
    assert capsys.readouterr().err.startswith("bootlease: error: --proof: ")


def test_malformed_url_is_named(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is the proof, where the URL is none."""
    assert verify(jwt(), keys, "--proof", "x", "--method", "GET", "--url", "tools") == 2
    assert "'--url': 'tools' is not an absolute http or https URL" in capsys.readouterr().err


@pytest.mark.parametrize("finding", ["token.malformed", "proof.malformed"])
def test_malformed_input_is_reported_as_json(
    keys: str, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json a report stands on stdout whatever the verdict is."""
    token = "rubbish" if finding == "token.malformed" else jwt()
    more = ["--proof", "x", "--method", "GET", "--url", URL]
    assert verify(token, keys, *more, "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "malformed"
    assert [each["id"] for each in document["findings"]] == [finding]


def test_what_is_no_file_with_a_token_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory, a device and an empty file are called what they are."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    for path, what in (
        (str(tmp_path), "is a directory"),
        ("/dev/null", "is no regular file"),
        (str(empty), "is empty"),
    ):
        assert run(["token", "show", path]) == 2
        assert capsys.readouterr().err == f"bootlease: error: {path} {what}\n"


@pytest.fixture
def held(tmp_path: Path) -> tuple[str, str]:
    """Token file and key file as a node's agent leaves them."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    claims = current(confirmation=PublicKey.from_cryptography(key.public_key()))
    (tmp_path / "token").write_bytes(ISSUED.cwt(claims))
    return str(tmp_path / "token"), str(tmp_path / "key.pem")


def test_proof_makes_the_headers_of_a_request(
    held: tuple[str, str], keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relying party accepts what is printed; two proofs are never alike."""
    token, key = held
    command = ["token", "proof", "--key", key, "--token", token, "--method", "GET", "--url", URL]
    assert run(command) == 0
    out = capsys.readouterr().out
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert list(lines) == ["Authorization", "DPoP"]
    TokenChecker(
        FileKeys(Path(keys)), issuer=ISSUER, audience=AUDIENCE, continuity=UnsafeNoContinuity()
    ).check_request(authorization=lines["Authorization"], dpop=lines["DPoP"], method="GET", url=URL)
    assert run([*command, "--json"]) == 0
    headers = json.loads(capsys.readouterr().out)
    assert headers["Authorization"] == lines["Authorization"]
    assert headers["DPoP"] != lines["DPoP"]


def test_proof_with_another_key_is_wrong_usage(
    held: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Headers that every relying party refuses are not made."""
    other = tmp_path / "other.pem"
    stranger = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    options = ["--token", held[0], "--method", "GET", "--url", URL]
    assert run(["token", "proof", "--key", str(other), *options]) == 2
    assert "--key: the token confirms another key" in capsys.readouterr().err
    other.write_bytes(b"garbage")
    assert run(["token", "proof", "--key", str(other), *options]) == 2
    assert f"PEM private key of an accepted kind in {other}" in capsys.readouterr().err
    assert run(["token", "proof", "--key", str(tmp_path / "none"), *options]) == 2


# -- revocation, delegation, appraisal


def test_without_continuity_it_is_said_that_nobody_looked(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accepted is not the same as not revoked."""
    assert verify(jwt(), keys) == 0
    assert "revocation   not checked: no --continuity was given" in capsys.readouterr().out
    assert verify(jwt(), keys, "--json") == 0
    assert json.loads(capsys.readouterr().out)["revocation"] == "not-checked"


def test_continuity_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """A revoked lease is refused, another one is not, and keys may come from the same verifier."""
    with publishing(PublishingVerifier()) as verifier:
        options = ["--keys", f"{verifier.url}/.well-known/jwks.json", "--issuer", verifier.url]
        options += ["--audience", AUDIENCE, "--continuity", f"{verifier.url}/v1/continuity"]
        token = ISSUED.jwt(dataclasses.replace(current(), issuer=verifier.url))
        assert run(["token", "verify", token, *options]) == 0
        assert "revocation   not revoked" in capsys.readouterr().out
        assert run(["token", "verify", token, *options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["revocation"] == "checked"
        verifier.publish(revoked=[0])
        assert run(["token", "verify", token, *options]) == 1
        assert "[token.revoked]" in capsys.readouterr().err
        verifier.publish(revoked=[], issuer="https://other.example")
        assert run(["token", "verify", token, *options]) == 1
        assert "[continuity.issuer.mismatch]" in capsys.readouterr().err
        verifier.status = 503
        gone = [*options[2:], "--keys", str(Path("/nonexistent"))]
        assert run(["token", "verify", token, *gone]) == 3


def test_continuity_that_cannot_be_had_exits_with_3(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No answer is no verdict; a URL that is none is misuse."""
    assert verify(jwt(), keys, "--continuity", "http://127.0.0.1:9/v1/continuity") == 3
    assert capsys.readouterr().out == ""
    assert verify(jwt(), keys, "--continuity", "http://verifier.example/v1/continuity") == 2


def test_a_delegated_lease_is_accepted_where_that_is_asked(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by default."""
    root, child = current(), fixed_signer(13).public
    grant = make_grant(
        HOLDER,
        root.digest,
        thumbprint=child.thumbprint(),
        scope=root.scope,
        audience=root.audience,
        expires_at=root.expires_at,
        depth=0,
        issued_at=root.issued_at,
        jti="one",
    )
    verified = verify_grant(grant, holding_of(root))
    ids = {"lease_id": bytes(15) + b"\x01", "decision": bytes(32)}
    claims = child_claims(root, verified, child, **ids, verifier=VERIFIER, now=root.issued_at)
    token = ISSUED.jwt(claims)
    assert verify(token, keys) == 1
    assert "[token.depth.exceeded]" in capsys.readouterr().err
    assert verify(token, keys, "--max-depth", "1") == 0


def test_a_lesser_appraisal_is_accepted_where_that_is_asked(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by default."""
    token = jwt(status=Tier.WARNING, vector=TrustVector(configuration=32))
    assert verify(token, keys) == 1
    assert "[token.tier.insufficient]" in capsys.readouterr().err
    assert verify(token, keys, "--min-tier", "warning") == 0
