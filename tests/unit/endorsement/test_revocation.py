"""Revocation lists: whose they are, when they count, and what they say."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.endorsement import (
    CertificateStatus,
    RevocationList,
    TrustedRoots,
    parse_certificate,
    parse_certificates,
    parse_revocation_list,
)
from bootlease.errors import MalformedError
from bootlease.testing import handmade
from bootlease.testing.local_ca import LocalCA

CA = LocalCA.create("Revoking")
LEAF = CA.issue_ek_certificate(ec.generate_private_key(ec.SECP256R1()).public_key())
OTHER = CA.issue_ek_certificate(ec.generate_private_key(ec.SECP256R1()).public_key())
ROOT = CA.root.public_bytes(Encoding.DER)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ISSUER = parse_certificate(CA.intermediate_der).issuer_id
SERIAL = parse_certificate(LEAF).serial


def at(days: float) -> int:
    """Return a moment, in days after the first list."""
    return int((START + days * DAY).timestamp())


def crl(*revoked: bytes, made: float = 0, due: float = 7, number: int = 1) -> bytes:
    """Return a list of the intermediate."""
    return CA.revocation_list(
        *revoked, this_update=START + made * DAY, next_update=START + due * DAY, number=number
    )


def status(*lists: bytes, now: float = 1, serial: bytes = SERIAL) -> CertificateStatus:
    """Return what these lists say of the leaf."""
    roots = TrustedRoots.of([CA.intermediate_der, *lists])
    return roots.status(ISSUER, serial, now=at(now))


def test_a_list_is_read() -> None:
    """Issuer, dates, number and serial numbers arrive."""
    parsed = parse_revocation_list(crl(LEAF, number=300))
    assert isinstance(parsed, RevocationList)
    assert parsed.issuer_text == "CN=Revoking EK CA"
    assert (parsed.this_update, parsed.next_update, parsed.number) == (at(0), at(7), 300)
    assert parsed.revoked == {SERIAL}


def test_what_is_listed_is_revoked_and_nothing_else() -> None:
    """A serial number is its issuer's alone."""
    assert status(crl(LEAF)) is CertificateStatus.REVOKED
    assert status(crl(OTHER)) is CertificateStatus.GOOD
    assert status(crl()) is CertificateStatus.GOOD
    assert status() is CertificateStatus.UNKNOWN
    roots = TrustedRoots.of([CA.intermediate_der, crl(LEAF)])
    assert roots.status(bytes(32), SERIAL, now=at(1)) is CertificateStatus.UNKNOWN


def test_a_list_grows_old() -> None:
    """After the next one is due, absence from it says nothing; presence still does."""
    assert status(crl(), now=7) is CertificateStatus.GOOD
    assert status(crl(), now=7.01) is CertificateStatus.OUTDATED
    assert status(crl(LEAF), now=70) is CertificateStatus.REVOKED


def test_the_latest_list_counts_in_whatever_order_they_came() -> None:
    """A certificate that is on hold today may be good tomorrow, never the other way round."""
    first, second = crl(LEAF), crl(made=2, due=9, number=2)
    for lists in ((first, second), (second, first)):
        assert status(*lists, now=1) is CertificateStatus.REVOKED
        assert status(*lists, now=3) is CertificateStatus.GOOD


def test_of_two_lists_of_one_day_the_higher_number_counts() -> None:
    """A CA that revokes twice a day numbers its lists."""
    first, second = crl(number=1), crl(LEAF, number=2)
    assert status(first, second) is status(second, first) is CertificateStatus.REVOKED


def test_a_list_of_nobody_who_is_trusted_is_refused() -> None:
    """Anybody can write a list: only a pinned CA's own is taken."""
    with pytest.raises(MalformedError, match="not signed"):
        TrustedRoots.of([ROOT, crl()])
    stranger = LocalCA.create("Revoking")
    with pytest.raises(MalformedError, match="not signed"):
        TrustedRoots.of([stranger.intermediate_der, crl()])


def test_a_ca_that_may_not_sign_lists_revokes_nothing() -> None:
    """The right to issue certificates is another than the right to revoke them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = handmade.common_name("X")
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "X")])
    builder = x509.CertificateRevocationListBuilder(issuer, START, START + DAY)
    made = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    for bits, counts in (((5,), False), ((5, 6), True)):
        extensions = (handmade.basic_constraints(), handmade.key_usage(*bits))
        ca = handmade.Handmade(key.public_key(), name, name, extensions).signed(key)
        if counts:
            assert TrustedRoots.of([ca, made]).lists
            continue
        with pytest.raises(MalformedError, match="may sign lists"):
            TrustedRoots.of([ca, made])


def test_a_list_that_names_two_algorithms_is_malformed() -> None:
    """What nothing signs must say what is signed."""
    data = crl(LEAF)
    sha256, sha384 = handmade.oid("1.2.840.10045.4.3.2"), handmade.oid("1.2.840.10045.4.3.3")
    assert data.count(sha256) == 2
    with pytest.raises(MalformedError, match="two signature algorithms"):
        parse_revocation_list(data.replace(sha256, sha384, 1))


def test_an_altered_list_is_refused() -> None:
    """Whatever byte of its content is changed, its signature does not hold or it is no list."""
    encoded = crl(LEAF)
    for place in range(4, len(encoded) - 72):
        changed = encoded[:place] + bytes([encoded[place] ^ 1]) + encoded[place + 1 :]
        with pytest.raises(MalformedError):
            TrustedRoots.of([CA.intermediate_der, changed])


def made(
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    *extensions: tuple[x509.ExtensionType, bool],
    entry: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    """Return a list with these extensions."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(START)
        .next_update(START + DAY)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    revoked = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(START)
    if entry is not None:
        revoked = revoked.add_extension(entry[0], critical=entry[1])
    builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def partial(**flags: bool) -> x509.IssuingDistributionPoint:
    """Return an issuing distribution point."""
    members = {
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
        **flags,
    }
    return x509.IssuingDistributionPoint(full_name=None, relative_name=None, **members)  # type: ignore[arg-type]  # as listed


