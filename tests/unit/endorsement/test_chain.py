"""What ``verify_ek_chain`` holds: who may vouch for an endorsement key."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bootlease.endorsement import TrustedRoots, parse_certificate, verify_ek_chain
from bootlease.endorsement.weakness import is_roca
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.tpm import EndorsementKey, accept_endorsement_key, parse_public

DAY = 86_400
AIK_EKU = x509.ObjectIdentifier("2.23.133.8.3")


@pytest.fixture(scope="module")
def ca() -> LocalCA:
    """A manufacturer."""
    return LocalCA.create()


@pytest.fixture(scope="module")
def ek(ca: LocalCA) -> EndorsementKey:
    """A sound endorsement key."""
    return accept_endorsement_key(parse_public(SimulatedNode(ca).ek_public()))


@pytest.fixture(scope="module")
def roots(ca: LocalCA) -> TrustedRoots:
    """The manufacturer's root, pinned."""
    return TrustedRoots.of([ca.root.public_bytes(Encoding.DER)])


@pytest.fixture(scope="module")
def now(ca: LocalCA) -> int:
    """A time at which everything is valid."""
    return int(ca.root.not_valid_before_utc.timestamp()) + 2 * DAY


def refusals(chain: Sequence[bytes], roots: TrustedRoots, ek: EndorsementKey, now: int) -> set[str]:
    """Return the ids of what refuses."""
    with pytest.raises(VerificationError) as refused:
        verify_ek_chain(chain, roots, ek, now=now)
    return {finding.id for finding in refused.value.findings}


def certificate(
    ca: LocalCA,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    *extensions: tuple[x509.ExtensionType, bool],
    signer: ec.EllipticCurvePrivateKey | None = None,
    issuer: x509.Name | None = None,
    name: str | None = None,
) -> x509.Certificate:
    """Return a certificate with just these extensions, under the CA's intermediate."""
    start = ca.root.not_valid_before_utc
    subject = [] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer or ca.intermediate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=365))
    )
    authority = signer or ca.intermediate_key
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    for extension, critical in (*extensions, (identifier, False)):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority, hashes.SHA256())


def der(value: x509.Certificate) -> bytes:
    """Return DER."""
    return value.public_bytes(Encoding.DER)


def san() -> tuple[x509.ExtensionType, bool]:
    """Return the critical directoryName that every EK certificate has."""
    names = (("2.23.133.2.1", "id:53544D20"), ("2.23.133.2.2", "ST33"), ("2.23.133.2.3", "id:01"))
    attributes = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in names]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))]), True


