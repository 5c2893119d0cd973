"""Sets of files that a node may load: what an IMA list is compared with.

An entry of an IMA list names a path and a digest. Both are compared byte for byte:

- A path is not normalised: ``//``, ``..`` and line feeds are literal bytes, and there are no
  patterns. The kernel measures a space as ``_``, so a path with a space would match nothing and is
  refused; ``bootlease.ima.entry.measured_name`` says what to list. A rule for a tree says
  ``below`` and holds for every path that begins with those bytes; where a component of a path is
  empty, ``.`` or ``..``, which no kernel writes, no such rule holds (attack E6).
- A digest is compared with its algorithm and with what was hashed: ``sha256:`` (the file) is never
  ``verity:sha256:`` (its fs-verity descriptor), whatever the bytes (attack E11).

The path is what the mount namespace of the measured process calls the file. Whoever may make
namespaces chooses it, so a rule by path alone trusts everybody on the node: it carries ``unsafe``
in its name, never applies to violations, and cannot cover ``/`` (attack E8).

Not handled, and refused: digests of hashes that are broken (sha1, md5), and rules by owner, label
or device, of which a list says nothing.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ima.entry import DigestType, IMADigest
from bootlease.ima.signature import FileSigner
from bootlease.reference.values import is_reference_name, is_reference_version

MAX_FILES: Final = 1_000_000
"""Paths of one set; a whole desktop distribution has about half of that."""

MAX_DIGESTS: Final = 64
"""Digests of one path: releases that are good at the same time."""

MAX_PATH: Final = 4096
"""Linux PATH_MAX, which bounds the ``n-ng`` field too."""

MAX_RULES: Final = 256
MAX_SIGNERS: Final = 64
IMA_REFERENCE_TYPE: Final = "bootlease/ima-reference/1"

DIGEST_SIZES: Final[Mapping[DigestType, Mapping[str, int]]] = {
    DigestType.IMA: {
        "sha256": 32,
        "sha384": 48,
        "sha512": 64,
        "sha224": 28,
        "sm3_256": 32,
        "sha3_256": 32,
        "sha3_384": 48,
        "sha3_512": 64,
        "streebog256": 32,
        "streebog512": 64,
    },
    DigestType.VERITY: {"sha256": 32, "sha512": 64},
}
"""Hash algorithms that still tell files apart, of files (``crypto/hash_info.c``) and of fs-verity
(``Documentation/filesystems/fsverity.rst``)."""

_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){1,64}", re.ASCII)
_SIGNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}", re.ASCII)
_ODD_COMPONENTS: Final = (b"//", b"/./", b"/../")
_MAX_KEY: Final = 4096


def parse_file_digest(text: str) -> IMADigest:
    """Parse ``sha256:<hex>`` or ``verity:sha256:<hex>``, lower case.

    Raises:
        ValueError: It is neither.
    """
    label, _, digits = text.rpartition(":")
    verity, _, alg = label.rpartition(":")
    if not _HEX.fullmatch(digits) or verity not in ("", DigestType.VERITY.value):
        raise ValueError(f"{text!r:.80} is no digest: write sha256:<lower-case hex>")
    kind = DigestType.VERITY if verity else DigestType.IMA
    digest = IMADigest(kind, alg, bytes.fromhex(digits))
    check_file_digest(digest)
    return digest


def check_file_digest(digest: IMADigest) -> None:
    """Demand a digest that tells files apart.

    Raises:
        ValueError: Its hash is broken or unknown, or it is not as long as its hash makes them.
    """
    sizes = DIGEST_SIZES[digest.type]
    if digest.alg not in sizes:
        raise ValueError(
            f"{digest_label(digest)!r:.40} does not tell files apart; use {', '.join(sizes)}"
        )
    if len(digest.value) != sizes[digest.alg]:
        raise ValueError(
            f"a {digest_label(digest)} digest has {sizes[digest.alg]} bytes,"
            f" not {len(digest.value)}"
        )


def digest_label(digest: IMADigest) -> str:
    """Return what hashed what: ``sha256`` or ``verity:sha256``."""
    return str(digest).rpartition(":")[0]


class Origin(enum.Enum):
    """What a set's digests were taken from."""

    BUILT = "built"
    LEARNED = "learned"
    """From the list of a running node: good only as far as that node was."""


class ScopeKind(enum.Enum):
    """How a scope covers entries."""

    PATH = "path"
    BELOW = "below"
    BUFFER = "buffer"


