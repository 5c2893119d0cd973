"""Whom an agent believes: the keys of its join bundle, and those that they have named since.

An answer by a key that is not known makes the agent ask once for the verifier's key rotations, and
follow those that a key which it trusts has signed (``token.keyrotation``). What it learned lasts as
long as the agent runs; the next run asks again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bootlease.errors import VerificationError
from bootlease.evidence import LeaseAnswer
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import Verifier
from bootlease.node.renewal.answer import Expectation, verify_answer
from bootlease.token import VerifiedToken
from bootlease.token.keyrotation import follow_rotations

_UNKNOWN_KEY = "token.key.unknown"


class Trust:
    """Verifies answers by the keys of a bundle and their successors.

    Args:
        bundle: As the operator gave it.
        verifier: Asked for rotations.
        say: Told in one line what happens.

    Attributes:
        bundle: The same, with every key that is trusted by now.
    """

    def __init__(self, bundle: JoinBundle, verifier: Verifier, say: Callable[[str], None]) -> None:
        self.bundle = bundle
        self._verifier = verifier
        self._say = say

    def verify(
        self, answer: LeaseAnswer, expected: Expectation, *, now: float
    ) -> tuple[VerifiedToken, ...]:
        """Verify an answer; see ``verify_answer``.

        Raises:
            VerificationError: It does not agree, or is signed by a key that no trusted one named.
            MalformedError: A token or a rotation is none.
            TransportError: The rotations cannot be had.
        """
        try:
            return verify_answer(answer, expected, now=now)
        except VerificationError as exc:
            if all(each.id != _UNKNOWN_KEY for each in exc.findings) or not self._follow():
                raise
        return verify_answer(answer, dataclasses.replace(expected, bundle=self.bundle), now=now)

    def _follow(self) -> bool:
        before = self.bundle.keys
        keys = follow_rotations(before, self._verifier.rotations(), issuer=self.bundle.issuer)
        if keys is before:
            return False
        self.bundle = dataclasses.replace(self.bundle, keys=keys)
        self._say(f"the verifier signs with another key, {keys.keys[-1].key_id}, named by its old")
        return True
