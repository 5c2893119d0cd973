"""Check a token with python-cwt, which knows nothing of bootlease.

Usage: ``python check_cwt.py FOLDER`` in an environment with cwt 3.3.0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cbor2
from cwt import COSE, COSEKey, VerifyError


def main(folder: Path) -> None:
    """Accept what is genuine, refuse what is altered; raise where either fails."""
    token = (folder / "token.cwt").read_bytes()
    protected = cbor2.loads(cbor2.loads(token).value[0])
    key = COSEKey.from_pem((folder / "token-key.pem").read_text(), kid=protected[4])
    payload = COSE.new().decode(token, key)
    assert cbor2.loads(payload)[265] == "tag:ietf.org,2026:rats/ear#04"
    try:
        COSE.new().decode(token[:-1] + bytes([token[-1] ^ 1]), key)
    except VerifyError as exc:
        print(f"python-cwt: the token verifies; an altered one does not ({type(exc).__name__})")
        return
    raise AssertionError("an altered token was accepted")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
