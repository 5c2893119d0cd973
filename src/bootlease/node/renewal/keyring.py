"""The confirmation keys of a lineage: one for each wish.

A key that the agent makes lives as long as wish and lineage; a key of the workload's own comes and
goes with its wish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from bootlease.errors import TransportError
from bootlease.evidence import IssuedLease
from bootlease.node.confirm import (
    Confirmation,
    ConfirmationKey,
    ExpiringTPMKey,
    Purpose,
    make_key,
)
from bootlease.node.lease import HeldLease
from bootlease.node.logline import Event, Level
from bootlease.node.wishbook import Wished, WishId
from bootlease.ports import TPMDevice
from bootlease.token import PublicKey


class KeyRing:
    """Makes keys and keeps them.

    Args:
        device: Where keys of the TPM are made.
        leash_key: The verifier's, which permits the use of expiring keys; None where it has none.
        say: Told where the TPM does not permit the use of expiring keys. One workload's kind of key
            must not end the leases of all the others.
    """

    def __init__(
        self, device: TPMDevice, leash_key: PublicKey | None, say: Callable[[str], None]
    ) -> None:
        self._device = device
        self._say = say
        self._leash_key = leash_key
        self._made: dict[WishId, ConfirmationKey] = {}

    def keys(
        self, wished: tuple[Wished, ...], *, node: bytes, anew: bool
    ) -> tuple[tuple[Wished, ...], tuple[ConfirmationKey, ...]]:
        """Return what can be asked for with the key of each, and forget all other keys.

        Expiring keys are given one new session for their permits, all the same. Where the TPM
        refuses them, the wishes for other kinds of key are left.

        Args:
            wished: What is about to be asked for.
            node: Node id.
            anew: A lineage begins: no key that was made for another goes on.

        Raises:
            TransportError: The TPM cannot be reached or refuses.
            MalformedError: An expiring key is wished for, and there is no leash key.
        """
        try:
            return wished, self._keys(wished, node, anew=anew)
        except TransportError as exc:
            others = tuple(each for each in wished if each.key is not Confirmation.TPM_EXPIRING)
            if not others or others == wished:
                raise
            self._no_permit(exc)
            return others, self._keys(others, node, anew=anew)

    def _keys(
        self, wished: Sequence[Wished], node: bytes, *, anew: bool
    ) -> tuple[ConfirmationKey, ...]:
        known = {} if anew else self._made
        keys = tuple(self._key(each, known, node) for each in wished)
        self._made = {each.id: key for each, key in zip(wished, keys, strict=True)}
        if expiring := [key for key in keys if isinstance(key, ExpiringTPMKey)]:
            session = self._device.begin_permits()
            for key in expiring:
                key.session = session
        return keys

    def redeem(self, lease: HeldLease, issued: Sequence[IssuedLease]) -> HeldLease:
        """Have the TPM take the permits that came with a lease; return what can be used of it.

        Args:
            lease: What was granted.
            issued: Each of its holdings as it came, in the same order.

        Raises:
            TransportError: The TPM refuses, and no other key is left.
        """
        permits = [
            (holding.key, each.permit)
            for holding, each in zip(lease.holdings, issued, strict=True)
            if isinstance(holding.key, ExpiringTPMKey) and each.permit is not None
        ]
        if not permits:
            return lease
        authority = permits[0][0].authority.marshal()
        try:
            self._device.redeem(authority, [key.permit(given) for key, given in permits])
        except TransportError as exc:
            others = tuple(
                each for each in lease.holdings if not isinstance(each.key, ExpiringTPMKey)
            )
            if not others:
                raise
            self._no_permit(exc)
            return dataclasses.replace(lease, holdings=others)
        return lease

    def _no_permit(self, error: TransportError) -> None:
        said = f"expiring keys cannot be used: {error}"
        self._say(Event("permit.failed", said, level=Level.ERROR))

    def _key(
        self, wished: Wished, known: dict[WishId, ConfirmationKey], node: bytes
    ) -> ConfirmationKey:
        if not isinstance(wished.key, Confirmation):
            return wished.key
        leash = self._leash_key
        purpose = None if leash is None else Purpose(leash, node, wished.wish.purpose())
        return known.get(wished.id) or make_key(wished.key, self._device, purpose)
