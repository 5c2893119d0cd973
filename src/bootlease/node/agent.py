"""The node agent: keeps a lease fresh by attesting again and again.

No thread, no sleep and no signal here: ``renew`` makes one attempt, ``step`` turns its outcome
into a time to wait, and who calls does the waiting. ``lease`` decides how long a lease stands.

- Evidence whose answer was lost is sent again byte for byte, for as long as its challenge lives:
  the verifier then repeats its answer. What cannot be found out that way begins a new lineage.
- A refusal ends the lease at once. The agent keeps asking, with a fresh challenge and the whole
  log, ever more slowly: a policy may change, a wrong reference may be put right.
- An answer that does not fit what was sent grants nothing; the verifier counts as unreachable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from bootlease.errors import BootleaseError, MalformedError, TransportError, VerificationError
from bootlease.evidence import LeaseAnswer
from bootlease.model import refusals
from bootlease.node.answer import Expectation
from bootlease.node.attest import Attestation, attest
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import UnavailableError, Verifier
from bootlease.node.confirm import Confirmation, ConfirmationKey, make_key
from bootlease.node.enrol import attestation_key_name, enrol
from bootlease.node.ima import IMASource
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.logs import EventLogSource
from bootlease.node.memory import Enrolment, Lineage, Memory, Question
from bootlease.node.pacing import REFUSED, UNREACHABLE, Jitter, renewal_delay
from bootlease.node.trust import Trust
from bootlease.node.wishes import LeaseWish
from bootlease.ports import Clock, TPMDevice
from bootlease.token import LineageClaim

CHALLENGE_GONE: Final = frozenset(
    {"challenge.unknown", "challenge.expired", "challenge.spent", "challenge.outdated"}
)
"""Findings that say nothing of this node, only that another challenge is needed."""
NODE_GONE: Final = frozenset({"node.unknown"})
"""Findings of a verifier that does not know this node: enrol again."""
LINEAGE: Final = "lineage."
"""Findings that speak of the chain of leases alone: the node may begin another at once."""

_TRIES: Final = 5
RENEWALS: Final = 5_000
"""Leases of a lineage before the agent begins another by itself: each lease is proven by all before
it, and a verifier ends a lineage whose proofs would grow beyond bounds."""
"""Requests of one attempt: log and IMA list asked for, challenge gone, lineage ended, and once
more."""


class MemoryStore(Protocol):
    """Where the agent's memory outlives it; ``StateDirectory`` keeps it in a file."""

    def load(self) -> Memory:
        """Return what is remembered and still true in this boot."""

    def save(self, memory: Memory) -> None:
        """Remember ``memory``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent is told to do.

    Attributes:
        bundle: Its verifier.
        wishes: The leases to keep, at least one.
        confirmation: Where their confirmation keys live.
    """

    bundle: JoinBundle
    wishes: tuple[LeaseWish, ...]
    confirmation: Confirmation = Confirmation.PROCESS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step brought.

    Attributes:
        wait: Seconds until the next step is due.
        granted: The lease, if one was granted.
        error: Why there is none.
    """

    wait: float
    granted: HeldLease | None = None
    error: BootleaseError | None = None


@dataclass(slots=True)
class _Pending:
    """Evidence that has not been answered."""

    attestation: Attestation
    question: Question
    continued: Lineage | None
    keys: tuple[ConfirmationKey, ...]
    first_sent_at: float | None = None
    maybe_arrived: bool = False


class NodeAgent:
    """Keeps the leases of one node.

    Args:
        settings: What to keep, and at which verifier.
        device: The node's TPM.
        log: Its event log.
        verifier: The calls to the verifier.
        keeper: Holds what is granted.
        store: Remembers from run to run.
        clock: Wall clock and CLOCK_BOOTTIME.
        jitter: Source of jitter.
        say: Told in one line what happens.
        ima: Its IMA list, where its kernel keeps one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        device: TPMDevice,
        log: EventLogSource,
        verifier: Verifier,
        keeper: LeaseKeeper,
        store: MemoryStore,
        clock: Clock,
        jitter: Jitter,
        say: Callable[[str], None],
        ima: IMASource | None = None,
    ) -> None:
        if not settings.wishes:
            raise ValueError("an agent needs at least one lease to keep")
        self._settings = settings
        self._device = device
        self._log = log
        self._verifier = verifier
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._say = say
        self._ima = ima
        self._memory = store.load()
        self._keys: tuple[ConfirmationKey, ...] = ()
        self._trust = Trust(settings.bundle, verifier, say)
        self._pending: _Pending | None = None
        self._unreachable = 0
        self._refused = 0

    @property
    def node(self) -> bytes | None:
        """The node id, once enrolled."""
        enrolment = self._memory.enrolment
        return None if enrolment is None else enrolment.node

    # -- pace

    def step(self) -> Outcome:
        """Make one attempt and say when the next is due."""
        try:
            lease = self.renew()
        except VerificationError as exc:
            self._refused += 1
            self._unreachable = 0
            return Outcome(REFUSED.delay(self._refused, self._jitter), error=exc)
        except (TransportError, MalformedError) as exc:
            self._unreachable += 1
            wait = UNREACHABLE.delay(self._unreachable, self._jitter)
            asked = exc.retry_after if isinstance(exc, UnavailableError) else None
            return Outcome(max(wait, asked or 0.0), error=exc)
        self._unreachable = self._refused = 0
        left = lease.remaining(self._clock)
        return Outcome(renewal_delay(lease.life, left, self._jitter), granted=lease)

    # -- one attempt

    def renew(self) -> HeldLease:
        """Make one attempt: enrol if need be, attest, hold what is granted.

        Raises:
            VerificationError: The verifier refuses this node; the lease has ended.
            TransportError: Verifier or TPM gave no usable answer; a lease may still stand.
            MalformedError: The verifier cannot read the request; a lease may still stand.
        """
        self._quietly(self._keeper.enforce)
        for _ in range(_TRIES):
            enrolment = self._enrolled()
            pending = self._pending_evidence(enrolment)
            if pending is None:
                continue
            # The next challenge is issued after this evidence was sent for the first time, also
            # where its answer has to be asked for twice.
            if pending.first_sent_at is None:
                pending.first_sent_at = self._clock.boottime()
            try:
                answer = self._verifier.lease(enrolment.node, pending.attestation.data)
            except UnavailableError as exc:
                pending.maybe_arrived |= exc.sent
                raise
            except MalformedError:
                self._pending = None
                raise
            except VerificationError as exc:
                self._refusal(pending, exc)
                continue
            return self._accept(pending, enrolment, answer)
        raise TransportError("the verifier asks for ever another enrolment, challenge or log")

    def _enrolled(self) -> Enrolment:
        known = self._memory.enrolment
        # Another AK (the TPM was cleared, or is another one) is another enrolment.
        if (
            known is not None
            and known.verifier == self._settings.bundle.digest
            and known.ak == attestation_key_name(self._device)
        ):
            return known
        bundle = self._settings.bundle
        try:
            enrolment = enrol(self._verifier, self._device, bundle)
        except VerificationError:
            self._end(EndReason.REFUSED)
            raise
        self._keep(self._memory.enrolled(enrolment))
        self._say(f"enrolled at {bundle.issuer} as node {enrolment.node.hex()}")
        return enrolment

    # -- evidence

    def _pending_evidence(self, enrolment: Enrolment) -> _Pending | None:
        """Return the evidence to send; None where the verifier has forgotten this node."""
        pending = self._pending
        if pending is not None and pending.question.over(self._clock.boottime()):
            self._start_over(pending)
            pending = None
        if pending is None:
            question = self._question(enrolment)
            pending = None if question is None else self._attest(question)
            self._pending = pending
        return pending

    def _attest(self, question: Question) -> _Pending:
        log = self._log.read()
        lineage = self._live_lineage()
        if lineage is not None and lineage.sequence >= RENEWALS:
            self._say("the lineage is long: a new one begins, and the lease goes on until then")
            lineage = None
        made = self._quote(question, lineage, log)
        if lineage is not None and not _same_boot(
            made.clock.reset_count, made.clock.restart_count, lineage
        ):
            # The TPM was reset: what the old boot was granted says nothing of this one.
            self._say("the TPM was reset or restarted: a new lineage begins")
            self._end(EndReason.REBOOTED)
            self._remember(lineage=None)
            lineage = None
            made = self._quote(question, None, log)
        return _Pending(made, question, lineage, self._keys)

    def _quote(self, question: Question, lineage: Lineage | None, log: bytes) -> Attestation:
        if lineage is None or not self._keys:
            kind = self._settings.confirmation
            self._keys = tuple(make_key(kind, self._device) for _ in self._settings.wishes)
        requests = [
            wish.request(key) for wish, key in zip(self._settings.wishes, self._keys, strict=True)
        ]
        made = attest(
            self._device,
            question.challenge,
            requests,
            previous=None if lineage is None else lineage.head,
            log=log,
            include_log=lineage is None,
            ima=self._ima,
        )
        if lineage is not None and made.evidence.binding.logs["tcg"] != lineage.log:
            return made.with_log()
        return made

    def _question(self, enrolment: Enrolment) -> Question | None:
        question = self._memory.question
        if (
            question is not None
            and question.challenge.node == enrolment.node
            and not question.over(self._clock.boottime())
        ):
            return question
        asked_at = self._clock.boottime()
        try:
            challenge = self._verifier.challenge(enrolment.node)
        except VerificationError as exc:
            if NODE_GONE & {finding.id for finding in exc.findings}:
                self._forget_enrolment()
                return None
            self._end(EndReason.REFUSED)
            raise
        if challenge.node != enrolment.node:
            raise UnavailableError("the verifier sent a challenge for another node")
        question = Question(challenge, asked_at)
        if question.over(self._clock.boottime()):
            raise UnavailableError("the verifier sent a challenge that is over already")
        return question

    def _live_lineage(self) -> Lineage | None:
        lineage = self._memory.lineage
        if lineage is None:
            return None
        # Design section 4 step 6: a lapsed lease ends the lineage.
        if self._clock.boottime() >= lineage.deadline or self._clock.now() >= lineage.expires_at:
            self._remember(lineage=None)
            return None
        return lineage

    # -- answers

    def _refusal(self, pending: _Pending, refused: VerificationError) -> None:
        """Return where another request may bring more; raise what stands."""
        found = {finding.id for finding in refusals(refused.findings)}
        fuller = pending.attestation.completed(found, self._ima)
        if fuller is not None:
            self._say("the verifier asks for a log in full")
            pending.attestation = fuller
            pending.first_sent_at = None
            return
        if found and found <= CHALLENGE_GONE:
            self._start_over(pending)
            return
        self._pending = None
        if found & NODE_GONE:
            self._forget_enrolment()
            return
        self._end(EndReason.REFUSED)
        self._remember(lineage=None, question=None)
        if found and all(finding.startswith(LINEAGE) for finding in found):
            self._say(f"the lineage has ended ({refused}); a new one begins")
            return
        raise refused

    def _start_over(self, pending: _Pending) -> None:
        self._pending = None
        if pending.maybe_arrived:
            # It may have moved the lineage's head without our knowing where to.
            self._remember(lineage=None, question=None)
        else:
            self._remember(question=None)

    def _accept(self, pending: _Pending, enrolment: Enrolment, answer: LeaseAnswer) -> HeldLease:
        # By the verifier's clock, as far as its challenge tells it: this machine's may be wrong.
        challenge, asked_at = pending.question.challenge, pending.question.asked_at
        verifier_now = challenge.issued_at + self._clock.boottime() - asked_at
        expected = self._expectation(pending, enrolment)
        try:
            tokens = self._trust.verify(answer, expected, now=verifier_now)
        except (VerificationError, MalformedError) as exc:
            pending.maybe_arrived = True
            raise UnavailableError(f"the verifier's answer cannot be trusted: {exc}") from exc
        life = min(
            answer.life, *(token.claims.expires_at - challenge.issued_at for token in tokens)
        )
        lease = HeldLease(
            tokens=tokens,
            encoded=tuple(issued.token for issued in answer.leases),
            keys=pending.keys,
            expires_at=min(token.claims.expires_at for token in tokens),
            deadline=asked_at + life,
            life=float(life),
        )
        clock = pending.attestation.clock
        lineage = Lineage(
            root=expected.lineage.root,
            head=answer.head,
            sequence=answer.sequence,
            reset_count=clock.reset_count,
            restart_count=clock.restart_count,
            log=pending.attestation.evidence.binding.logs["tcg"],
            expires_at=lease.expires_at,
            deadline=lease.deadline,
        )
        next_asked_at = asked_at if pending.first_sent_at is None else pending.first_sent_at
        self._pending = None
        try:
            self._keeper.take(lease)
        finally:
            # The verifier has moved on, whatever becomes of the lease here.
            self._remember(lineage=lineage, question=Question(answer.challenge, next_asked_at))
        return lease

    def _expectation(self, pending: _Pending, enrolment: Enrolment) -> Expectation:
        before = pending.continued
        digest = pending.attestation.digest
        return Expectation(
            bundle=self._trust.bundle,
            node=enrolment.node,
            challenge=pending.question.challenge,
            evidence=digest,
            clock=pending.attestation.clock,
            wishes=self._settings.wishes,
            keys=tuple(key.public for key in pending.keys),
            lineage=LineageClaim(digest, 0)
            if before is None
            else LineageClaim(before.root, before.sequence + 1, before.head),
        )

    # -- memory

    def _end(self, reason: EndReason) -> None:
        self._quietly(lambda: self._keeper.end(reason))

    def _quietly(self, end: Callable[[], None]) -> None:
        try:
            end()
        except TransportError as exc:
            # The lease is over all the same, and the keeper goes on trying to take it back.
            self._say(str(exc))

    def _forget_enrolment(self) -> None:
        self._say("the verifier does not know this node any more; enrolling again")
        self._pending = None
        self._remember(enrolment=None, lineage=None, question=None)

    def _remember(self, **changes: object) -> None:
        self._keep(dataclasses.replace(self._memory, **changes))  # type: ignore[arg-type]

    def _keep(self, memory: Memory) -> None:
        if memory != self._memory:
            self._memory = memory
            self._store.save(memory)


def _same_boot(reset_count: int, restart_count: int, lineage: Lineage) -> bool:
    return (reset_count, restart_count) == (lineage.reset_count, lineage.restart_count)