@dataclass(frozen=True, slots=True)
class Scope:
    """The entries that a rule is for.

    Attributes:
        kind: ``PATH``: the file of exactly this path. ``BELOW``: every path that begins with it.
            ``BUFFER``: the buffer of exactly this name, which is no file.
        path: The bytes; those of ``BELOW`` begin and end with ``/``.
    """

    kind: ScopeKind
    path: bytes

    def __post_init__(self) -> None:
        _check_path(self.path)
        if self.kind is ScopeKind.BELOW:
            if not (self.path.startswith(b"/") and self.path.endswith(b"/")):
                raise ValueError(f"below {self.path!r:.80}: must begin and end with /")
            if self.path == b"/":
                raise ValueError("below '/' would cover every file there is")
            if has_odd_component(self.path):
                raise ValueError(f"below {self.path!r:.80}: no kernel writes such a path")

    def covers(self, path: bytes) -> bool:
        """Tell whether the file of this path is among them."""
        if self.kind is ScopeKind.BELOW:
            return path.startswith(self.path) and not has_odd_component(path)
        return self.kind is ScopeKind.PATH and path == self.path

    @property
    def key(self) -> tuple[str, bytes]:
        """What scopes are put in order by."""
        return self.kind.value, self.path


@dataclass(frozen=True, slots=True)
class SignerRule:
    """Files in ``scope`` are good if one of ``signers`` signed them, listed or not."""

    scope: Scope
    signers: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.scope.kind is ScopeKind.BUFFER:
            raise ValueError("a buffer carries no signature")
        if not self.signers or len(set(self.signers)) != len(self.signers):
            raise ValueError("a rule for signed files names each signer once, and at least one")
        object.__setattr__(self, "signers", tuple(sorted(self.signers)))


def has_odd_component(path: bytes) -> bool:
    """Tell whether a component of an absolute path is empty, ``.`` or ``..``."""
    return any(odd in path for odd in _ODD_COMPONENTS) or path.endswith((b"/.", b"/.."))


def _check_path(path: bytes) -> None:
    if not 0 < len(path) <= MAX_PATH or b"\0" in path:
        raise ValueError(f"{path!r:.80} is no path: 1 to {MAX_PATH} bytes, none of them zero")
    if b" " in path:
        raise ValueError(f"{path!r:.80} cannot match: the kernel measures a space as _")


Listed = Mapping[bytes, tuple[IMADigest, ...]]
"""What is good, by path or by the name of a buffer."""


