"""The witness's decision: this tree contains the one cosigned last, or it does not.

Specification: C2SP tlog-witness v1 §add-checkpoint, whose order of checks and statuses this keeps;
tlog-cosignature v1.1 for what is signed.

A log's key speaks for every origin under its name: the shards of a ledger are logs of their own,
all signed by one key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.addcheckpoint import (
    SIZE_MEDIA_TYPE,
    AddCheckpoint,
    parse_add_checkpoint,
)
from bootlease.ledger.checkpoint import (
    SignedCheckpoint,
    VerifiedCheckpoint,
    parse_signed_checkpoint,
    verify_checkpoint,
    verify_origin,
)
from bootlease.ledger.cosignature import Cosigner
from bootlease.ledger.merkle import verify_consistency
from bootlease.ledger.note import NoteKey, SignatureType
from bootlease.witness.state import Seen, WitnessState

TEXT: Final = "text/plain; charset=utf-8"
_COSIGNED, _MALFORMED, _FORBIDDEN, _UNKNOWN, _CONFLICT, _UNPROVEN = 200, 400, 403, 404, 409, 422


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        status: HTTP status.
        body: The body.
        media_type: Its type.
    """

    status: int
    body: bytes
    media_type: str = TEXT


class Witness:
    """Cosigns the checkpoints of the logs that it was told of.

    Args:
        state: What it has cosigned; nobody else writes there.
        logs: Ed25519 keys of the logs.
        cosigners: Its own keys, at least one.

    Raises:
        MalformedError: A log's key is not of the type that signs checkpoints.
    """

    def __init__(
        self, state: WitnessState, logs: Sequence[NoteKey], cosigners: Sequence[Cosigner]
    ) -> None:
        if not cosigners:
            raise ValueError("a witness has a key")
        for key in logs:
            if key.kind is not SignatureType.ED25519:
                raise MalformedError(f"the key of log {key.name} is a cosigner's, not a log's")
        self._state = state
        self._logs = tuple(logs)
        self._cosigners = tuple(cosigners)

    def seen(self) -> Sequence[Seen]:
        """Return the largest tree of every log that was cosigned.

        Raises:
            TransportError: The state cannot be reached.
        """
        return self._state.all()

    def add_checkpoint(self, body: bytes, *, now: int) -> Answer:
        """Cosign a checkpoint, if it is signed by its log and contains what was cosigned before.

        The new tree is on disk before this returns its cosignature.

        Args:
            body: The request: unverified.
            now: Seconds since the epoch.

        Raises:
            TransportError: The state cannot be reached; nothing was signed.
        """
        try:
            request = parse_add_checkpoint(body)
            signed = parse_signed_checkpoint(request.checkpoint)
        except MalformedError as exc:
            return _text(_MALFORMED, str(exc))
        keys = [key for key in self._logs if _speaks_for(key, signed.checkpoint.origin)]
        if not keys:
            return _text(_UNKNOWN, "this witness does not know the log")
        checkpoint = _verified(request.checkpoint, keys)
        if checkpoint is None:
            return _text(_FORBIDDEN, "the checkpoint is not signed by its log's key")
        if request.old > checkpoint.size:
            return _text(_MALFORMED, "the old size is larger than the checkpoint's")
        if not self._can_cosign(signed):
            return _text(_MALFORMED, "this witness does not sign extension lines")
        return self._decide(request, checkpoint, now)

    def _decide(self, request: AddCheckpoint, checkpoint: VerifiedCheckpoint, now: int) -> Answer:
        old = self._state.latest(checkpoint.origin)
        if request.old != old.size:
            return _conflict(old)
        if checkpoint.size == old.size and checkpoint.root != old.root:
            # Signed by the log, of the same size, and another tree: proof that it has forked.
            digest = hashlib.sha256(checkpoint.note.body).digest()
            self._state.keep_conflict(old.origin, digest, request.checkpoint, now=now)
            return _conflict(old)
        try:
            verify_consistency(old.size, checkpoint.size, request.proof, old.root, checkpoint.root)
        except VerificationError as exc:
            return _text(_UNPROVEN, str(exc))
        new = Seen(checkpoint.origin, checkpoint.size, checkpoint.root, request.checkpoint)
        if not self._state.advance(old, new, now=now):
            # Another request was faster: both were right about the old tree, one of them wins.
            return _conflict(self._state.latest(checkpoint.origin))
        body = checkpoint.note.body
        return Answer(
            _COSIGNED,
            b"".join(
                cosigner.cosign(body, now).line()
                for cosigner in self._cosigners
                if _signs(cosigner, checkpoint)
            ),
        )

    def _can_cosign(self, checkpoint: SignedCheckpoint | VerifiedCheckpoint) -> bool:
        return any(_signs(cosigner, checkpoint) for cosigner in self._cosigners)


def _signs(cosigner: Cosigner, checkpoint: SignedCheckpoint | VerifiedCheckpoint) -> bool:
    # ML-DSA-44 cosignatures leave extension lines out, and what is not signed is not passed on.
    return (
        cosigner.key.kind is not SignatureType.ML_DSA_44_COSIGNATURE
        or not checkpoint.checkpoint.extensions
    )


def _speaks_for(key: NoteKey, origin: str) -> bool:
    try:
        verify_origin(origin, key)
    except VerificationError:
        return False
    return True


def _verified(checkpoint: bytes, keys: Sequence[NoteKey]) -> VerifiedCheckpoint | None:
    for key in keys:
        try:
            return verify_checkpoint(checkpoint, key)
        except VerificationError:
            continue
    return None


def _conflict(seen: Seen) -> Answer:
    return Answer(_CONFLICT, b"%d\n" % seen.size, SIZE_MEDIA_TYPE)


def _text(status: int, message: str) -> Answer:
    return Answer(status, f"{message}\n".encode())
