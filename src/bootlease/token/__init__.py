"""Execution tokens: claims, CWT and JWT forms, keys, proof of possession.

What stands in ``__all__`` is loaded when it is first asked for, all of it: who needs one light
module of this package, as a guard beside its workload does, carries no cryptography with it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootlease.token.claimparts import (
        BootClaim,
        KeyProtection,
        LineageClaim,
        PolicyClaim,
        ReferenceClaim,
        VerifierID,
    )
    from bootlease.token.claims import ExecutionClaims
    from bootlease.token.cwt import sign_cwt, verify_cwt
    from bootlease.token.ear import Tier, TrustVector
    from bootlease.token.jwt import sign_jwt, verify_jwt
    from bootlease.token.keys import (
        Algorithm,
        KeySet,
        PrivateKeySigner,
        Signer,
        VerificationKey,
    )
    from bootlease.token.kinds import TokenFormat
    from bootlease.token.pop import VerifiedProof, make_proof, verify_proof
    from bootlease.token.publickey import KeyKind, PublicKey
    from bootlease.token.verified import AuthenticToken, VerifiedToken
    from bootlease.token.verify import parse_token, verify_token
else:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from bootlease.token import (  # noqa: PLC0415 - see above
                claimparts,
                claims,
                cwt,
                ear,
                jwt,
                keys,
                kinds,
                pop,
                publickey,
                verified,
                verify,
            )

            values = (claimparts, claims, ear, kinds, publickey, verified)
            for home in (*values, cwt, jwt, keys, pop, verify):
                if name in vars(home):
                    globals()[name] = vars(home)[name]
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Algorithm",
    "AuthenticToken",
    "BootClaim",
    "ExecutionClaims",
    "KeyKind",
    "KeyProtection",
    "KeySet",
    "LineageClaim",
    "PolicyClaim",
    "PrivateKeySigner",
    "PublicKey",
    "ReferenceClaim",
    "Signer",
    "Tier",
    "TokenFormat",
    "TrustVector",
    "VerificationKey",
    "VerifiedProof",
    "VerifiedToken",
    "VerifierID",
    "make_proof",
    "parse_token",
    "sign_cwt",
    "sign_jwt",
    "verify_cwt",
    "verify_jwt",
    "verify_proof",
    "verify_token",
]
