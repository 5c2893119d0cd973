"""A workload, or a thief of its files, that calls a relying party again and again."""

from __future__ import annotations

import base64
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bootlease.token import PrivateKeySigner
from bootlease.token.pop import make_proof

PERIOD: Final = 0.1
"""Seconds between calls: the resolution of what is measured."""

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Held:
    """A token and the key that proves its possession."""

    token: str
    signer: PrivateKeySigner

    @classmethod
    def read(cls, token_file: Path, key_file: Path) -> Held | None:
        """Read what an agent has written, or None where it holds nothing."""
        try:
            token, key = token_file.read_bytes(), key_file.read_bytes()
        except FileNotFoundError:
            return None
        if not token or not key:
            return None
        private = load_pem_private_key(key, None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        text = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
        return cls(text, PrivateKeySigner(private))

    def headers(self, url: str, method: str = "GET") -> dict[str, str]:
        """Return what presents the token in one request."""
        proof = make_proof(
            self.signer,
            htm=method,
            htu=url,
            iat=int(time.time()),
            jti=secrets.token_urlsafe(16),
            access_token=self.token,
        )
        return {"Authorization": f"DPoP {self.token}", "DPoP": proof}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was begun (monotonic seconds), and how it was answered."""

    at: float
    status: int
    said: str


class Caller:
    """Calls with the newest token there is; with the last one, where that is taken away.

    Args:
        url: What it calls.
        token_file: Where the agent keeps the token.
        key_file: Where it keeps the key.
    """

    def __init__(self, url: str, token_file: Path, key_file: Path) -> None:
        self.calls: list[Call] = []
        self._url = url
        self._files = token_file, key_file
        self._held: Held | None = None
        self._newest = True
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @classmethod
    def holding(cls, url: str, held: Held) -> Caller:
        """Call with one token, whatever becomes of it."""
        nothing = Path(os.devnull)
        caller = cls(url, nothing, nothing)
        caller._held, caller._newest = held, False
        return caller

    @property
    def held(self) -> Held:
        """What it holds."""
        assert self._held is not None
        return self._held

    def keep(self) -> Held:
        """Use no other token from now on than the one in hand, and return it."""
        self._newest = False
        return self.held

    def close(self) -> None:
        """Stop calling."""
        self._end.set()
        self._thread.join()

    def last_success(self) -> float:
        """Return when the last call was begun that was answered."""
        return max(call.at for call in self.calls if call.status == _OK)

    def refused(self) -> str:
        """Return what the first refusal after the last success said."""
        said = ""
        for call in reversed(self.calls):
            if call.status == _OK:
                break
            said = call.said
        return said

    def wait_for_success(self, seconds: float) -> None:
        """Wait until a call is answered from now on."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if any(call.status == _OK and call.at >= began for call in self.calls[-8:]):
                return
            time.sleep(PERIOD / 2)
        raise AssertionError(f"no call was answered in {seconds} s: {self.refused()}")

    def wait_for_silence(self, seconds: float, quiet: float) -> None:
        """Wait until no call was answered for ``quiet`` seconds, at most ``seconds``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # A relying party that waits for word from the verifier has not refused yet.
            if time.monotonic() - self.last_success() > quiet and self.refused():
                return
            time.sleep(PERIOD / 2)

    def _run(self) -> None:
        with httpx2.Client(timeout=10, trust_env=False) as client:
            while not self._end.wait(PERIOD):
                if self._newest or self._held is None:
                    self._held = Held.read(*self._files) or self._held
                if self._held is not None:
                    self._call(client, self._held)

    def _call(self, client: httpx2.Client, held: Held) -> None:
        at = time.monotonic()
        try:
            answer = client.get(self._url, headers=held.headers(self._url))
        except httpx2.HTTPError as exc:
            self.calls.append(Call(at, 0, type(exc).__name__))
            return
        said = "" if answer.status_code == _OK else f"{answer.status_code} {answer.text}"
        self.calls.append(Call(at, answer.status_code, said))
