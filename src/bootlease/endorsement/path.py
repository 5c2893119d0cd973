"""Certification paths from an EK certificate to a CA that the operator pinned.

Specification: RFC 5280 §6.1, without policies (any-policy is acceptable, §6.1.1 (c)) and without
name constraints, which refuse. Stricter than it in four points: CAs have key usage, and basic
constraints even where they are pinned; pinned CAs are within their validity; a CA whose extended
key usage says something says tcg-kp-EKCertificate; RSA keys have 2048 bits.

Why not the library's verifier: it reads none of the malformed certificates that vendors shipped,
and a path with one of them must be verified over the original bytes, by the rules for any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from bootlease.endorsement.certificate import EK_CERTIFICATE_EKU, Certificate
from bootlease.endorsement.extensions import KeyUsage
from bootlease.endorsement.publickey import MIN_RSA_BITS
from bootlease.endorsement.tolerance import Tolerance
from bootlease.model import Finding

MAX_STEPS: Final = 512
"""Issuers tried for one chain: six certificates have far fewer honest ways to a root."""

_ANY_PURPOSE: Final = "2.5.29.37.0"


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates each of which signed the one before; the last is pinned.

    Attributes:
        certificates: The EK's first.
    """

    certificates: tuple[Certificate, ...]

    @property
    def leaf(self) -> Certificate:
        """The EK certificate."""
        return self.certificates[0]

    @property
    def anchor(self) -> Certificate:
        """The pinned CA."""
        return self.certificates[-1]

    @property
    def not_after(self) -> int:
        """Last second at which all of it is valid."""
        return min(each.not_after for each in self.certificates)

    @property
    def tolerated(self) -> frozenset[Tolerance]:
        """What its certificates get wrong; of a pinned one, only what its signature rests on."""
        found = frozenset[Tolerance]().union(*(each.tolerated for each in self.certificates))
        below = self.certificates[:-1]
        if any(each.scheme is not None and each.scheme.is_sha1 for each in below):
            found |= {Tolerance.SHA1_SIGNATURE}
        return found


@dataclass(slots=True)
class _Search:
    """One search, with what it may still cost."""

    intermediates: Sequence[Certificate]
    anchors: Mapping[bytes, Sequence[Certificate]]
    steps: int = MAX_STEPS
    furthest: tuple[Certificate, ...] = ()
    _signed: dict[tuple[bytes, bytes], bool] = field(default_factory=dict)

    def paths(self, so_far: tuple[Certificate, ...]) -> Iterator[Path]:
        """Yield paths whose signatures hold, the shortest way to a pinned CA first."""
        last = so_far[-1]
        if len(so_far) > len(self.furthest):
            self.furthest = so_far
        seen = {each.fingerprint for each in so_far}
        for anchor in self.anchors.get(last.issuer_name, ()):
            if self._signed_by(last, anchor):
                yield Path((*so_far, anchor))
        for each in self.intermediates:
            if (
                each.subject_name == last.issuer_name
                and each.fingerprint not in seen
                and self._signed_by(last, each)
            ):
                yield from self.paths((*so_far, each))

    def _signed_by(self, certificate: Certificate, issuer: Certificate) -> bool:
        if self.steps <= 0:
            return False
        self.steps -= 1
        key = certificate.fingerprint, issuer.issuer_id
        if key not in self._signed:
            self._signed[key] = certificate.signed_by(issuer.public_key)
        return self._signed[key]


def find_path(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    anchors: Mapping[bytes, Sequence[Certificate]],
    *,
    now: int,
) -> tuple[Path | None, tuple[Finding, ...]]:
    """Find a path that holds.

    Args:
        leaf: The EK certificate; its own validity and extensions are the caller's to judge.
        intermediates: What the client sent along: unverified, and none of it becomes an anchor.
        anchors: The pinned CAs by their ``subject_name``.
        now: Seconds since the epoch.

    Returns:
        The path, or ``None`` and what is wrong with the first one found.
    """
    search = _Search(intermediates, anchors)
    first: tuple[Finding, ...] = ()
    for path in search.paths((leaf,)):
        findings = tuple(_path_findings(path, now))
        if not findings:
            return path, ()
        first = first or findings
    return None, first or (_no_path(search),)


def _no_path(search: _Search) -> Finding:
    last = search.furthest[-1]
    named = any(each.subject_name == last.issuer_name for each in search.intermediates)
    if last.issuer_name in search.anchors or named:
        reason = f"the signature by {last.issuer_text} does not verify"
    else:
        reason = f"no trusted root or certificate sent along is {last.issuer_text}"
    return Finding(
        "endorsement.chain.untrusted",
        "The EK certificate does not lead to a trusted root.",
        expected="a path to a pinned root",
        seen=reason,
    )


def _path_findings(path: Path, now: int) -> Iterator[Finding]:
    if path.leaf.extensions.not_understood:
        yield _critical(path.leaf)
    below = 0
    for each in path.certificates[1:]:
        yield from _issuer_findings(each, below)
        if not each.not_before <= now <= each.not_after:
            yield _lapsed(each, now, pinned=each is path.anchor)
        # RFC 5280 §4.2.1.9: self-issued ones do not count, and the leaf does not either.
        below += each.subject_name != each.issuer_name


def _issuer_findings(ca: Certificate, below: int) -> Iterator[Finding]:
    extensions = ca.extensions
    # B14: a leaf, an EK's certificate among them, certifies nothing.
    if not extensions.ca or not ca.may(KeyUsage.KEY_CERT_SIGN):
        yield _issuer(
            "not-a-ca", "A certificate that may not issue others issued one of the EK's.", ca
        )
    if extensions.path_length is not None and below > extensions.path_length:
        yield _issuer("path-length", "A CA of the EK's may not have so many CAs below it.", ca)
    if extensions.not_understood:
        yield _critical(ca)
    if extensions.name_constraints:
        yield _issuer(
            "name-constraints", "A CA of the EK's limits names, which is not processed here.", ca
        )
    purposes = extensions.extended_key_usage
    if purposes is not None and not purposes & {EK_CERTIFICATE_EKU, _ANY_PURPOSE}:
        yield _issuer("purpose", "A CA of the EK's is not there for endorsement keys.", ca)
    # B17.
    key = ca.public_key
    if key is None or (isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS):
        yield _issuer("weak-key", "A CA of the EK's has a key that is too weak.", ca)


def _issuer(what: str, message: str, ca: Certificate) -> Finding:
    return Finding(f"endorsement.chain.{what}", message, seen=ca.subject_text)


def _critical(certificate: Certificate) -> Finding:
    return Finding(
        "endorsement.extension.critical",
        "A certificate of the EK's demands that an extension be understood, and it is not.",
        seen=", ".join(sorted(certificate.extensions.not_understood)),
    )


def _lapsed(ca: Certificate, now: int, *, pinned: bool) -> Finding:
    return Finding(
        "endorsement.root.expired" if pinned else "endorsement.intermediate.expired",
        f"A{' pinned CA' if pinned else 'n intermediate certificate'} of the EK chain is outside"
        " its validity.",
        expected=f"{ca.not_before} to {ca.not_after}",
        seen=f"{now}, {ca.subject_text}",
    )
