"""What is fuzzed: every parser of bytes that others choose, in groups that share a corpus.

A target takes bytes, of which the first chooses a parser and the rest is its input. It must end
without an exception: a parser parses, or raises ``MalformedError``, whatever the bytes. Where a
format has one spelling, what was parsed is written again and compared.

``tests/fuzz/run.py`` runs them under Atheris, guided by coverage; ``test_targets`` runs what was
kept, in every test run.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import h11

from bootlease import cbor
from bootlease.bootstate import read_boot_state
from bootlease.bootstate.sigdb import parse_signature_database
from bootlease.bootstate.view import AttestedLog
from bootlease.endorsement import parse_certificate, parse_certificates
from bootlease.endorsement.cabinet import parse_cabinet
from bootlease.endorsement.enrolment import Enrolment
from bootlease.endorsement.revocation import parse_revocation_list
from bootlease.errors import MalformedError, VerificationError
from bootlease.eventlog import describe, parse_event_log, replay
from bootlease.evidence import (
    Activation,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
    Evidence,
    LeaseAnswer,
    parse_evidence,
)
from bootlease.evidence import document as evidence_document
from bootlease.evidence.binding import parse_binding
from bootlease.explain import Pieces
from bootlease.ima import IMAState, parse_list, replay_list
from bootlease.ima.asciilist import parse_ascii_list
from bootlease.ima.modsig import parse_modsig
from bootlease.ima.signature import parse_file_signature
from bootlease.ledger import (
    DecisionRecord,
    GovernanceRecord,
    NoteKey,
    parse_leaf,
    parse_note,
    parse_receipt,
    parse_signature_lines,
    parse_signed_checkpoint,
    parse_tlog_proof,
)
from bootlease.ledger.addcheckpoint import parse_add_checkpoint, parse_size_answer
from bootlease.ledger.prooffile import parse_proof
from bootlease.ledger.shardlist import parse_shard_list
from bootlease.ledger.tiles import parse_entries, parse_tile, parse_tile_path
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import HashAlg
from bootlease.node.bundle import parse_bundle
from bootlease.node.memory import parse_memory
from bootlease.node.problem import parse_problem
from bootlease.node.status import parse_status
from bootlease.policy import parse_policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.reference.corim import parse_corim
from bootlease.reference.corimsign import parse_signed_corim
from bootlease.reference.kinds import parse_any_canonical_reference, parse_any_reference
from bootlease.token import KeySet, base64url, parse_token, strictjson
from bootlease.token.cose import parse_sign1
from bootlease.token.signatures import TokenSignatures
from bootlease.tpm import (
    parse_attest,
    parse_header,
    parse_public,
    parse_public_2b,
    parse_signature,
)
from bootlease.verifier.usual import usual_request
from tests.fuzz import authorization, workloads
from tests.fuzz.lease import LeaseEndpoint

MAX_INPUT: Final = 64 * 1024

Parser = Callable[[bytes], Any]


def _exactly(parse: Parser, encode: Callable[[Any], bytes]) -> Parser:
    """Demand that what was parsed is written as it was read."""

    def check(data: bytes) -> None:
        written = encode(parse(data))
        if written != data:
            raise AssertionError(f"read {data.hex()}, wrote {written.hex()}")

    return check


def _text(parse: Callable[[str], Any]) -> Parser:
    return lambda data: parse(data.decode("latin-1"))


def _event_log(data: bytes, *, ccel: bool | None) -> None:
    log = parse_event_log(data, ccel=ccel)
    for event in log.events:
        describe(event)
    replayed = replay(log)
    for bank in replayed.pcrs:
        read_boot_state(AttestedLog.of(replayed, bank, None))


def _ima_list(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        replay_list(data, (HashAlg.SHA1, HashAlg.SHA256))
    for entry in parse_list(data):
        entry.measurement()


def _evidence(data: bytes) -> None:
    """The short way to read evidence must say what the long way says."""
    outcomes: list[Evidence | None] = []
    for parse in (parse_evidence, partial(evidence_document._parse_any, max_bytes=MAX_INPUT)):
        try:
            outcomes.append(parse(data))
        except MalformedError:
            outcomes.append(None)
    if outcomes[0] != outcomes[1]:
        raise AssertionError(f"two readings of {data.hex()}")


def _request(data: bytes) -> None:
    """What passes by the general parser must be what that parser reads."""
    request = usual_request(data, 4096)
    if request is None:
        return
    general = h11.Connection(h11.SERVER)
    general.receive_data(data)
    event = general.next_event()
    if not isinstance(event, h11.Request) or event.target != request.path.encode():
        raise AssertionError(f"another request in {data!r}")
    if list(event.headers.raw_items()) != [] and [
        (name.lower(), value) for name, value in event.headers.raw_items()
    ] != list(request.headers):
        raise AssertionError(f"other headers in {data!r}")


@functools.cache
def _endpoint() -> LeaseEndpoint:
    return LeaseEndpoint()


@dataclass(frozen=True, slots=True)
class Target:
    """A group of parsers.

    Attributes:
        name: What to call it.
        parsers: The parsers, by what they read.
    """

    name: str
    parsers: Sequence[tuple[str, Parser]]

    def run(self, data: bytes) -> None:
        """Give ``data`` to the parser that its first byte chooses."""
        if not data:
            return
        _, parse = self.parsers[data[0] % len(self.parsers)]
        with contextlib.suppress(MalformedError):
            parse(data[1:])

    def input_for(self, parser: str, data: bytes) -> bytes:
        """Return the bytes that give ``data`` to a parser."""
        names = [name for name, _ in self.parsers]
        return bytes([names.index(parser)]) + data


def _targets() -> Iterator[Target]:
    yield Target(
        "cbor",
        [
            ("decode", _exactly(partial(cbor.decode, max_bytes=MAX_INPUT), cbor.encode)),
            ("tags", partial(cbor.decode, max_bytes=MAX_INPUT, tags=frozenset(range(64)))),
            ("foreign", partial(cbor.decode_foreign, max_bytes=MAX_INPUT)),
            ("compare", partial(cbor.decode_to_compare, max_bytes=MAX_INPUT)),
            ("json", strictjson.parse_object),
            (
                "base64url",
                _exactly(_text(base64url.decode), lambda raw: base64url.encode(raw).encode()),
            ),
        ],
    )
    yield Target(
        "tpm",
        [
            ("attest", _exactly(parse_attest, lambda one: one.marshal())),
            ("header", parse_header),
            ("public", _exactly(parse_public, lambda one: one.marshal())),
            ("public2b", parse_public_2b),
            ("signature", _exactly(parse_signature, lambda one: one.marshal())),
        ],
    )
    yield Target(
        "eventlog",
        [
            ("log", partial(_event_log, ccel=None)),
            ("ccel", partial(_event_log, ccel=True)),
            ("signatures", parse_signature_database),
        ],
    )
    yield Target(
        "ima",
        [
            ("list", _ima_list),
            ("ascii", parse_ascii_list),
            ("signature", parse_file_signature),
            ("modsig", parse_modsig),
            ("state", _exactly(IMAState.parse, lambda one: one.encode())),
        ],
    )
    yield Target(
        "certificates",
        [
            ("certificate", parse_certificate),
            ("bundle", parse_certificates),
            ("revocations", parse_revocation_list),
            ("cabinet", parse_cabinet),
            ("enrolment", _exactly(Enrolment.parse, lambda one: one.encode())),
        ],
    )
    yield Target(
        "tokens",
        [
            ("token", parse_token),
            ("sign1", partial(parse_sign1, max_bytes=MAX_INPUT)),
            ("keys", KeySet.parse),
            ("signatures", _exactly(TokenSignatures.parse, lambda one: one.encode())),
        ],
    )
    yield Target(
        "evidence",
        [
            ("evidence", _evidence),
            ("binding", _exactly(parse_binding, lambda one: one.encode())),
            ("challenge", Challenge.parse),
            ("answer", LeaseAnswer.parse),
            ("enrolment", EnrolmentRequest.parse),
            ("credential", CredentialChallenge.parse),
            ("activation", Activation.parse),
            ("receipt", EnrolmentReceipt.parse),
            ("prior", Prior.parse),
            ("high water", _exactly(HighWaterMark.parse, lambda one: one.encode())),
        ],
    )
    yield Target(
        "notes",
        [
            ("note", _exactly(parse_note, lambda one: one.encode())),
            ("checkpoint", parse_signed_checkpoint),
            ("lines", parse_signature_lines),
            ("vkey", _exactly(_text(NoteKey.parse), lambda one: str(one).encode())),
            ("tlog-proof", parse_tlog_proof),
            ("add-checkpoint", parse_add_checkpoint),
            ("size", parse_size_answer),
            ("shards", parse_shard_list),
            ("tile path", _text(parse_tile_path)),
            ("tile", parse_tile),
            ("entries", parse_entries),
        ],
    )
    yield Target(
        "records",
        [
            ("decision", _exactly(DecisionRecord.parse, lambda one: one.encoded)),
            ("governance", _exactly(GovernanceRecord.parse, lambda one: one.encoded)),
            ("leaf", parse_leaf),
            ("receipt", parse_receipt),
            ("proof", _exactly(parse_proof, lambda one: one.encode())),
            ("pieces", Pieces),
        ],
    )
    yield Target(
        "rules",
        [
            ("policy", parse_policy),
            ("canonical policy", _exactly(parse_canonical_policy, lambda one: one.encode())),
            ("reference", parse_any_reference),
            ("corim", parse_corim),
            ("signed corim", parse_signed_corim),
            (
                "canonical reference",
                _exactly(parse_any_canonical_reference, lambda one: one.encode()),
            ),
        ],
    )
    yield Target("authorization", authorization.PARSERS)
    yield Target("workloads", workloads.PARSERS)
    yield Target("lease", [("edits", lambda edits: _endpoint().present(edits))])
    yield Target(
        "node",
        [
            ("bundle", parse_bundle),
            ("problem", parse_problem),
            ("memory", parse_memory),
            ("status", parse_status),
            ("request", _request),
        ],
    )


TARGETS: Final = {target.name: target for target in _targets()}
