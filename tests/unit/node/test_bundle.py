"""Join bundles: strict JSON, nothing assumed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.node.bundle import MAX_BUNDLE, parse_bundle
from bootlease.testing.sealing import SealedLedger
from bootlease.token import KeySet, PublicKey, VerificationKey

if TYPE_CHECKING:
    from bootlease.testing.local_ca import LocalCA

KEY = VerificationKey(
    PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
)
LEDGER_KEY = SealedLedger.create().key


def bundle(**changes: Any) -> bytes:
    """Return a good bundle with members changed, or removed where None."""
    members = {
        "v": 1,
        "issuer": "https://verifier.example:8443",
        "keys": KeySet((KEY,)).to_jwks(),
        "ledger_key": str(LEDGER_KEY),
        **changes,
    }
    return json.dumps(
        {name: value for name, value in members.items() if value is not None}
    ).encode()


def test_a_leash_key_is_no_part_of_who_the_verifier_is() -> None:
    """A node that gets a bundle with one stays enrolled."""
    with_one, without = parse_bundle(bundle(leash_key=KEY.public.jwk())), parse_bundle(bundle())
    assert with_one.leash_key == KEY.public
    assert without.leash_key is None
    assert with_one.digest == without.digest


def test_good(local_ca: LocalCA) -> None:
    """A bundle gives issuer, keys, TLS root and join token."""
    pem = local_ca.root.public_bytes(serialization.Encoding.PEM).decode()
    parsed = parse_bundle(bundle(tls_root=pem, join_token="abc-123"))
    assert parsed.issuer == "https://verifier.example:8443"
    assert parsed.keys.get(KEY.key_id) == KEY
    assert (parsed.tls_root, parsed.join_token) == (pem, "abc-123")
    assert "abc-123" not in repr(parsed)


def test_digest_names_the_verifier() -> None:
    """The same verifier has the same digest whatever join token its bundle carries."""
    plain, joined = parse_bundle(bundle()), parse_bundle(bundle(join_token="x"))
    assert plain.digest == joined.digest
    assert plain.digest != parse_bundle(bundle(issuer="https://other.example")).digest


@pytest.mark.parametrize(
    ("issuer", "remote"),
    [
        ("http://verifier.example", True),
        ("http://10.0.0.1:80", True),
        ("http://127.0.0.1:8443", False),
        ("http://[::1]:8443", False),
        ("http://localhost:1", False),
        ("https://verifier.example", False),
    ],
)
def test_plain_http(issuer: str, *, remote: bool) -> None:
    """A verifier that is reached over a network without TLS is known as such."""
    assert parse_bundle(bundle(issuer=issuer)).plain_and_remote is remote


WRONG: dict[str, dict[str, Any]] = {
    "no version": {"v": None},
    "other version": {"v": 2},
    "version true": {"v": True},
    "no issuer": {"issuer": None},
    "no keys": {"keys": None},
    "unknown member": {"keyz": 1},
    "issuer is no URL": {"issuer": "verifier"},
    "issuer of another scheme": {"issuer": "ftp://verifier.example"},
    "issuer with a slash": {"issuer": "https://verifier.example/"},
    "issuer with a user": {"issuer": "https://me@verifier.example"},
    "issuer with a query": {"issuer": "https://verifier.example?x"},
    "issuer with a space": {"issuer": "https://verifier.example/a b"},
    "issuer with a bad port": {"issuer": "https://verifier.example:99999"},
    "issuer with port 0": {"issuer": "https://verifier.example:0"},
    "issuer too long": {"issuer": "https://" + "a" * 600},
    "issuer no text": {"issuer": 5},
    "no key": {"keys": {"keys": []}},
    "keys no set": {"keys": []},
    "no ledger key": {"ledger_key": None},
    "ledger key no text": {"ledger_key": 1},
    "ledger key of another form": {"ledger_key": "verifier.example/ledger"},
    "TLS root no PEM": {"tls_root": "none"},
    "TLS root no text": {"tls_root": 1},
    "leash key no JWK": {"leash_key": "key"},
    "leash key off its curve": {"leash_key": {**KEY.public.jwk(), "y": KEY.public.jwk()["x"]}},
    "leash key on another curve": {
        "leash_key": PublicKey.from_cryptography(
            ec.generate_private_key(ec.SECP384R1()).public_key()
        ).jwk()
    },
    "leash key private": {"leash_key": {**KEY.public.jwk(), "d": "AA"}},
    "join token empty": {"join_token": ""},
    "join token too long": {"join_token": "a" * 129},
    "join token no text": {"join_token": 1},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case: str) -> None:
    """A bundle with one thing wrong is refused."""
    with pytest.raises(MalformedError):
        parse_bundle(bundle(**WRONG[case]))


def test_repeated_member() -> None:
    """A member that is given twice is refused: two readers would read two verifiers."""
    with pytest.raises(MalformedError, match="repeated"):
        parse_bundle(b'{"v": 1, "v": 1}')


def test_too_long() -> None:
    """A bundle is bounded before it is looked at."""
    with pytest.raises(MalformedError, match="longer"):
        parse_bundle(b" " * (MAX_BUNDLE + 1))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Any bytes give a bundle or MalformedError, never any other error."""
    with pytest.raises(MalformedError):
        parse_bundle(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["issuer", "keys", "ledger_key", "leash_key", "tls_root", "join_token", "v"]),
    JSON,
)
def test_any_member(name: str, value: Any) -> None:
    """Any value of any member gives a bundle or MalformedError, never any other error."""
    try:
        parse_bundle(bundle(**{name: value}))
    except MalformedError:
        return
