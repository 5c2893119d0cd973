"""Real EK certificates and CA certificates: read, or refused as malformed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease.endorsement import (
    TrustedRoots,
    parse_certificate,
    parse_certificates,
    verify_ek_chain,
)
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.tpm import EndorsementKey, accept_endorsement_key, parse_public

# The library warns of serial numbers that RFC 5280 forbids and of empty names: real ones have them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
GOOGLE = ("gcp_tpm_ek_root_1.cer", "gcp_tpm_ek_intermediate_2.crt", "gcp_tpm_ek_intermediate_3.crt")
NOW = 1_700_000_000
_EK: list[EndorsementKey] = []


def some_ek() -> EndorsementKey:
    """Return an EK that no recorded certificate is for."""
    if not _EK:
        _EK.append(
            accept_endorsement_key(parse_public(SimulatedNode(LocalCA.create()).ek_public()))
        )
    return _EK[0]


def google_roots(corpus: Path) -> tuple[TrustedRoots, list[bytes]]:
    """Return the root of Google's vTPMs, and the intermediates."""
    ders = [parse_certificates((corpus / "ca" / name).read_bytes())[0] for name in GOOGLE]
    return TrustedRoots.of(ders[:1]), ders[1:]


@pytest.mark.corpus("ekcerts/*", "ca/*")
def test_every_recorded_certificate_is_read_or_malformed(corpus_file: Path) -> None:
    """Nothing but our errors escapes, and the fault of a real one is never taken for proof."""
    data = corpus_file.read_bytes()
    try:
        ders = parse_certificates(data)
    except MalformedError:
        return
    for der in ders:
        with pytest.raises((MalformedError, VerificationError)):
            verify_ek_chain([der], TrustedRoots.of([]), some_ek(), now=NOW)


@pytest.mark.corpus
def test_a_real_chain_fails_for_its_key_alone(corpus: Path) -> None:
    """Google's vTPM certificate is sound in all but that the key presented is another."""
    roots, intermediates = google_roots(corpus)
    leaf = parse_certificates((corpus / "ekcerts/gcp_uca_tpm_ecc_enc_cert.pem").read_bytes())[0]
    with pytest.raises(VerificationError) as refused:
        verify_ek_chain([leaf, *intermediates], roots, some_ek(), now=NOW)
    assert [finding.id for finding in refused.value.findings] == ["endorsement.key.mismatch"]


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["rsa2048", "secp384r1"])
def test_the_recorded_swtpm_certificates_lack_their_root(corpus: Path, name: str) -> None:
    """A software TPM's certificate is trusted nowhere by itself (B16)."""
    leaf = parse_certificates((corpus / f"ekcerts/swtpm_ek-{name}.crt").read_bytes())[0]
    roots, _ = google_roots(corpus)
    with pytest.raises(VerificationError) as refused:
        verify_ek_chain([leaf], roots, some_ek(), now=1_790_000_000)
    assert {finding.id for finding in refused.value.findings} == {
        "endorsement.key.mismatch",
        "endorsement.chain.untrusted",
    }


@given(st.data())
def test_a_damaged_certificate_is_malformed_or_refused(data: st.DataObject) -> None:
    """Whatever byte is changed, the answer is one of our two errors or the same certificate."""
    der = bytearray(_CERTIFICATE)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_certificate(bytes(der))
    except MalformedError:
        return
    assert len(parsed.fingerprint) == 32


@given(st.binary(max_size=512))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """The parsers raise MalformedError and nothing else."""
    for parse in (parse_certificate, parse_certificates):
        with pytest.raises(MalformedError):
            parse(data)


_CERTIFICATE = LocalCA.create().issue_ek_certificate(
    ec.generate_private_key(ec.SECP256R1()).public_key()
)
