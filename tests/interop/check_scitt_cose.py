"""Check a token and its receipt with scitt-cose, which knows nothing of bootlease.

Usage: ``python check_scitt_cose.py FOLDER`` in an environment with scitt-cose 0.5.0.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cbor2
from scitt_cose.cose_sign1 import CoseError, verify_sign1
from scitt_cose.receipt import verify_receipt


def main(folder: Path) -> None:
    """Accept what is genuine, refuse what is altered; raise where either fails."""
    token = (folder / "token.cwt").read_bytes()
    leaf = (folder / "leaf.cbor").read_bytes()
    token_key = (folder / "token-key.pem").read_bytes()
    ledger_key = (folder / "ledger-key.pem").read_bytes()

    # The token's header names typ (16); a caller that knows it says so.
    message = verify_sign1(token, public_key_pem=token_key, understood_labels=frozenset({1, 2, 16}))
    (receipt,) = cbor2.loads(token).value[1][394]
    assert receipt == (folder / "receipt.cose").read_bytes()
    result = verify_receipt(receipt, leaf_entry_hex=leaf.hex(), log_public_key_pem=ledger_key)
    assert result.ok, result.errors
    assert (result.tree_size, result.leaf_index) == (11, 9)

    claims = cbor2.loads(message.payload)
    decision, digest = cbor2.loads(leaf)
    assert digest == hashlib.sha256(message.payload).digest()
    assert decision in _values(claims)

    for at in range(0, len(receipt), 7):
        altered = bytearray(receipt)
        altered[at] ^= 1
        again = verify_receipt(
            bytes(altered), leaf_entry_hex=leaf.hex(), log_public_key_pem=ledger_key
        )
        assert not again.ok, f"an altered receipt was accepted: byte {at}"
    wrong = leaf[:-1] + bytes([leaf[-1] ^ 1])
    assert not verify_receipt(receipt, leaf_entry_hex=wrong.hex(), log_public_key_pem=ledger_key).ok
    for at in range(len(token) - 66, len(token), 5):
        damaged = bytearray(token)
        damaged[at] ^= 1
        try:
            verify_sign1(bytes(damaged), public_key_pem=token_key)
        except CoseError:
            continue
        raise AssertionError(f"an altered token was accepted: byte {at}")
    print("scitt-cose: token and receipt verify; altered ones do not")


def _values(value: object) -> list[object]:
    """Return every value inside maps and arrays."""
    if hasattr(value, "values"):
        return [inner for each in value.values() for inner in _values(each)]
    if isinstance(value, list | tuple):
        return [inner for each in value for inner in _values(each)]
    return [value]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
