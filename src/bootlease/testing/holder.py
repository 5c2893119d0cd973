"""Whoever has a token and its key, and calls with them: a workload, or the thief of its files.

Unlike ``relyingparty.auth`` this presents what it has whether or not it still counts.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bootlease.relyingparty.tokensource import Presentable
from bootlease.token import PrivateKeySigner, make_proof

_PATIENCE: Final = 30.0
_PERIOD: Final = 0.02
_JTI_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Holder:
    """A token and its confirmation key, kept by somebody who will not let go.

    Attributes:
        held: Both.
    """

    held: Presentable

    @classmethod
    def read(cls, token_file: Path, key_file: Path) -> Holder:
        """Take both from files.

        Raises:
            MalformedError: The token confirms another key.
        """
        key = load_pem_private_key(key_file.read_bytes(), None)
        signer = PrivateKeySigner(key)  # type: ignore[arg-type] # refuses what it does not accept
        return cls(Presentable.of(token_file.read_bytes().strip(), signer))

    def call(self, url: str, client: httpx2.Client | None = None) -> httpx2.Response:
        """Ask for ``url`` with the token and a proof made for this request."""
        proof = make_proof(
            self.held.signer,
            htm="GET",
            htu=url,
            iat=int(time.time()),
            jti=secrets.token_urlsafe(_JTI_BYTES),
            access_token=self.held.token,
        )
        headers = {"Authorization": f"DPoP {self.held.token}", "DPoP": proof}
        get = httpx2.get if client is None else client.get
        return get(url, headers=headers, timeout=_PATIENCE)

    def call_until_refused(self, url: str, *, seconds: float) -> tuple[httpx2.Response, float]:
        """Call again and again, and return the first refusal and when it came (monotonic seconds).

        Raises:
            TimeoutError: None came within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        with httpx2.Client() as client:
            while time.monotonic() < deadline:
                answer = self.call(url, client)
                if answer.status_code != httpx2.codes.OK:
                    return answer, time.monotonic()
                time.sleep(_PERIOD)
        raise TimeoutError(f"{url} still serves after {seconds:.0f} s")
