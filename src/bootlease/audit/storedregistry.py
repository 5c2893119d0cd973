"""Stored policies, references, roots, enrolments and logs: each of its digest, and recorded.

Digests are those of meanings; where a file has bytes besides, the governance record of it holds the
digest of the whole file, so that a changed comment is found as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bootlease import cbor
from bootlease.audit.enrolments import check_chain, check_enrolment
from bootlease.audit.rows import (
    BlobRow,
    Checked,
    CredentialRow,
    EnrolmentRow,
    JoinTokenRow,
    PolicyRow,
    ReferenceRow,
    RootRow,
)
from bootlease.endorsement import Enrolment, parse_certificates
from bootlease.errors import MalformedError
from bootlease.evidence.enrolment import MAX_ENROLMENT
from bootlease.ledger import GovernanceDetail, GovernanceRecord
from bootlease.ledger.governance import (
    CREDENTIAL_CREATED,
    CREDENTIAL_REVOKED,
    ENROLLED,
    JOIN_TOKEN_CREATED,
    LABELLED,
    POLICY_ACTIVATED,
    REFERENCE_REGISTERED,
    ROOT_ADDED,
    RULE_DEMANDED,
)
from bootlease.model import Effect, Finding, sha256
from bootlease.policy import parse_policy
from bootlease.reference import parse_any_reference

_COMPRESSION: Final = 6

About = Mapping[bytes, Sequence[bytes]]
"""Governance records by the digest of what they are about."""


def check_policies(rows: Iterable[PolicyRow], about: About) -> Checked:
    """Check every activated policy."""
    checked = Checked()
    for number, row in enumerate(rows, 1):
        checked.rows += 1
        findings = []
        try:
            policy = parse_policy(row.document)
            if (policy.digest, policy.id, number) != (row.digest, row.id, row.epoch):
                findings.append(_altered("policy"))
        except MalformedError as exc:
            findings.append(Finding("stored.policy.malformed", f"{exc}."))
        wanted: dict[str, GovernanceDetail] = {
            "epoch": row.epoch,
            "id": row.id,
            "digest": row.digest,
            "document": sha256(row.document),
        }
        findings += _recorded(about, row.digest, POLICY_ACTIVATED, row.activated_at, wanted)
        checked.say(f"policy epoch {row.epoch}", findings)
    return checked


def check_references(rows: Iterable[ReferenceRow], about: About) -> Checked:
    """Check every registered reference set."""
    checked = Checked()
    for number, row in enumerate(rows, 1):
        checked.rows += 1
        findings = []
        try:
            reference = parse_any_reference(row.document)
            said = reference.digest, reference.name, number
            if said != (row.digest, row.name, row.number):
                findings.append(_altered("reference"))
        except MalformedError as exc:
            findings.append(Finding("stored.reference.malformed", f"{exc}."))
        wanted: dict[str, GovernanceDetail] = {
            "name": row.name,
            "digest": row.digest,
            "document": sha256(row.document),
        }
        findings += _recorded(about, row.digest, REFERENCE_REGISTERED, row.registered_at, wanted)
        checked.say(f"reference {row.number}", findings)
    return checked


def check_roots(rows: Iterable[RootRow], about: About) -> Checked:
    """Check every trusted root."""
    checked = Checked()
    for number, row in enumerate(rows, 1):
        checked.rows += 1
        findings = []
        try:
            parse_certificates(row.certificate)
        except MalformedError as exc:
            findings.append(Finding("stored.root.malformed", f"{exc}."))
        if (sha256(row.certificate), number) != (row.digest, row.number):
            findings.append(_altered("root"))
        findings += _recorded(about, row.digest, ROOT_ADDED, row.added_at, {"digest": row.digest})
        checked.say(f"root {row.number}", findings)
    return checked


def check_credentials(rows: Iterable[CredentialRow], about: About) -> Checked:
    """Check that every admin credential was created on record, and counts for no more than that.

    Whoever writes one into the database, gives it another role or takes its revocation back acts as
    an operator from the verifier's next start on.
    """
    checked = Checked()
    for row in rows:
        checked.rows += 1
        wanted: dict[str, GovernanceDetail] = {
            "label": row.label,
            "digest": row.digest,
            "roles": row.roles,
            "joint": row.joint,
        }
        if row.maker is not None:
            wanted["maker"] = row.maker
        found = list(_recorded(about, row.digest, CREDENTIAL_CREATED, row.created_at, wanted))
        revoked = _times_of(about, row.digest, CREDENTIAL_REVOKED)
        if revoked != ([] if row.revoked_at is None else [row.revoked_at]):
            found.append(
                Finding(
                    "stored.credential.revocation",
                    "The ledger says otherwise of whether the credential was revoked.",
                    expected=" ".join(map(str, revoked)) or "not revoked",
                    seen="not revoked" if row.revoked_at is None else str(row.revoked_at),
                )
            )
        checked.say(f"credential {row.digest.hex()}", found)
    return checked


def _times_of(about: About, digest: bytes, kind: str) -> list[int]:
    """Return when the ledger has records of a kind about something."""
    times = []
    for encoded in about.get(digest, ()):
        try:
            record = GovernanceRecord.parse(encoded)
        except MalformedError:
            # Its own row tells of it.
            continue
        if record.kind == kind:
            times.append(record.time)
    return times


def check_rule(*, demanded: bool, last: str | None) -> Checked:
    """Check that the two-person rule holds or not as the ledger says.

    Args:
        demanded: It holds.
        last: Kind of the last governance record about it, if there is one.
    """
    checked = Checked(rows=1)
    if demanded != (last == RULE_DEMANDED):
        said = Finding(
            "stored.two-person.differs",
            "The two-person rule is not as the ledger says.",
            expected=last or "never demanded",
            seen="demanded" if demanded else "lifted",
        )
        checked.say("two-person rule", [said])
    return checked


def check_join_tokens(rows: Iterable[JoinTokenRow], about: About) -> Checked:
    """Check that every join token was created on record, for as long as it says."""
    checked = Checked()
    for row in rows:
        checked.rows += 1
        wanted: dict[str, GovernanceDetail] = {"token": row.digest, "expires_at": row.expires_at}
        if row.labels:
            wanted["labels"] = row.labels
        if row.replaces is not None:
            wanted["replaces"] = row.replaces
        found = _recorded(about, row.digest, JOIN_TOKEN_CREATED, row.created_at, wanted)
        checked.say(f"join token {row.digest.hex()}", list(found))
    return checked


def check_enrolments(
    rows: Iterable[EnrolmentRow], about: About, certificates: Mapping[bytes, bytes]
) -> Checked:
    """Check enrolment records, their keys and certificates.

    Args:
        rows: The rows.
        about: Governance records about them.
        certificates: Every root, DER by fingerprint.
    """
    checked = Checked()
    for row in rows:
        checked.rows += 1
        findings, node = _enrolment_findings(row, about, certificates)
        checked.say(f"enrolment {row.digest.hex()}", findings)
        checked.enrolled.append((node, row.digest))
    return checked


def _enrolment_findings(
    row: EnrolmentRow, about: About, certificates: Mapping[bytes, bytes]
) -> tuple[list[Finding], bytes]:
    """Return what is wrong with a row, and whose it is."""
    if sha256(row.document) != row.digest:
        return [_altered("enrolment")], b""
    try:
        enrolment = Enrolment.parse(row.document)
        chain: list[bytes] = cbor.decode(row.ek_chain, max_bytes=MAX_ENROLMENT)
    except MalformedError as exc:
        return [Finding("stored.enrolment.malformed", f"{exc}.")], b""
    findings = list(check_enrolment(enrolment))
    if enrolment.endorsement is not None:
        findings += check_chain(enrolment, chain, certificates)
    wanted: dict[str, GovernanceDetail] = {
        "node": enrolment.node,
        "enrolment": row.digest,
        "chain": sha256(row.ek_chain),
    }
    recorded = list(_recorded(about, row.digest, ENROLLED, enrolment.enrolled_at, wanted))
    if recorded and not _labelled(about, enrolment, wanted):
        findings += recorded
    return findings, enrolment.node


def _labelled(about: About, enrolment: Enrolment, wanted: Mapping[str, GovernanceDetail]) -> bool:
    """Tell whether an operator made this record by giving the node of another one its labels."""
    for encoded in about.get(enrolment.digest, ()):
        try:
            record = GovernanceRecord.parse(encoded)
        except MalformedError:
            # Its own row tells of it.
            continue
        details = dict(record.details)
        before = details.pop("before", None)
        said = {**wanted, "labels": " ".join(enrolment.labels)}
        if record.kind == LABELLED and details == said and type(before) is bytes:
            return True
    return False


def check_blobs(rows: Iterable[BlobRow]) -> Checked:
    """Check logs: their digest, their size, and the compressed bytes themselves."""
    checked = Checked()
    for row in rows:
        checked.rows += 1
        checked.say(f"log {row.digest.hex()}", list(_blob_findings(row)))
    return checked


def _blob_findings(row: BlobRow) -> Iterator[Finding]:
    inflate = zlib.decompressobj()
    try:
        # One byte more than it may have, so that a bomb is seen and not unpacked.
        log = inflate.decompress(row.data, row.size + 1) if row.size >= 0 else b""
    except zlib.error:
        yield _altered("log")
        return
    if sha256(log) != row.digest or len(log) != row.size or not inflate.eof or inflate.unused_data:
        yield _altered("log")
    elif zlib.compress(log, _COMPRESSION) != row.data:
        # Spare bits of the compressed form carry nothing, but somebody may have changed them.
        yield Finding(
            "stored.log.encoding",
            "The log is right, but is not compressed as this program does it.",
            effect=Effect.NOTES,
        )


def _recorded(
    about: About, digest: bytes, kind: str, time: int, wanted: Mapping[str, GovernanceDetail]
) -> Iterator[Finding]:
    """Demand a governance record that says all this of a row."""
    for encoded in about.get(digest, ()):
        try:
            record = GovernanceRecord.parse(encoded)
        except MalformedError:
            # Its own row tells of it.
            continue
        if (record.kind, record.time) == (kind, time) and record.details == wanted:
            return
    yield Finding(
        "stored.row.unrecorded", "The ledger has no record of a row like this.", expected=kind
    )


def _altered(what: str) -> Finding:
    return Finding(
        f"stored.{what}.altered", f"The {what} is not the one that was stored under its digest."
    )
