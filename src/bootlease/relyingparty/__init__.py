"""What a relying party needs: one object that checks tokens and requests."""

from bootlease.relyingparty.checker import Challenge, CheckedRequest, TokenChecker, challenge_for
from bootlease.relyingparty.keysource import FetchedKeys, FileKeys, KeySource, StaticKeys
from bootlease.relyingparty.replay import ReplayCache

__all__ = [
    "Challenge",
    "CheckedRequest",
    "FetchedKeys",
    "FileKeys",
    "KeySource",
    "ReplayCache",
    "StaticKeys",
    "TokenChecker",
    "challenge_for",
]
