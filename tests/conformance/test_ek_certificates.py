"""Recorded EK, AK and CA certificates: each by the verdict that the specifications give it.

Specifications: RFC 5280 §4 (certificates), §6.1 (paths), §7.1 (names); TCG EK Credential Profile
for TPM Family 2.0 §3 (extended key usage tcg-kp-EKCertificate, key usage that decrypts, subject
alternative name with the TPM's make, subject directory attributes with family 2.0); RFC 5758 §3.2
(ECDSA has no parameters); X.690 §11.6 (the order of a SET OF).

The corpus says of these files how one parser fared with them, and no verdict. The verdicts here
were derived by hand; every file of the two folders has its row.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.appraisal.endorsed import judge_endorsement
from bootlease.endorsement import (
    Certificate,
    Tolerance,
    TrustedRoots,
    VerifiedEndorsement,
    parse_certificate,
    parse_certificates,
    verify_ek_chain,
)
from bootlease.endorsement.certificate import is_pem, pem_blocks
from bootlease.errors import MalformedError, VerificationError
from bootlease.policy import parse_policy
from bootlease.testing.handmade import endorsement_key
from bootlease.testing.scene import POLICY

pytestmark = pytest.mark.corpus
JUNE_2023 = 1_685_577_600
JUNE_2026 = 1_780_272_000
"""Every certificate is within its validity at one of these, swtpm's two at the second only."""

FRAME, PADDING, OAEP = Tolerance.NV_FRAME, Tolerance.PADDING, Tolerance.OAEP_KEY
ORDER, NO_USAGE, SHA1 = Tolerance.SET_ORDER, Tolerance.NO_KEY_USAGE, Tolerance.SHA1_SIGNATURE
UNTRUSTED = "endorsement.chain.untrusted"
EKU = "endorsement.eku.missing"
MAKE = "endorsement.identity.missing"
USAGE = "endorsement.key-usage.mismatch"
FAMILY = "endorsement.family.mismatch"
IS_CA = "endorsement.certificate.is-ca"


@dataclass(frozen=True)
class Row:
    """What must be concluded of one recorded certificate, its own key presented as the EK.

    Attributes:
        file: In ``ekcerts/``.
        root: The pinned CA, in ``ca/``.
        chain: What the client sends along, in ``ca/``.
        why: What the verdict follows from.
        make: The TPM's make where it endorses one.
        refused: What refuses it otherwise.
        tolerated: What it gets wrong and is read all the same; the chain's too where it endorses.
        now: When.
    """

    file: str
    root: str
    chain: tuple[str, ...]
    why: str
    make: str | None = None
    refused: tuple[str, ...] = ()
    tolerated: tuple[Tolerance, ...] = ()
    now: int = JUNE_2023


_GOOGLE = "gcp_tpm_ek_root_1.cer", ("gcp_tpm_ek_intermediate_3.crt",)
_GOOGLE_CAS = "gcp_gcp_ek_ak_ca_root.crt", ("gcp_gcp_ek_ak_ca_intermediate_v3.crt",)
_ST_2014 = "keylime_STM_RSA_RT.pem", ("keylime_STM_RSA_02I.pem",)
_GOOGLE_MAKE = "GOOG/vTPM/id:20160511"
_ST_MAKE = "STM/ST33HTPHAHB4/id:00490004"
_EK = "profile §3 met: purpose, make, family 2.0, and a key usage that decrypts"
_SIGNS = (
    "it has the EK's purpose and make, but its key usage is digitalSignature alone: it is the"
    " vTPM's AK, which Google certifies beside the EK; an EK decrypts (profile §3)"
)
_NO_PURPOSE = (
    "no extended key usage and no subject alternative name: the profile demands both, and absence"
    " is not any purpose (RFC 5280 §4.2.1.12 lets a relying party ask for one)"
)
_TPM_1_2 = (
    "its subject directory attributes say family 1.2, and its key is RSAES-OAEP's as TPM 1.2 wants"
    " it; the signature is over SHA-1 and verifies over the original bytes"
)