@dataclass(frozen=True, slots=True, eq=False)
class IMAReferenceSet:
    """What a node may load; valid by construction, and equal where the digest is.

    Attributes:
        name: What policies accept it by.
        version: Which release of the name it is.
        origin: What its digests were taken from.
        files: Digests of good files by path.
        buffers: Digests of good buffers (``ima-buf``: command lines, keys) by name.
        content_below: Scopes in which a file is good whose digest any path of ``files`` has: where
            containers and images keep copies.
        signers: Public keys by name, as DER SubjectPublicKeyInfo or certificate, whose validity
            and issuer do not matter.
        signed: Where a signature by them is enough.
        unsafe_exclude: What is not judged at all.
        not_before: First second at which it counts, if limited.
        not_after: Last second at which it counts, if limited.
        digest: SHA-256 of the deterministic CBOR of all of the above: its identity.
        content: Every digest of ``files``, if ``content_below`` asks for them.
    """

    name: str
    version: str
    origin: Origin
    files: Listed
    buffers: Listed = field(default_factory=dict)
    content_below: tuple[bytes, ...] = ()
    signers: Mapping[str, bytes] = field(default_factory=dict)
    signed: tuple[SignerRule, ...] = ()
    unsafe_exclude: tuple[Scope, ...] = ()
    not_before: int | None = None
    not_after: int | None = None
    digest: bytes = field(init=False)
    content: frozenset[IMADigest] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_reference_name(self.name):
            raise ValueError(f"{self.name!r:.80} is no reference name: use a-z 0-9 . _ -")
        if not is_reference_version(self.version):
            raise ValueError(
                f"{self.version!r:.80} is no version: use letters, digits, . _ : + ~ -"
            )
        if not self.files and not self.buffers and not self.signed:
            raise ValueError("an IMA reference set lists a file or buffer, or trusts a signer")
        start, end = self.not_before, self.not_after
        if start is not None and end is not None and start > end:
            raise ValueError("not_after is before not_before")
        self._check_rules()
        self._check_signers()
        put = object.__setattr__
        put(self, "files", _listed(self.files, "files"))
        put(self, "buffers", _listed(self.buffers, "buffers"))
        put(self, "signers", {name: self.signers[name] for name in sorted(self.signers)})
        put(self, "content_below", tuple(sorted(self.content_below)))
        put(self, "signed", tuple(sorted(self.signed, key=lambda rule: rule.scope.key)))
        put(self, "unsafe_exclude", tuple(sorted(self.unsafe_exclude, key=lambda scope: scope.key)))
        put(self, "content", frozenset(self._contents()))
        put(self, "digest", hashlib.sha256(self.encode()).digest())

    def _contents(self) -> Iterator[IMADigest]:
        if self.content_below:
            for digests in self.files.values():
                yield from digests

    def _check_rules(self) -> None:
        below = tuple(Scope(ScopeKind.BELOW, path) for path in self.content_below)
        for what, scopes in (
            ("content_below", below),
            ("signed", tuple(rule.scope for rule in self.signed)),
            ("unsafe_exclude", self.unsafe_exclude),
        ):
            if len(scopes) > MAX_RULES:
                raise ValueError(f"{what} has more than {MAX_RULES} entries")
            if len(set(scopes)) != len(scopes):
                raise ValueError(f"{what} names a scope twice")
        if below and not self.files:
            raise ValueError("content_below needs files whose content it speaks of")
        for scope in self.unsafe_exclude:
            listed = self.buffers if scope.kind is ScopeKind.BUFFER else self.files
            if scope.kind is not ScopeKind.BELOW and scope.path in listed:
                raise ValueError(f"{scope.path!r:.80} is listed and excluded at once")

    def file_signer(self, name: str) -> FileSigner:
        """Return the signer of this name with the key read.

        Raises:
            ValueError: It is no key or certificate whose signatures of files count.
        """
        der = self.signers[name]
        try:
            return FileSigner.of_key(name, der)
        except MalformedError as no_key:
            try:
                return FileSigner.of_certificate(name, der)
            except MalformedError as exc:
                raise ValueError(f"{no_key}, and {exc}") from exc

    def _check_signers(self) -> None:
        if len(self.signers) > MAX_SIGNERS:
            raise ValueError(f"more than {MAX_SIGNERS} signers")
        for name, key in self.signers.items():
            if not _SIGNER.fullmatch(name) or len(key) > _MAX_KEY:
                raise ValueError(f"{name!r:.80} is no name of a signer, or its key is too long")
            self.file_signer(name)
        if len(set(self.signers.values())) != len(self.signers):
            raise ValueError("two signers have one key")
        used = {name for rule in self.signed for name in rule.signers}
        if unknown := sorted(used - self.signers.keys()):
            raise ValueError(f"a rule names the signer {unknown[0]!r:.80}, who has no key")
        if idle := sorted(self.signers.keys() - used):
            raise ValueError(f"no rule names the signer {idle[0]!r:.80}")

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return type(other) is IMAReferenceSet and other.digest == self.digest

    def encode(self) -> bytes:
        """Return the deterministic CBOR whose SHA-256 is the set's digest."""
        members: dict[str, Any] = {
            "type": IMA_REFERENCE_TYPE,
            "name": self.name,
            "version": self.version,
            "origin": self.origin.value,
            "files": _wire(self.files),
            "buffers": _wire(self.buffers),
            "content_below": list(self.content_below),
            "signers": dict(self.signers),
            "signed": [[*rule.scope.key, list(rule.signers)] for rule in self.signed],
            "unsafe_exclude": [list(scope.key) for scope in self.unsafe_exclude],
        }
        limits = {"nbf": self.not_before, "exp": self.not_after}
        members |= {key: value for key, value in limits.items() if value is not None}
        return cbor.encode(members)

    def valid_at(self, now: int) -> bool:
        """Tell whether the set counts at ``now``."""
        return (self.not_before is None or self.not_before <= now) and (
            self.not_after is None or now <= self.not_after
        )

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"


def _order(digest: IMADigest) -> tuple[str, str, bytes]:
    return digest.type.value, digest.alg, digest.value


def _wire(listed: Listed) -> list[Any]:
    return [[path, [[*_order(each)] for each in digests]] for path, digests in listed.items()]


def _listed(listed: Listed, what: str) -> dict[bytes, tuple[IMADigest, ...]]:
    """Return paths and digests checked and in order, which means nothing and must not count."""
    if len(listed) > MAX_FILES:
        raise ValueError(f"{what} has more than {MAX_FILES} entries")
    ordered = {}
    for path in sorted(listed):
        digests = listed[path]
        _check_path(path)
        if not 0 < len(digests) <= MAX_DIGESTS:
            raise ValueError(f"{path!r:.80} needs 1 to {MAX_DIGESTS} digests")
        for digest in digests:
            check_file_digest(digest)
        if len(digests) > 1:
            if len(set(digests)) != len(digests):
                raise ValueError(f"{path!r:.80} lists a digest twice")
            digests = tuple(sorted(digests, key=_order))
        ordered[path] = digests
    return ordered
