"""Write a token with its receipt, the leaf and both keys: what another implementation checks.

Usage: ``python tests/interop/make_token.py FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.ledger import encode_leaf
from bootlease.testing.sealing import SealedLedger
from bootlease.testing.tokens import FakeIssuer, execution_claims
from bootlease.token.receipts import attach_receipt

PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def main(folder: Path) -> None:
    """Write everything into ``folder``."""
    issuer, claims, ledger = FakeIssuer(), execution_claims(), SealedLedger.create()
    ledger.append([encode_leaf(bytes([number]) * 32, None) for number in range(9)])
    leaf = encode_leaf(claims.decision, claims.digest)
    receipt = ledger.append([leaf, encode_leaf(bytes(32), None)])[0].cose()
    parts = {
        "token.cwt": attach_receipt(issuer.cwt(claims), receipt),
        "receipt.cose": receipt,
        "leaf.cbor": leaf,
        "token-key.pem": issuer.signer.public.load().public_bytes(*PEM),
        "ledger-key.pem": ed25519.Ed25519PublicKey.from_public_bytes(
            ledger.key.public
        ).public_bytes(*PEM),
    }
    for name, data in parts.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
