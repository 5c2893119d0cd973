"""What a relying party needs: one object that checks tokens and requests.

Frameworks have modules of their own, so that nobody imports what he does not use: ``asgi``
(middleware), ``dependency`` (FastAPI), ``auth`` (the other side: httpx clients).
"""

from bootlease.relyingparty.checker import CheckedRequest, TokenChecker
from bootlease.relyingparty.continuity import (
    ContinuitySource,
    PolledContinuity,
    StaticContinuity,
    UnsafeNoContinuity,
)
from bootlease.relyingparty.headers import presented
from bootlease.relyingparty.keysource import FetchedKeys, FileKeys, KeySource, StaticKeys
from bootlease.relyingparty.refusals import Refusal, refusal_for
from bootlease.relyingparty.replay import ReplayCache
from bootlease.relyingparty.streamed import StreamedContinuity

__all__ = [
    "CheckedRequest",
    "ContinuitySource",
    "FetchedKeys",
    "FileKeys",
    "KeySource",
    "PolledContinuity",
    "Refusal",
    "ReplayCache",
    "StaticContinuity",
    "StaticKeys",
    "StreamedContinuity",
    "TokenChecker",
    "UnsafeNoContinuity",
    "presented",
    "refusal_for",
]