ROWS = (
    Row("gcp_uca_tpm_ecc_enc_cert.pem", *_GOOGLE, why=_EK, make=_GOOGLE_MAKE),
    Row("gcp_uca_tpm_rsa_enc_cert.pem", *_GOOGLE, why=_EK, make=_GOOGLE_MAKE),
    Row("gcp_uca_tpm_ecc_sign_cert.pem", *_GOOGLE, why=_SIGNS, refused=(USAGE,)),
    Row("gcp_uca_tpm_rsa_sign_cert.pem", *_GOOGLE, why=_SIGNS, refused=(USAGE,)),
    Row("gcp_pca_tpm_ecc_enc_cert.pem", *_GOOGLE_CAS, why=_NO_PURPOSE, refused=(EKU, MAKE)),
    Row("gcp_pca_tpm_rsa_enc_cert.pem", *_GOOGLE_CAS, why=_NO_PURPOSE, refused=(EKU, MAKE)),
    Row(
        "gcp_pca_tpm_ecc_sign_cert.pem",
        *_GOOGLE_CAS,
        why=_NO_PURPOSE + "; and it is an AK's: its key usage is digitalSignature alone",
        refused=(EKU, USAGE, MAKE),
    ),
    Row(
        "gcp_pca_tpm_rsa_sign_cert.pem",
        *_GOOGLE_CAS,
        why=_NO_PURPOSE + "; and it is an AK's: its key usage is digitalSignature alone",
        refused=(EKU, USAGE, MAKE),
    ),
    *(
        Row(file, *_ST_2014, why=_TPM_1_2, refused=(FAMILY,), tolerated=(OAEP,))
        for file in (
            "hirs_ab21ccf2-tpmcert.pem",
            "hirs_nuc-1_ek_cert_7_byte_header_removed.cer",
            "hirs_nuc-1_tpmcert.pem",
            "hirs_nuc-2_tpmcert.pem",
        )
    ),
    Row(
        "hirs_nuc-1_ek_cert_untouched.cer",
        *_ST_2014,
        why=_TPM_1_2 + "; the seven bytes before it are TCG_PCCLIENT_STORED_CERT's",
        refused=(FAMILY,),
        tolerated=(FRAME, OAEP),
    ),
    Row(
        "hirs_ek_cert_with_padded_bytes.cer",
        "keylime_NTC1.pem",
        (),
        why="its issuer, Nuvoton TPM Root CA 2010, is not recorded: whatever else, it leads to no"
        " pinned root; 192 bytes 0x11 after it are signed by nobody, its names are unsorted, its"
        " key is RSAES-OAEP's",
        refused=(UNTRUSTED,),
        tolerated=(PADDING, ORDER, OAEP),
    ),
    Row(
        "hirs_sample_identity_cert_AIK.cer",
        "keylime_NTC1.pem",
        (),
        why="an AK's: purpose tcg-kp-AIKCertificate, names no make, and its CA is not recorded",
        refused=(EKU, MAKE, UNTRUSTED),
    ),
    Row(
        "keylime_testcert_1.der",
        "keylime_NUVO_2110.pem",
        (),
        why="no EK's but Nuvoton's CA itself, self-signed (CA:true, keyCertSign): it certifies no"
        " TPM; its names are unsorted",
        refused=(EKU, USAGE, IS_CA, MAKE),
        tolerated=(ORDER,),
    ),
    Row(
        "keylime_testcert_2.der",
        "keylime_STM_RSA_RT.pem",
        ("keylime_STM_RSA_05I.pem",),
        why=_EK + "; 431 bytes 0xFF after it, of the NV index, are signed by nobody",
        make=_ST_MAKE,
        tolerated=(PADDING,),
    ),
    Row(
        "keylime_testcert_3.der",
        "keylime_STM_ECC_01RT.pem",
        ("keylime_STM_ECC_01I.pem",),
        why=_EK,
        make=_ST_MAKE,
    ),
    *(
        Row(
            file,
            "keylime_STM_RSA_RT.pem",
            (),
            why="sound, and issued by a swtpm-localca of somebody's: no recorded CA, and no"
            " manufacturer",
            refused=(UNTRUSTED,),
            now=JUNE_2026,
        )
        for file in ("swtpm_ek-rsa2048.crt", "swtpm_ek-secp384r1.crt")
    ),
)