def eku(*oids: x509.ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    """Return an extended key usage, the EK's by default."""
    return x509.ExtendedKeyUsage(oids or [x509.ObjectIdentifier("2.23.133.8.1")]), False


def key_usage(*, sign: bool) -> tuple[x509.ExtensionType, bool]:
    """Return a key usage with or without keyCertSign."""
    usage = x509.KeyUsage(
        digital_signature=not sign, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return usage, True


def ec_public(ek: EndorsementKey) -> ec.EllipticCurvePublicKey:
    """Return the EK as ``cryptography`` has it."""
    assert isinstance(ek.key, ec.EllipticCurvePublicKey)
    return ek.key


def chain_for(ca: LocalCA, ek: EndorsementKey) -> list[bytes]:
    """Return a sound chain."""
    return [ca.issue_ek_certificate(ec_public(ek)), ca.intermediate_der]


def test_a_sound_chain_is_an_endorsement(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """Root, make, path and end of validity are those of the certificates."""
    chain = chain_for(ca, ek)
    verified = verify_ek_chain(chain, roots, ek, now=now)
    endorsement = verified.endorsement
    assert endorsement.root in roots
    assert endorsement.certificate == parse_certificate(chain[0]).fingerprint
    assert endorsement.identity.model == "swtpm"
    assert endorsement.not_after == parse_certificate(chain[0]).not_after
    intermediate = parse_certificate(ca.intermediate_der)
    assert [link.serial for link in endorsement.path] == [
        parse_certificate(chain[0]).serial,
        intermediate.serial,
    ]
    assert endorsement.path[0].issuer == intermediate.issuer_id
    assert verified.notes == ()


def test_a_certificate_of_another_key_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """A real certificate beside another EK endorses nothing (B5)."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    chain = [ca.issue_ek_certificate(other), ca.intermediate_der]
    assert refusals(chain, roots, ek, now) == {"endorsement.key.mismatch"}


@pytest.mark.parametrize("usages", [(AIK_EKU,), (x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1"),)])
def test_another_extended_key_usage_is_refused(
    usages: tuple[x509.ObjectIdentifier, ...],
    ca: LocalCA,
    ek: EndorsementKey,
    roots: TrustedRoots,
    now: int,
) -> None:
    """An AK certificate or a web server's does not endorse (B10)."""
    leaf = ca.issue_ek_certificate(ec_public(ek), extended_key_usage=usages[0])
    assert refusals([leaf, ca.intermediate_der], roots, ek, now) == {"endorsement.eku.missing"}


def test_no_extended_key_usage_at_all_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """Absence is not "any purpose" (B10)."""
    leaf = der(certificate(ca, ec_public(ek), san()))
    assert refusals([leaf, ca.intermediate_der], roots, ek, now) == {"endorsement.eku.missing"}


def test_a_certificate_that_names_no_tpm_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """Manufacturer, model and version are part of an endorsement."""
    leaf = der(certificate(ca, ec_public(ek), eku(), name="somebody"))
    assert refusals([leaf, ca.intermediate_der], roots, ek, now) == {"endorsement.identity.missing"}


def test_an_unknown_critical_extension_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """What must be understood and is not, refuses; only the directoryName is understood (B11)."""
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), True
    leaf = der(certificate(ca, ec_public(ek), san(), eku(), odd))
    assert refusals([leaf, ca.intermediate_der], roots, ek, now) == {
        "endorsement.extension.critical"
    }


def test_an_expired_certificate_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """Expiry is told as expiry, not as a broken chain."""
    chain = chain_for(ca, ek)
    late = parse_certificate(chain[0]).not_after + 1
    assert refusals(chain, roots, ek, late) == {"endorsement.certificate.expired"}
    early = parse_certificate(chain[0]).not_before - 1
    assert refusals(chain, roots, ek, early) >= {"endorsement.certificate.not-yet-valid"}
    assert verify_ek_chain(chain, roots, ek, now=late - 1)
    del now


def test_an_altered_certificate_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """The signature is checked over the original bytes (B13)."""
    leaf = bytearray(chain_for(ca, ek)[0])
    leaf[leaf.index(b"swtpm")] ^= 0x20
    assert refusals([bytes(leaf), ca.intermediate_der], roots, ek, now) == {
        "endorsement.chain.untrusted"
    }


def test_another_manufacturers_root_is_refused(ca: LocalCA, ek: EndorsementKey, now: int) -> None:
    """A chain counts only under a pinned root, whatever it brings along (B14)."""
    other = TrustedRoots.of([der(LocalCA.create().root)])
    chain = [*chain_for(ca, ek), der(ca.root)]
    assert refusals(chain, other, ek, now) == {"endorsement.chain.untrusted"}


def test_no_roots_trust_nobody(ca: LocalCA, ek: EndorsementKey, now: int) -> None:
    """An empty set is not "any root"."""
    assert refusals(chain_for(ca, ek), TrustedRoots.of([]), ek, now) == {"endorsement.roots.none"}


def test_a_missing_intermediate_is_refused(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """A path has no gaps."""
    assert refusals(chain_for(ca, ek)[:1], roots, ek, now) == {"endorsement.chain.untrusted"}


def test_a_pinned_intermediate_is_an_anchor(ca: LocalCA, ek: EndorsementKey, now: int) -> None:
    """An operator may trust one CA of a manufacturer and not the others."""
    roots = TrustedRoots.of([ca.intermediate_der])
    assert verify_ek_chain(chain_for(ca, ek)[:1], roots, ek, now=now).endorsement.root in roots


@pytest.mark.parametrize(
    "extensions",
    [
        [(x509.BasicConstraints(ca=False, path_length=None), True), "sign"],
        [(x509.BasicConstraints(ca=True, path_length=0), True), ""],
        ["sign"],
        [(x509.BasicConstraints(ca=True, path_length=0), True)],
    ],
    ids=["no CA", "may not sign certificates", "no basic constraints", "no key usage"],
)
def test_only_a_ca_may_issue(
    extensions: list[tuple[x509.ExtensionType, bool] | str],
    ca: LocalCA,
    ek: EndorsementKey,
    roots: TrustedRoots,
    now: int,
) -> None:
    """A certificate under the root that is no CA certifies no EK (B14)."""
    key = ec.generate_private_key(ec.SECP256R1())
    built = [
        key_usage(sign=each == "sign") if isinstance(each, str) else each for each in extensions
    ]
    middle = certificate(
        ca, key.public_key(), *built, signer=ca.root_key, issuer=ca.root.subject, name="middle"
    )
    leaf = certificate(ca, ec_public(ek), san(), eku(), signer=key, issuer=middle.subject)
    assert refusals([der(leaf), der(middle)], roots, ek, now) == {"endorsement.chain.not-a-ca"}


def test_an_ek_cannot_issue_another(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """A genuine EK certificate is no CA for a forged one (B14)."""
    key = ec.generate_private_key(ec.SECP256R1())
    real = certificate(ca, key.public_key(), san(), eku(), name="tpm")
    fake = certificate(ca, ec_public(ek), san(), eku(), signer=key, issuer=real.subject)
    chain = [der(fake), der(real), ca.intermediate_der]
    # The intermediate allows no further CA either.
    assert refusals(chain, roots, ek, now) == {
        "endorsement.chain.not-a-ca",
        "endorsement.chain.path-length",
    }


def test_a_path_length_is_kept(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """An intermediate that may not have CAs below it has none (B14)."""
    key = ec.generate_private_key(ec.SECP256R1())
    basic = x509.BasicConstraints(ca=True, path_length=None), True
    middle = certificate(ca, key.public_key(), basic, key_usage(sign=True), name="below")
    leaf = certificate(ca, ec_public(ek), san(), eku(), signer=key, issuer=middle.subject)
    chain = [der(leaf), der(middle), ca.intermediate_der]
    assert refusals(chain, roots, ek, now) == {"endorsement.chain.path-length"}


def test_an_expired_intermediate_is_named(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """The operator learns which part of the chain is over."""
    key = ec.generate_private_key(ec.SECP256R1())
    basic = x509.BasicConstraints(ca=True, path_length=0), True
    middle = certificate(
        ca, key.public_key(), basic, key_usage(sign=True),
        signer=ca.root_key, issuer=ca.root.subject, name="middle",
    )  # fmt: skip
    late = parse_certificate(der(middle)).not_after + DAY
    start = ca.root.not_valid_before_utc
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(middle.subject)
        .public_key(ec_public(ek))
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=700))
        .add_extension(san()[0], critical=True)
        .add_extension(eku()[0], critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    chain = [der(leaf), der(middle)]
    assert refusals(chain, roots, ek, late) == {"endorsement.intermediate.expired"}
    assert verify_ek_chain(chain, roots, ek, now=now)


def test_a_ca_certificate_is_no_ek_certificate(ca: LocalCA, ek: EndorsementKey, now: int) -> None:
    """A CA that certifies the EK's key as a CA does not endorse it."""
    roots = TrustedRoots.of([ca.intermediate_der])
    basic = x509.BasicConstraints(ca=True, path_length=None), True
    leaf = der(certificate(ca, ec_public(ek), san(), eku(), basic, key_usage(sign=True)))
    assert "endorsement.certificate.is-ca" in refusals([leaf], roots, ek, now)


def test_a_leaf_cannot_be_pinned(ca: LocalCA, ek: EndorsementKey) -> None:
    """A pinned EK certificate would be its own chain."""
    with pytest.raises(MalformedError):
        TrustedRoots.of([ca.issue_ek_certificate(ec_public(ek))])


def test_roots_are_named_by_their_content(ca: LocalCA) -> None:
    """The digest does not depend on order, and does on membership."""
    first, second = der(ca.root), ca.intermediate_der
    both = TrustedRoots.of([first, second])
    assert both.digest == TrustedRoots.of([second, first, first]).digest
    assert both.digest != TrustedRoots.of([first]).digest
    assert len(both) == 2


def test_all_that_is_wrong_is_told(ca: LocalCA, ek: EndorsementKey, now: int) -> None:
    """One refusal answers every question."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = ca.issue_ek_certificate(other, extended_key_usage=AIK_EKU)
    found = refusals([leaf], TrustedRoots.of([der(LocalCA.create().root)]), ek, now)
    assert found == {
        "endorsement.key.mismatch",
        "endorsement.eku.missing",
        "endorsement.chain.untrusted",
    }


def test_chains_have_bounded_length(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """Nobody makes the verifier search a thousand certificates."""
    for chain in ([], [*chain_for(ca, ek), *[ca.intermediate_der] * 5]):
        with pytest.raises(MalformedError):
            verify_ek_chain(chain, roots, ek, now=now)


def test_a_key_of_the_faulty_generator_is_known(ek: EndorsementKey) -> None:
    """A modulus that is a power of 65537 modulo the small primes is refused (B15)."""
    product = 1
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        product *= prime
    modulus = pow(65537, 12345, product) + product * (1 << 1900)
    modulus += 0 if modulus % 2 else product
    assert is_roca(rsa.RSAPublicNumbers(65537, modulus).public_key())
    assert not is_roca(rsa.generate_private_key(65537, 2048).public_key())
    assert not is_roca(ek.key)


def test_a_faulty_key_is_refused_beside_everything_else(
    ca: LocalCA,
    ek: EndorsementKey,
    roots: TrustedRoots,
    now: int,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check is part of the chain's (B15)."""
    monkeypatch.setattr("bootlease.endorsement.weakness.is_roca", lambda _: True)
    assert refusals(chain_for(ca, ek), roots, ek, now) == {"endorsement.key.roca"}


def test_endorsements_survive_their_encoding(
    ca: LocalCA, ek: EndorsementKey, roots: TrustedRoots, now: int
) -> None:
    """What the store keeps is what was verified."""
    endorsement = verify_ek_chain(chain_for(ca, ek), roots, ek, now=now).endorsement
    assert type(endorsement).from_wire(endorsement.wire()) == endorsement
    with pytest.raises(MalformedError):
        type(endorsement).from_wire({**endorsement.wire(), "make": ["a", "b"]})
    for member, value in (
        ("odd", ["padding", "nv-frame"]),
        ("odd", ["padding", "padding"]),
        ("odd", ["else"]),
        ("odd", [[]]),
        ("odd", [1]),
        ("path", [[b"short", b"1"]]),
        ("path", [[bytes(32), b""]]),
        ("path", [[bytes(32)]]),
        ("path", [bytes(32)]),
        ("path", [[bytes(32), 1]]),
    ):
        with pytest.raises(MalformedError):
            type(endorsement).from_wire({**endorsement.wire(), member: value})
    assert dataclasses.replace(endorsement, not_after=1).encode() != endorsement.encode()


@pytest.mark.parametrize("unused", range(1, 8))
def test_a_signature_of_broken_bytes_is_malformed(unused: int) -> None:
    """Nothing signs the count of unused bits; the library takes any whose bits are zero."""
    for _ in range(8):
        der = LocalCA.create().intermediate_der
        at = len(der) - len(parse_certificate(der).signature) - 1
        with pytest.raises(MalformedError):
            parse_certificate(der[:at] + bytes([unused]) + der[at + 1 :])


def test_a_certificate_of_an_unknown_version_is_malformed(ca: LocalCA) -> None:
    """X.509 ends at v3."""
    version = bytes.fromhex("a003020102")
    der = ca.intermediate_der
    assert der.count(version) == 1
    with pytest.raises(MalformedError):
        parse_certificate(der.replace(version, bytes.fromhex("a003020103")))


CHAIN_CA = LocalCA.create()
CHAIN_EK = accept_endorsement_key(parse_public((CHAIN_NODE := SimulatedNode(CHAIN_CA)).ek_public()))


@settings(max_examples=1500, deadline=None)
@given(
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_mutated_chain_is_refused_and_never_a_defect(
    which: int, changes: list[tuple[int, int]]
) -> None:
    """Whatever bytes come as certificates: MalformedError, VerificationError, or what was signed.

    The count of unused bits in a signature's BIT STRING is one that nothing signs.
    """
    chain = [bytearray(der) for der in CHAIN_NODE.ek_chain()]
    before = bytes(chain[which])
    for place, value in changes:
        chain[which][place % len(chain[which])] = value
    assume(bytes(chain[which]) != before)
    roots = TrustedRoots.of([CHAIN_CA.root.public_bytes(Encoding.DER)])
    now = int(CHAIN_CA.root.not_valid_before_utc.timestamp()) + 2 * DAY
    try:
        verify_ek_chain([bytes(der) for der in chain], roots, CHAIN_EK, now=now)
    except (MalformedError, VerificationError):
        return
    signed = [parse_certificate(bytes(der)).signed for der in (before, chain[which])]
    assert signed[0] == signed[1]


def test_every_byte_of_a_chain_may_be_wrong(ca: LocalCA) -> None:
    """Each byte of an intermediate, turned into its neighbours, parses or is malformed."""
    der = ca.intermediate_der
    for place in range(len(der)):
        for value in (der[place] ^ 1, (der[place] + 2) % 256, 0, 255):
            with contextlib.suppress(MalformedError):
                parse_certificate(der[:place] + bytes([value]) + der[place + 1 :])
