"""What a fleet's node does one message at a time: enrol, ask for a challenge, attest."""

from __future__ import annotations

import json
import time
from typing import Final

from bootlease.errors import BootleaseError, TransportError
from bootlease.evidence import (
    Activation,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    LeaseAnswer,
)
from bootlease.testing.fleet.connections import ConnectionPool, Response, request
from bootlease.testing.fleet.node import FleetNode

_OK: Final = 200
_CREATED: Final = 201
_CONFLICT: Final = 409


class ProblemAnswerError(BootleaseError):
    """The verifier answered with a problem document.

    Attributes:
        kind: Last part of the problem's ``type``, such as ``busy``.
        status: HTTP status.
        text: The document.
    """

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.text = response.body.decode(errors="replace")
        self.kind = problem_kind(response)
        super().__init__(f"{self.status} {self.kind}: {self.text}")


def problem_kind(response: Response) -> str:
    """Return the kind of a problem document, or the status where it is none."""
    try:
        document = json.loads(response.body)
    except ValueError:
        document = None
    kind = document.get("type") if isinstance(document, dict) else None
    if isinstance(kind, str):
        return kind.rpartition("/")[2]
    return f"http-{response.status}"


def error_kind(error: Exception) -> str:
    """Name an error in a word or two, for counting."""
    if isinstance(error, ProblemAnswerError):
        return error.kind
    if isinstance(error, TransportError):
        return str(error).partition(":")[0]
    return type(error).__name__


async def _post(pool: ConnectionPool, path: str, kind: str, body: bytes, status: int) -> bytes:
    response = await pool.send(request(path, kind, body))
    if response.status != status:
        raise ProblemAnswerError(response)
    return response.body


async def enrol(pool: ConnectionPool, node: FleetNode) -> None:
    """Enrol a node: MakeCredential and ActivateCredential included.

    Raises:
        ProblemAnswerError: The verifier refuses.
        TransportError: No answer came; begin again.
        MalformedError: The answer has not its form.
    """
    asked = await _post(pool, "/v1/enrolments", "enrolment", node.enrolment_request(), _CREATED)
    credential = CredentialChallenge.parse(asked)
    secret = node.open_credential(credential.id_object, credential.encrypted_secret)
    path = f"/v1/enrolments/{credential.enrolment.hex()}/activation"
    done = await _post(pool, path, "activation", Activation(secret).encode(), _CREATED)
    node.enrolled_as(EnrolmentReceipt.parse(done).node)


async def ask(pool: ConnectionPool, node: FleetNode) -> None:
    """Ask for a challenge; raises as ``enrol``."""
    body = await _post(pool, f"{node.path}/challenges", "", b"", _CREATED)
    node.take_challenge(Challenge.parse(body))


async def attest(pool: ConnectionPool, node: FleetNode) -> LeaseAnswer:
    """Answer the challenge at hand, and continue from the answer; raises as ``enrol``."""
    path = f"{node.path}/leases"
    response = await pool.send(request(path, "evidence", node.evidence()))
    if response.status == _CONFLICT and problem_kind(response) == "log-wanted":
        response = await pool.send(request(path, "evidence", node.evidence(full=True)))
    if response.status != _OK:
        raise ProblemAnswerError(response)
    answer = LeaseAnswer.parse(response.body)
    node.take_answer(answer, time.monotonic())
    return answer


async def begin(pool: ConnectionPool, node: FleetNode) -> LeaseAnswer:
    """Begin a lineage on a new challenge, with full evidence; raises as ``enrol``."""
    node.begin_again()
    await ask(pool, node)
    return await attest(pool, node)
