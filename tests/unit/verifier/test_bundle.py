"""Join bundles: what gets in, and what never does."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootlease.errors import MalformedError
from bootlease.testing.local_ca import LocalCA
from bootlease.verifier.bundle import tls_roots


@pytest.fixture(scope="module")
def pem() -> bytes:
    """Two certificates."""
    return LocalCA.create().roots_pem * 2


def private_key() -> bytes:
    """A private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_certificates_are_written_anew(pem: bytes) -> None:
    """Each of them, and nothing that stood around them."""
    written = tls_roots(b"subject=secret\r\n" + pem + b"password: secret\n")
    assert "secret" not in written
    assert x509.load_pem_x509_certificates(written.encode()) == x509.load_pem_x509_certificates(pem)


@pytest.mark.parametrize("label", [b"PRIVATE KEY", b"EC PRIVATE KEY", b"X509 CRL", b"certificate"])
def test_another_pem_block_is_refused(pem: bytes, label: bytes) -> None:
    """Whoever gave the wrong file is told, though the key would have been left out."""
    other = private_key().replace(b"PRIVATE KEY", label)
    for data in (other, pem + other, other + pem):
        with pytest.raises(MalformedError, match="only certificates go into a join bundle"):
            tls_roots(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    """Empty, noise, no certificate within, no end."""
    with pytest.raises(MalformedError, match="no PEM certificate"):
        tls_roots(data)


def test_more_than_an_agent_takes_is_refused(pem: bytes) -> None:
    """A bundle that no node could read is not written."""
    with pytest.raises(MalformedError, match="bytes of certificates"):
        tls_roots(pem * 100)