@pytest.mark.parametrize(
    "extension",
    [
        partial(only_contains_user_certs=True),
        partial(indirect_crl=True),
        x509.DeltaCRLIndicator(1),
    ],
)
def test_partial_lists_are_malformed(extension: x509.ExtensionType) -> None:
    """Half understood, a list for some certificates would pass for one of all."""
    with pytest.raises(MalformedError, match="critical extension"):
        parse_revocation_list(made(CA.intermediate_key, CA.intermediate.subject, (extension, True)))


def test_an_entry_of_another_issuer_is_malformed() -> None:
    """What is critical about an entry may change whose certificate it means."""
    other = x509.CertificateIssuer([x509.DirectoryName(CA.root.subject)])
    reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
    with pytest.raises(MalformedError):
        parse_revocation_list(
            made(CA.intermediate_key, CA.intermediate.subject, entry=(other, True))
        )
    noted = made(CA.intermediate_key, CA.intermediate.subject, entry=(reason, False))
    assert parse_revocation_list(noted).revoked == {b"\7"}


def test_a_list_over_sha1_is_refused() -> None:
    """A list decides by what it leaves out: a collision would hide a revocation."""
    issuer = CA.intermediate.subject.public_bytes()
    times = (handmade.tlv(0x17, day) for day in (b"260101000000Z", b"260108000000Z"))
    algorithm = handmade.sequence(handmade.oid(handmade.ECDSA_SHA1))
    content = handmade.sequence(handmade.integer(1), algorithm, issuer, *times)
    signature = CA.intermediate_key.sign(content, ec.ECDSA(hashes.SHA1()))  # noqa: S303 - to be refused
    weak = handmade.sequence(content, algorithm, handmade.tlv(0x03, b"\0", signature))
    assert parse_revocation_list(weak).revoked == frozenset()
    with pytest.raises(MalformedError, match="over SHA-2"):
        TrustedRoots.of([CA.intermediate_der, weak])


def test_a_pinned_ca_that_its_issuer_revoked_is_known() -> None:
    """A path ends at a pinned CA; what another pinned CA says of it counts all the same."""
    by_root = CA.revocation_list(
        CA.intermediate_der, this_update=START, next_update=START + DAY, by_root=True
    )
    fingerprint = parse_certificate(CA.intermediate_der).fingerprint
    roots = TrustedRoots.of([ROOT, CA.intermediate_der, by_root])
    assert roots.anchor_revoked(fingerprint, now=at(0.5))
    assert not roots.anchor_revoked(parse_certificate(ROOT).fingerprint, now=at(0.5))
    assert not TrustedRoots.of([ROOT, CA.intermediate_der]).anchor_revoked(fingerprint, now=at(0))


def test_lists_name_the_set_and_are_no_roots() -> None:
    """A decision names what was known to be revoked; a list vouches for nobody."""
    bare, listed = TrustedRoots.of([CA.intermediate_der]), [CA.intermediate_der, crl()]
    roots = TrustedRoots.of(listed)
    assert roots.digest != bare.digest
    assert len(roots) == 1
    assert parse_revocation_list(crl()).fingerprint not in roots


def test_certificates_come_before_lists_whatever_the_bundle_has_first() -> None:
    """A list's CA is trusted when the list comes."""
    lists = b"-----BEGIN X509 CRL-----\n%b-----END X509 CRL-----\n"
    revoked = crl(LEAF)
    bundle = lists % base64.encodebytes(revoked) + CA.intermediates_pem
    assert parse_certificates(bundle) == (CA.intermediate_der, revoked)
    assert parse_certificates(revoked) == (revoked,)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_list_parses_or_is_malformed(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes come as a list: a list, or the one error."""
    encoded = bytearray(crl(LEAF, OTHER))
    for place, value in changes:
        encoded[place % len(encoded)] = value
    try:
        parse_revocation_list(bytes(encoded))
    except MalformedError:
        return


@given(st.binary(max_size=200))
def test_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Any bytes parse, or raise the one error."""
    with pytest.raises(MalformedError):
        parse_revocation_list(data)
