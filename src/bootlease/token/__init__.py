"""Execution tokens: claims, CWT and JWT forms, keys, proof of possession."""

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
from bootlease.token.pop import VerifiedProof, make_proof, verify_proof
from bootlease.token.publickey import KeyKind, PublicKey
from bootlease.token.verified import AuthenticToken, TokenFormat, VerifiedToken
from bootlease.token.verify import parse_token, verify_token

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