@dataclass(frozen=True)
class CARow:
    """What must be concluded of one file of CA certificates: all are CAs that may be pinned.

    Attributes:
        file: In ``ca/``.
        roots: Certificates that are self-signed, with a signature that verifies.
        issued: Certificates that another recorded CA signed, verified over the original bytes.
        orphans: Certificates whose issuer is not recorded: nothing can be said of their signature,
            and nothing need be, for a pinned certificate is trusted as it is (RFC 5280 §6.1.1 (d)).
        sha1: They are not self-signed and signed over SHA-1: pinned they are good, below a root
            only where policy allows it.
        tolerated: What they get wrong.
    """

    file: str
    roots: int = 0
    issued: int = 0
    orphans: int = 0
    sha1: bool = False
    tolerated: tuple[Tolerance, ...] = ()


CA_ROWS = (
    # Google: two hierarchies, CA Service's and the older one.
    CARow("gcp_gcp_ek_ak_ca_root.crt", roots=1),
    CARow("gcp_gcp_ek_ak_ca_intermediate_v3.crt", issued=1),
    CARow("gcp_tpm_ek_root_1.cer", roots=1),
    CARow("gcp_tpm_ek_intermediate_2.crt", issued=1),
    CARow("gcp_tpm_ek_intermediate_3.crt", issued=1),
    # Under roots that are not recorded.
    CARow("keylime_Alibaba_Cloud_vTPM_EK.pem", orphans=1),
    CARow("keylime_Nationz_TPM_EK.pem", orphans=1),
    # GlobalSign's root for TPMs issued STM's two roots.
    CARow("keylime_GS_TPM_RT.pem", roots=1),
    CARow("keylime_STM_RSA_RT.pem", issued=1),
    CARow("keylime_STM_ECC_01RT.pem", issued=1),
    CARow("keylime_STM_ECC_01I.pem", issued=1),
    *(CARow(f"keylime_STM_RSA_0{number}I.pem", issued=1) for number in range(1, 8)),
    # Infineon before 2014: SHA-1, under a root of VeriSign's that is not recorded.
    CARow("keylime_IFX_RSA_RT.pem", orphans=1, sha1=True),
    *(
        CARow(f"keylime_{name}.pem", issued=1, sha1=True)
        for name in (
            *("IFX1", "IFX2", "IFX3", "IFX4", "IFX5", "IFX8", "IFX15"),
            *("IFX_RSA_01I", "IFX_RSA_02I", "IFX_RSA_03I", "IFX_RSA_04I", "IFX_RSA_05I"),
            *("IFX_RSA_08I", "IFX_RSA_17I", "IFX_RSA_18I", "IFX_RSA_20I", "IFX_RSA_21I"),
        )
    ),
    # Infineon OPTIGA.
    CARow("keylime_INF_ECC_010RT.pem", roots=1),
    CARow("keylime_INF_RSA_010RT.pem", roots=1),
    *(
        CARow(f"keylime_{name}.pem", issued=1)
        for name in (
            *("INF_ECC_010I", "INF_ECC_011", "INF_RSA_010I", "INF_RSA_011", "INF_RSA_022"),
            *("IFX_ECC_034", "IFX_ECC_042", "IFX_RSA_034", "IFX_RSA_042"),
        )
    ),
    CARow("keylime_INTEL_RT.pem", roots=1),
    CARow("keylime_INTEL_I.pem", issued=1),
    # Nuvoton: one part for the whole name, its attributes out of order.
    *(
        CARow(f"keylime_{name}.pem", roots=1, tolerated=(ORDER,))
        for name in (
            *("NTC1", "NTC2"),
            *("NUVO_0100", "NUVO_1110", "NUVO_1111", "NUVO_2110", "NUVO_2111"),
        )
    ),
    # Two bundles of many vendors. Intel's OnDie root has NULL beside ECDSA; AMD's Pluton CA is
    # issued by a root that is not recorded.
    CARow(
        "loicsikidi_MIRROR.tpm-ca-certificates.pem",
        roots=23,
        issued=2,
        orphans=1,
        tolerated=(Tolerance.ECDSA_PARAMETERS, ORDER),
    ),
    CARow("loicsikidi_MIRROR.tpm-intermediate-ca-certificates.pem", issued=143),
)


def raw(folder: Path, file: str) -> list[bytes]:
    """Return the certificates of a file as they are in it, frame and padding included."""
    data = (folder / file).read_bytes()
    return [block for _, block in pem_blocks(data)] if is_pem(data) else [data]


