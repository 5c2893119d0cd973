"""One set of files made of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bootlease.ima.entry import IMADigest
from bootlease.reference.imaset import IMAReferenceSet, Origin, Scope, SignerRule

_WEAKEST_FIRST: Final = (Origin.LEARNED, Origin.BUILT)


def join_ima(sets: Sequence[IMAReferenceSet], *, name: str, version: str) -> IMAReferenceSet:
    """Make one set of several: what one of them lists is listed.

    Validity is not joined, for what one set ends another may not: the new set has none. Where one
    was learned from a node, so is the new one.

    Raises:
        ValueError: Two sets call different keys by one name, one excludes what another lists, or
            the outcome is too large.
    """
    files: dict[bytes, tuple[IMADigest, ...]] = {}
    buffers: dict[bytes, tuple[IMADigest, ...]] = {}
    signers: dict[str, bytes] = {}
    signed: dict[Scope, tuple[str, ...]] = {}
    for each in sets:
        for target, listed in ((files, each.files), (buffers, each.buffers)):
            for path, digests in listed.items():
                target[path] = tuple(dict.fromkeys((*target.get(path, ()), *digests)))
        for signer, key in each.signers.items():
            if signers.setdefault(signer, key) != key:
                raise ValueError(f"two sets call different keys {signer!r:.80}")
        for rule in each.signed:
            named = (*signed.get(rule.scope, ()), *rule.signers)
            signed[rule.scope] = tuple(dict.fromkeys(named))
    origins = {each.origin for each in sets}
    return IMAReferenceSet(
        name=name,
        version=version,
        origin=next(each for each in _WEAKEST_FIRST if each in origins),
        files=files,
        buffers=buffers,
        content_below=tuple(dict.fromkeys(path for each in sets for path in each.content_below)),
        signers=signers,
        signed=tuple(SignerRule(scope, names) for scope, names in signed.items()),
        unsafe_exclude=tuple(
            dict.fromkeys(scope for each in sets for scope in each.unsafe_exclude)
        ),
    )
