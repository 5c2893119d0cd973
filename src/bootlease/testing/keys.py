"""A verifier's keys, made anew and kept nowhere; the slow one is made once in each process."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bootlease.ledger import LedgerSigner
from bootlease.ledger.checkpoint import ledger_name
from bootlease.token import PrivateKeySigner
from bootlease.token.publickey import RSA_EXPONENT
from bootlease.verifier.keys import Keys


def fresh_keys(issuer: str) -> Keys:
    """Return keys for the verifier at this URL."""
    return Keys(
        PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
        LedgerSigner(ledger_name(issuer), PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())),
        event_signer(),
        PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
    )


@functools.cache
def event_signer() -> PrivateKeySigner:
    """Return what signs security events, the same in all of this process."""
    return PrivateKeySigner(rsa.generate_private_key(RSA_EXPONENT, 2048))