def verify(corpus: Path, row: Row, leaf: bytes | None = None) -> VerifiedEndorsement:
    """Judge a row's certificate, or another in its place, with its own key as the EK."""
    own = raw(corpus / "ekcerts", row.file)[0]
    key = parse_certificate(own).public_key
    assert key is not None
    chain = [each for file in row.chain for each in parse_certificates_of(corpus, file)]
    roots = TrustedRoots.of(parse_certificates_of(corpus, row.root))
    presented = [own if leaf is None else leaf, *chain]
    return verify_ek_chain(presented, roots, endorsement_key(key), now=row.now)


def parse_certificates_of(corpus: Path, file: str) -> tuple[bytes, ...]:
    """Return the certificates of a CA file."""
    return parse_certificates((corpus / "ca" / file).read_bytes())


def every_ca(corpus: Path) -> dict[bytes, Certificate]:
    """Return all recorded CA certificates."""
    parsed = (
        parse_certificate(der) for row in CA_ROWS for der in parse_certificates_of(corpus, row.file)
    )
    return {each.fingerprint: each for each in parsed}


def test_every_file_has_its_row(corpus: Path) -> None:
    """Nothing recorded is passed over, and nothing is listed that is not there."""
    assert sorted(row.file for row in ROWS) == sorted(
        p.name for p in (corpus / "ekcerts").iterdir()
    )
    assert sorted(row.file for row in CA_ROWS) == sorted(p.name for p in (corpus / "ca").iterdir())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file)
def test_an_ek_certificate_meets_its_verdict(corpus: Path, row: Row) -> None:
    """All findings are there, and no other; what is tolerated is told."""
    own = parse_certificate(raw(corpus / "ekcerts", row.file)[0])
    assert own.tolerated == set(row.tolerated), row.why
    if row.make is None:
        with pytest.raises(VerificationError) as caught:
            verify(corpus, row)
        assert tuple(finding.id for finding in caught.value.findings) == row.refused, row.why
        return
    verified = verify(corpus, row)
    assert str(verified.endorsement.identity) == row.make, row.why
    assert verified.endorsement.tolerated == set(row.tolerated)
    assert [note.id for note in verified.notes] == [
        f"endorsement.tolerated.{each.value}" for each in Tolerance if each in row.tolerated
    ]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if UNTRUSTED not in row.refused], ids=lambda row: row.file
)
def test_a_signature_is_verified_over_the_original_bytes(corpus: Path, row: Row) -> None:
    """B13: each byte of what is signed counts, tolerated or not, whatever else refuses."""
    own = raw(corpus / "ekcerts", row.file)[0]
    signed = parse_certificate(own).signed
    start = own.index(signed)
    for place in range(start, start + len(signed), 31):
        changed = own[:place] + bytes([own[place] ^ 4]) + own[place + 1 :]
        try:
            with pytest.raises(VerificationError) as caught:
                verify(corpus, row, changed)
        except MalformedError:
            continue
        assert UNTRUSTED in {finding.id for finding in caught.value.findings}


@pytest.mark.parametrize("row", [row for row in ROWS if row.make], ids=lambda row: row.file)
def test_what_endorses_is_refused_for_another_key_alone(corpus: Path, row: Row) -> None:
    """B5: a real certificate beside another EK."""
    own = raw(corpus / "ekcerts", row.file)[0]
    other = endorsement_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    chain = [each for file in row.chain for each in parse_certificates_of(corpus, file)]
    roots = TrustedRoots.of(parse_certificates_of(corpus, row.root))
    with pytest.raises(VerificationError) as caught:
        verify_ek_chain([own, *chain], roots, other, now=row.now)
    ids = [finding.id for finding in caught.value.findings]
    assert ids[0] == "endorsement.key.mismatch"
    assert set(ids) <= {"endorsement.key.mismatch", USAGE}


@pytest.mark.parametrize("row", [row for row in ROWS if row.make], ids=lambda row: row.file)
def test_a_hardware_vendor_needs_no_unsafe_key(corpus: Path, row: Row) -> None:
    """What endorses here passes a policy that names no software TPM and allows no SHA-1."""
    policy = parse_policy(POLICY.replace('["id:00001014/swtpm/*"]', "[]"))
    endorsement = verify(corpus, row).endorsement
    assert judge_endorsement(endorsement, TrustedRoots.of([]), policy, now=row.now) == ()


def test_the_recorded_swtpm_certificates_are_of_software(corpus: Path) -> None:
    """B16: their make says so, so that a policy must name it."""
    for file in ("swtpm_ek-rsa2048.crt", "swtpm_ek-secp384r1.crt"):
        make = parse_certificate(raw(corpus / "ekcerts", file)[0]).identity
        assert make is not None
        assert make.is_software


