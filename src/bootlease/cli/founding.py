"""What ``bootlease verifier init`` does with the operator's files and the admin credential."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bootlease.cli.files import naming, read_file
from bootlease.cli.trust_files import pem_bundle, read_trust
from bootlease.endorsement import TrustedRoots
from bootlease.policy import parse_policy
from bootlease.reference import MAX_ANY_FILE, IMAReferenceSet, ReferenceSet, parse_any_reference
from bootlease.store import SQLStore
from bootlease.verifier.datadir import check_issuer
from bootlease.verifier.loopback import is_loopback
from bootlease.verifier.setup import Founding, found


def make_verifier(
    data: Path,
    issuer: str,
    policy: Path,
    roots: tuple[Path, ...],
    references: tuple[Path, ...],
    *,
    credential_file: Path | None,
) -> tuple[str, list[str]]:
    """Make a verifier.

    Args:
        data: The folder to make.
        issuer: The verifier's URL.
        policy: First policy, a TOML file.
        roots: CA certificates that vouch for TPMs, and their revocation lists.
        references: Reference files to register.
        credential_file: New file for the admin credential, or None.

    Returns:
        The admin credential, and what the operator should know of what was made.

    Raises:
        MalformedError: A file is not what it should be, or there is a verifier; the message
            names file and option.
        FileExistsError: There is a credential file.
    """
    founding, notes = _founding(issuer, policy, roots, references)
    with ExitStack() as unless_made:
        keep = _credential_keeper(credential_file, unless_made)
        credential = found(data, founding, SQLStore.open)
        keep(credential)
        unless_made.pop_all()
    return credential, notes


def _founding(
    issuer: str, policy: Path, roots: tuple[Path, ...], references: tuple[Path, ...]
) -> tuple[Founding, list[str]]:
    """Read what a verifier starts with; an error names file and option. Return notes on it too."""
    check_issuer(issuer)
    trust = read_trust(roots, option="--ek-root ")
    members = (*trust.certificates, *trust.lists)
    with naming("--ek-root"):
        TrustedRoots.of(members)
    founding = Founding(
        issuer=issuer,
        policy=read_file(policy),
        roots=(pem_bundle(members),),
        references=tuple(read_file(path, at_most=MAX_ANY_FILE) for path in references),
    )
    with naming(f"--policy {policy}"):
        parsed = parse_policy(founding.policy)
    notes = list(trust.notes())
    sets = []
    for path, data in zip(references, founding.references, strict=True):
        with naming(f"--reference {path} is not a reference set"):
            sets.append(parse_any_reference(data))
    for kind, accepted in ((ReferenceSet, parsed.accept), (IMAReferenceSet, parsed.ima.accept)):
        known = {each.name for each in sets if isinstance(each, kind)}
        notes += [
            f"note: policy accepts reference {name!r}, which is not registered yet: no node gets"
            f" a lease{' by it' if known & set(accepted) else ''} until"
            " `bootlease reference register`"
            for name in accepted
            if name not in known
        ]
    parts = urlsplit(issuer)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.append(
            f"warning: issuer {issuer} is plain HTTP off this machine: whoever is on the way reads"
            " tokens and credentials; use https, and init again, before a node trusts it"
        )
    return founding, notes


def _credential_keeper(path: Path | None, unless_made: ExitStack) -> Callable[[str], None]:
    """Make the file before there is a credential that could be lost; remove it if none comes."""
    if path is None:
        return lambda _: None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o600), "w")
    unless_made.callback(path.unlink)
    unless_made.callback(file.close)

    def keep(credential: str) -> None:
        with file:
            file.write(credential + "\n")
            file.flush()
            os.fsync(file.fileno())

    return keep
