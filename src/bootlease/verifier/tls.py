"""The verifier's own TLS certificate and key, looked at before anything is served with them.

OpenSSL would say less of what is wrong, and would ask a terminal for the passphrase of an
encrypted key: a service has nobody who answers.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from bootlease.errors import MalformedError

_MAX_FILE: Final = 1024 * 1024


def check_pair(certificate: Path, key: Path) -> None:
    """Demand a certificate chain and the key of its first certificate, both PEM.

    Raises:
        MalformedError: A file cannot be read, is of another form, the key is encrypted, or it
            is another certificate's; the message names the file.
    """
    if _certified(certificate) != _public_half(key):
        raise MalformedError(
            f"--tls-key {key} does not belong to the first certificate in --tls-cert {certificate}"
        )
    try:
        # An empty passphrase in place of a question, whatever was overlooked above.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: b"")
    except ssl.SSLError as exc:
        raise MalformedError(
            f"--tls-cert {certificate} and --tls-key {key} cannot be used: {exc.reason}"
        ) from exc


def _certified(path: Path) -> bytes:
    try:
        first = x509.load_pem_x509_certificates(_read(path))[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise MalformedError(f"--tls-cert {path} holds no PEM certificate") from exc
    return first.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(path: Path) -> bytes:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError as exc:
        raise MalformedError(
            f"--tls-key {path} is encrypted: nobody is asked for a passphrase; give a file that"
            " holds the key as it is, with mode 0600"
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise MalformedError(f"--tls-key {path} holds no PEM private key") from exc
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError as exc:
        raise MalformedError(f"{path}: {exc.strerror}") from exc
