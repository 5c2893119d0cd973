"""How tokens were signed, kept apart from what they say.

What a token says can be made again from the decision that granted it; its signature cannot. So this
is all that must be kept to give the tokens of one decision back byte for byte, as deterministic
CBOR: ``[algorithm, key id, signature...]``. The algorithm is a COSE identifier and the key id the
32 raw bytes, as in a CWT's header (``cose``); there is one signature for each token, in order, in
its COSE form. Header and payload follow from these and the claims.

Not kept: the unprotected header. What rode in it, a receipt, carries its own signature.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token import base64url
from bootlease.token.claims import ExecutionClaims
from bootlease.token.cwt import join_cwt
from bootlease.token.jwt import join_jwt
from bootlease.token.keys import TOKEN_ALGORITHMS, Algorithm, Signer
from bootlease.token.kinds import TokenFormat

MAX_SIGNATURES: Final = 64 * 1024
_ALGORITHMS: Final = {each.cose_id: each for each in TOKEN_ALGORITHMS}
_SIZES: Final = {Algorithm.ES256: 64, Algorithm.ES384: 96, Algorithm.ED25519: 64}
_KEY_ID: Final = 32
_HEAD: Final = 2
"""Members before the first signature."""
_CWT_START: Final = b"\xd2"


@dataclass(frozen=True, slots=True)
class TokenSignatures:
    """The signatures under the tokens of one decision: unverified.

    Attributes:
        algorithm: Of the key.
        key_id: The key's RFC 7638 thumbprint as base64url text.
        signatures: One for each token, in order.
    """

    algorithm: Algorithm
    key_id: str
    signatures: tuple[bytes, ...]

    @classmethod
    def under(cls, tokens: Iterable[bytes], signer: Signer) -> TokenSignatures:
        """Take the signatures from tokens: CWTs, or the ASCII of JWTs.

        Args:
            tokens: As ``sign_cwt`` and ``sign_jwt`` made them.
            signer: What signed them.
        """
        size = _SIZES[signer.algorithm]
        signatures = tuple([_signature(each, size) for each in tokens])
        return cls(signer.algorithm, signer.key_id, signatures)

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        signatures = [cbor.encode_bytes(each) for each in self.signatures]
        return cbor.array([*_names(self.algorithm, self.key_id), *signatures])

    @classmethod
    def parse(cls, data: bytes) -> TokenSignatures:
        """Parse encoded signatures.

        Raises:
            MalformedError: They are none.
        """
        members = cbor.decode(data, max_bytes=MAX_SIGNATURES)
        if type(members) is not list or len(members) <= _HEAD:
            raise MalformedError("the signatures of tokens are no array with one in it")
        number, key_id, *signatures = members
        algorithm = _ALGORITHMS.get(number) if type(number) is int else None
        if algorithm is None or type(key_id) is not bytes or len(key_id) != _KEY_ID:
            raise MalformedError("the signatures of tokens name no algorithm and key")
        if any(type(each) is not bytes for each in signatures):
            raise MalformedError("a signature of a token is no byte string")
        return cls(algorithm, base64url.encode(key_id), tuple(signatures))

    def tokens(self, leases: Sequence[tuple[ExecutionClaims, TokenFormat]]) -> tuple[bytes, ...]:
        """Return the tokens as they were signed, without receipts.

        Args:
            leases: What each says, in which form, in order.

        Raises:
            MalformedError: There are more signatures, or fewer, than tokens.
        """
        if len(leases) != len(self.signatures):
            raise MalformedError(
                f"there are {len(self.signatures)} signatures for {len(leases)} tokens"
            )
        return tuple(
            self._token(claims, form, signature)
            for (claims, form), signature in zip(leases, self.signatures, strict=True)
        )

    def _token(self, claims: ExecutionClaims, form: TokenFormat, signature: bytes) -> bytes:
        if form is TokenFormat.CWT:
            return join_cwt(claims, signature, algorithm=self.algorithm, key_id=self.key_id)
        joined = join_jwt(
            claims, signature, algorithm=self.algorithm, key_id=self.key_id, form=form
        )
        return joined.encode("ascii")


@functools.lru_cache(maxsize=64)
def _names(algorithm: Algorithm, key_id: str) -> tuple[bytes, bytes]:
    return cbor.encode_integer(algorithm.cose_id), cbor.encode_bytes(base64url.decode(key_id))


def _signature(token: bytes, size: int) -> bytes:
    if token.startswith(_CWT_START):
        # The last element of the array, of a length that the algorithm fixes.
        return token[-size:]
    return base64url.decode(token.rpartition(b".")[2].decode("ascii"))
