"""A TPM manufacturer's certificate authority, made on the spot: root, intermediate and EKs.

Specifications: TCG EK Credential Profile for TPM Family 2.0 level 0 v2.5 §3.1 (profile of the
EK certificate: critical SAN with manufacturer, model and version when the subject is empty, EKU
tcg-kp-EKCertificate); RFC 5280.

Deliberately not handled: platform certificates, AIA, partial revocation lists.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

EK_CERTIFICATE_EKU: Final = x509.ObjectIdentifier("2.23.133.8.1")
TPM_MANUFACTURER: Final = x509.ObjectIdentifier("2.23.133.2.1")
TPM_MODEL: Final = x509.ObjectIdentifier("2.23.133.2.2")
TPM_VERSION: Final = x509.ObjectIdentifier("2.23.133.2.3")

_BACKDATED: Final = dt.timedelta(days=1)
_CA_LIFE: Final = dt.timedelta(days=3650)
_LEAF_LIFE: Final = dt.timedelta(days=1825)

EKPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TPMIdentity:
    """What an EK certificate says of its TPM (TCG EK Credential Profile §3.1.2)."""

    manufacturer: str = "id:00001014"
    model: str = "swtpm"
    version: str = "id:20191023"


@dataclass(frozen=True, slots=True)
class LocalCA:
    """A root and an intermediate with their keys; signs EK certificates of simulated TPMs.

    Attributes:
        root_key: Signs the intermediate only.
        root: The trust anchor a verifier is given.
        intermediate_key: Signs EK certificates.
        intermediate: The certificate between.
    """

    root_key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    intermediate_key: ec.EllipticCurvePrivateKey
    intermediate: x509.Certificate

    @classmethod
    def create(cls, name: str = "Simulated TPM") -> LocalCA:
        """Make a new CA whose names begin with ``name``."""
        root_key = ec.generate_private_key(ec.SECP256R1())
        intermediate_key = ec.generate_private_key(ec.SECP256R1())
        root_name = _common_name(f"{name} Root CA")
        root = _ca_certificate(root_name, root_key.public_key(), root_name, root_key, path_length=1)
        intermediate = _ca_certificate(
            _common_name(f"{name} EK CA"),
            intermediate_key.public_key(),
            root_name,
            root_key,
            path_length=0,
        )
        return cls(root_key, root, intermediate_key, intermediate)

    @property
    def roots_pem(self) -> bytes:
        """The trust anchor, PEM."""
        return self.root.public_bytes(serialization.Encoding.PEM)

    @property
    def intermediates_pem(self) -> bytes:
        """What lies between trust anchor and EK certificate, PEM."""
        return self.intermediate.public_bytes(serialization.Encoding.PEM)

    @property
    def intermediate_der(self) -> bytes:
        """The intermediate as a TPM keeps it in its NV memory."""
        return self.intermediate.public_bytes(serialization.Encoding.DER)

    def issue_ek_certificate(
        self,
        public_key: EKPublicKey,
        *,
        identity: TPMIdentity | None = None,
        extended_key_usage: x509.ObjectIdentifier = EK_CERTIFICATE_EKU,
        not_after: dt.datetime | None = None,
    ) -> bytes:
        """Certify an endorsement key.

        Args:
            public_key: The EK.
            identity: Maker, model and version to state.
            extended_key_usage: Another than the TCG's makes a certificate that must be refused.
            not_after: End of validity; in the past for a certificate that must be refused.

        Returns:
            The certificate, DER.
        """
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        not_after = not_after or now + _LEAF_LIFE
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.intermediate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, not_after) - _BACKDATED)
            .not_valid_after(not_after)
            .add_extension(_san(identity or TPMIdentity()), critical=True)
            .add_extension(x509.ExtendedKeyUsage([extended_key_usage]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_usage(public_key), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.intermediate_key.public_key()
                ),
                critical=False,
            )
        )
        certificate = builder.sign(self.intermediate_key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.DER)

    def revocation_list(
        self,
        *certificates: bytes,
        this_update: dt.datetime,
        next_update: dt.datetime,
        number: int = 1,
        by_root: bool = False,
    ) -> bytes:
        """Sign a revocation list.

        Args:
            certificates: What is revoked, DER.
            this_update: When the list is made.
            next_update: When the next one comes.
            number: The list's number.
            by_root: The root signs it, and not the intermediate.

        Returns:
            The list, DER.
        """
        issuer, key = (
            (self.root, self.root_key) if by_root else (self.intermediate, self.intermediate_key)
        )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(this_update)
            .next_update(next_update)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for der in certificates:
            serial = x509.load_der_x509_certificate(der).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(entry.revocation_date(this_update).build())
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def write_signing_files(self, directory: Path) -> None:
        """Write ``signkey.pem`` (0600), ``issuercert.pem`` and the root, for swtpm_localca."""
        key = directory / "signkey.pem"
        key.touch(mode=0o600, exist_ok=False)
        key.write_bytes(
            self.intermediate_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (directory / "issuercert.pem").write_bytes(self.intermediates_pem)
        (directory / "swtpm-localca-rootca-cert.pem").write_bytes(self.roots_pem)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _ca_certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _san(identity: TPMIdentity) -> x509.SubjectAlternativeName:
    attributes = (
        (TPM_MANUFACTURER, identity.manufacturer),
        (TPM_MODEL, identity.model),
        (TPM_VERSION, identity.version),
    )
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    return x509.SubjectAlternativeName([x509.DirectoryName(name)])


def _leaf_usage(public_key: EKPublicKey) -> x509.KeyUsage:
    is_rsa = isinstance(public_key, rsa.RSAPublicKey)
    return _key_usage(key_encipherment=is_rsa, key_agreement=not is_rsa)


def _key_usage(
    *,
    key_encipherment: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
