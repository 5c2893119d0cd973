"""A verifier's keys, made anew and kept nowhere."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bootlease.ledger import LedgerSigner
from bootlease.ledger.checkpoint import ledger_name
from bootlease.token import PrivateKeySigner
from bootlease.verifier.keys import Keys


def fresh_keys(issuer: str) -> Keys:
    """Return keys for the verifier at this URL."""
    return Keys(
        PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
        LedgerSigner(ledger_name(issuer), PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())),
    )
