"""What a relying party needs: one object that checks tokens and requests."""

from bootlease.relyingparty.checker import CheckedRequest, Refusal, TokenChecker, refusal_for
from bootlease.relyingparty.keysource import FetchedKeys, FileKeys, KeySource, StaticKeys
from bootlease.relyingparty.replay import ReplayCache

__all__ = [
    "CheckedRequest",
    "FetchedKeys",
    "FileKeys",
    "KeySource",
    "Refusal",
    "ReplayCache",
    "StaticKeys",
    "TokenChecker",
    "refusal_for",
]
