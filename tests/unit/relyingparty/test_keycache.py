"""A cache of a published key set; ``test_keysource`` and ``test_eventkeys`` say what it is for."""

from __future__ import annotations

import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty.keycache import KeyCache
from bootlease.token import KeySet


def test_who_asks_again_at_once_is_told_where_keys_could_not_be_had() -> None:
    """A fetch that failed is not repeated at once, and the message names its address."""

    def fail() -> KeySet:
        raise TransportError("down")

    cache = KeyCache(fail, "https://verifier.example/keys", monotonic=lambda: 0.0, max_age=1.0)
    with pytest.raises(TransportError, match="down"):
        cache.key_set()
    with pytest.raises(TransportError, match=r"from https://verifier\.example/keys a moment ago"):
        cache.key_set()