@pytest.mark.parametrize("row", CA_ROWS, ids=lambda row: row.file)
def test_a_ca_file_meets_its_verdict(corpus: Path, row: Row | CARow) -> None:
    """All of it parses, may be pinned, and is signed by whom the row says."""
    assert isinstance(row, CARow)
    ders = parse_certificates_of(corpus, row.file)
    certificates = list(map(parse_certificate, ders))
    assert TrustedRoots.of(ders)
    by_subject = TrustedRoots.of(each.der for each in every_ca(corpus).values()).by_subject
    counts = {"roots": 0, "issued": 0, "orphans": 0}
    for each in certificates:
        issuers = by_subject.get(each.issuer_name, ())
        verified = any(each.signed_by(issuer.public_key) for issuer in issuers)
        # A name that leads somewhere leads to a signature that verifies.
        assert verified or not issuers
        self_signed = verified and each.subject_name == each.issuer_name
        counts["roots" if self_signed else "issued" if verified else "orphans"] += 1
    assert counts == {"roots": row.roots, "issued": row.issued, "orphans": row.orphans}
    assert frozenset().union(*(each.tolerated for each in certificates)) == set(row.tolerated)
    if len(certificates) == 1 and not row.roots:
        scheme = certificates[0].scheme
        assert scheme is not None
        assert scheme.is_sha1 == row.sha1


def test_the_library_agrees_where_it_can_read(corpus: Path) -> None:
    """Every field that decides is as ``cryptography`` has it, for all it does not refuse."""
    compared = refused = 0
    files = [("ca", row.file) for row in CA_ROWS] + [("ekcerts", row.file) for row in ROWS]
    for folder, file in files:
        for data in raw(corpus / folder, file):
            mine = parse_certificate(data)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = x509.load_der_x509_certificate(mine.der)
                    key = theirs.public_key()
                    _compare(mine, theirs)
            except (ValueError, UnsupportedAlgorithm):
                refused += 1
                assert mine.tolerated
                continue
            compared += 1
            assert mine.public_key == key
            assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    assert (compared, refused) == (226, 19)


def _compare(mine: Certificate, theirs: x509.Certificate) -> None:
    assert mine.signed == theirs.tbs_certificate_bytes
    assert mine.signature == theirs.signature
    assert int.from_bytes(mine.serial, "big", signed=True) == theirs.serial_number
    assert mine.not_before == int(theirs.not_valid_before_utc.timestamp())
    assert mine.not_after == int(theirs.not_valid_after_utc.timestamp())
    assert mine.scheme is not None
    assert mine.scheme.oid == theirs.signature_algorithm_oid.dotted_string
    assert (mine.issuer, mine.subject) == (
        theirs.issuer.public_bytes(),
        theirs.subject.public_bytes(),
    )
    found = {type(each.value): each.value for each in theirs.extensions}
    basic = found.get(x509.BasicConstraints)
    assert mine.is_ca == bool(isinstance(basic, x509.BasicConstraints) and basic.ca)
    if isinstance(basic, x509.BasicConstraints):
        assert mine.extensions.path_length == basic.path_length
    purposes = found.get(x509.ExtendedKeyUsage)
    if isinstance(purposes, x509.ExtendedKeyUsage):
        dotted = frozenset(each.dotted_string for each in purposes)
        assert mine.extensions.extended_key_usage == dotted
    else:
        assert mine.extensions.extended_key_usage is None


def test_the_library_agrees_on_signatures(corpus: Path) -> None:
    """Whoever signed a recorded CA certificate by our reading did so by the library's."""
    cas = every_ca(corpus)
    by_subject = TrustedRoots.of(each.der for each in cas.values()).by_subject
    agreed = 0
    for each in cas.values():
        for issuer in by_subject.get(each.issuer_name, ()):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = x509.load_der_x509_certificate(each.der)
                    theirs.verify_directly_issued_by(x509.load_der_x509_certificate(issuer.der))
                expected = True
            except InvalidSignature:
                expected = False
            except (ValueError, TypeError):
                # Malformed to it, or names that it compares byte by byte.
                continue
            assert each.signed_by(issuer.public_key) == expected
            agreed += 1
    assert agreed > 150
