"""What ``bootlease verifier bundle`` puts into a join bundle, from the verifier's folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bootlease.cli.files import naming, read_file
from bootlease.endorsement.labels import sorted_labels
from bootlease.store import SQLStore
from bootlease.token import KeySet
from bootlease.verifier.bundle import bundle_members, tls_roots
from bootlease.verifier.continuity.revoked import Revoked
from bootlease.verifier.datadir import DATABASE, load_keys, read_settings
from bootlease.verifier.keyfolder import token_keys_of
from bootlease.verifier.keys import Keys
from bootlease.verifier.operators.access import JOIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.service import SystemClock

_AUTHOR: Final = "cli:bundle"


def make_bundle(
    data: Path, tls_root: Path | None, *, join_for: int | None, labels: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the members of a join bundle.

    Args:
        data: The verifier's folder.
        tls_root: PEM file of the root that its TLS certificate ends in, or None.
        join_for: Life of a fresh join token to put in, in seconds; None for no token.
        labels: Labels of the node that enrols with it.

    Raises:
        MalformedError: There is no verifier, or a file is not what it should be.
    """
    settings = read_settings(data)
    keys = load_keys(data, settings.issuer)
    with naming("--label"):
        given = sorted_labels(labels)
    pem = None
    if tls_root is not None:
        with naming(f"--tls-root {tls_root}"):
            pem = tls_roots(read_file(tls_root))
    return bundle_members(
        settings.issuer,
        _counting(data, settings.issuer, keys),
        keys.ledger.key,
        leash_key=None if keys.leash is None else keys.leash.public,
        tls_root=pem,
        join_token=None if join_for is None else _make_join_token(data, keys, join_for, given),
    )


def _counting(data: Path, issuer: str, keys: Keys) -> KeySet:
    tokens = token_keys_of(data, issuer)
    if tokens.rotations:
        revoked = asyncio.run(_revoked(data, keys))
        tokens.revoked = lambda: revoked.keys
    return tokens.counting(SystemClock().now())


async def _revoked(data: Path, keys: Keys) -> Revoked:
    store = SQLStore.open(data / DATABASE, keys.ledger, keys.ledger.key.name)
    try:
        return Revoked.of(await store.continuity.revocations())
    finally:
        store.close()


def _make_join_token(data: Path, keys: Keys, expires_in: int, labels: Sequence[str]) -> str:
    token = new_secret(JOIN_PREFIX)
    now = SystemClock().now()

    async def keep(store: SQLStore) -> None:
        await store.add_join_token(
            secret_digest(token),
            now=now,
            expires_at=now + expires_in,
            author=_AUTHOR,
            labels=labels,
        )

    store = SQLStore.open(data / DATABASE, keys.ledger, keys.ledger.key.name)
    try:
        asyncio.run(keep(store))
    finally:
        store.close()
    return token
