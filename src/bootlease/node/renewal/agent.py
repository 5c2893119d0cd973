"""The node agent: keeps leases fresh by attesting again and again, all of them with one quote.

No thread, no sleep and no signal here: ``renew`` makes one attempt, ``step`` turns its outcome
into a time to wait, and who calls does the waiting. ``lease`` decides how long a lease stands.

- What is asked for is what the book of wishes holds at that moment: leases and keys may change
  from one renewal to the next, the lineage goes on.
- Evidence whose answer was lost is sent again byte for byte, for as long as its challenge lives:
  the verifier then repeats its answer. An agent that was killed meanwhile does so too. What cannot
  be found out that way begins a new lineage.
- A refusal ends the lease at once. The agent keeps asking, with a fresh challenge and the whole
  log, ever more slowly: a policy may change, a wrong reference may be put right.
- A wish that policy denies alone ends nothing else, and is asked for again ever more slowly.
- An answer that does not fit what was sent grants nothing; the verifier counts as unreachable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, NoReturn

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import TCG_LOG, LeaseAnswer
from bootlease.model import Finding, refusals
from bootlease.node.calls import UnavailableError, Verifier
from bootlease.node.enrol import attestation_key_name, enrol
from bootlease.node.ima import IMASource
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.logline import Event, Level
from bootlease.node.logs import EventLogSource
from bootlease.node.memory import Enrolment, Lineage, Question
from bootlease.node.observing import Outcome
from bootlease.node.pacing import Jitter
from bootlease.node.renewal.denials import DeniedError, all_denied
from bootlease.node.renewal.keyring import KeyRing
from bootlease.node.renewal.pace import Pace
from bootlease.node.renewal.pending import Pending
from bootlease.node.renewal.quoter import Quoter
from bootlease.node.renewal.recall import MemoryStore, Recall
from bootlease.node.renewal.settings import Settings
from bootlease.node.renewal.trust import Trust
from bootlease.node.wishbook import NothingWishedError, Wishes
from bootlease.ports import Clock, TPMDevice

CHALLENGE_GONE: Final = frozenset(
    {"challenge.unknown", "challenge.expired", "challenge.spent", "challenge.outdated"}
)
"""Findings that say nothing of this node, only that another challenge is needed."""
NODE_GONE: Final = frozenset({"node.unknown"})
"""Findings of a verifier that does not know this node: enrol again."""
LINEAGE: Final = "lineage."
"""Findings that speak of the chain of leases alone: the node may begin another at once."""

_TRIES: Final = 6
"""Requests of one attempt: what an earlier agent sent, log and IMA list asked for, challenge gone,
lineage ended, and once more."""
RENEWALS: Final = 5_000
"""Leases of a lineage before the agent begins another by itself: each lease is proven by all before
it, and a verifier ends a lineage whose proofs would grow beyond bounds."""


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
        wishes: What to ask for, as it changes; by default what ``settings`` names.

    Raises:
        ValueError: Nothing says what to ask for.
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
        wishes: Wishes | None = None,
    ) -> None:
        self._bundle = settings.bundle
        self._wishes = settings.book() if wishes is None else wishes
        self._device = device
        self._log = log
        self._verifier = verifier
        self._keeper = keeper
        self._clock = clock
        self._jitter = jitter
        self._say = say
        self._ima = ima
        self._recall = Recall(store, clock)
        self._keys = KeyRing(device, settings.bundle.leash_key, say)
        self._quoter = Quoter(device, self._keys, ima, clock)
        self._pace = Pace(self._wishes, clock, jitter)
        self._trust = Trust(settings.bundle, verifier, say)
        self._pending: Pending | None = None

    @property
    def node(self) -> bytes | None:
        """The node id, once enrolled."""
        return self._recall.node

    # -- pace

    def step(self) -> Outcome:
        """Make one attempt and say when the next is due."""
        began = self._clock.boottime()
        self._quoter.seconds = None
        outcome = self._pace.outcome(self.renew)
        seconds = self._clock.boottime() - began
        return dataclasses.replace(outcome, seconds=seconds, quote_seconds=self._quoter.seconds)

    # -- one attempt

    def renew(self) -> HeldLease:
        """Make one attempt: enrol if need be, attest, hold what is granted.

        Raises:
            VerificationError: The verifier refuses this node; the lease has ended.
            TransportError: Verifier or TPM gave no usable answer; a lease may still stand.
            NothingWishedError: There is nothing to ask for; no lease is held any more.
            MalformedError: The verifier cannot read the request; a lease may still stand.
        """
        self._quietly(self._keeper.enforce)
        if self._wishes.next_due(self._clock.boottime()) != 0:
            self._nothing_wished()
        for _ in range(_TRIES):
            enrolment = self._enrolled()
            pending = self._pending_evidence(enrolment)
            if pending is None:
                continue
            try:
                answer = self._send(pending, enrolment)
            except VerificationError as exc:
                self._refusal(pending, exc)
                continue
            lease = self._accept(pending, enrolment, answer)
            if lease is not None:
                return lease
        raise TransportError("the verifier asks for ever another enrolment, challenge or log")

    def _nothing_wished(self) -> NoReturn:
        if self._keeper.valid:
            self._end(EndReason.UNWANTED)
        raise NothingWishedError("there is nothing to ask for")

    def _send(self, pending: Pending, enrolment: Enrolment) -> LeaseAnswer:
        # The next challenge is issued after this evidence was sent for the first time, also
        # where its answer has to be asked for twice.
        if pending.first_sent_at is None:
            pending.first_sent_at = self._clock.boottime()
            self._recall.sending(pending, pending.first_sent_at)
        try:
            return self._verifier.lease(enrolment.node, pending.attestation.data)
        except UnavailableError as exc:
            pending.maybe_arrived |= exc.sent
            raise
        except MalformedError:
            self._pending = None
            raise

    def _enrolled(self) -> Enrolment:
        known = self._recall.memory.enrolment
        # Another AK (the TPM was cleared, or is another one) is another enrolment.
        if (
            known is not None
            and known.verifier == self._bundle.digest
            and known.ak == attestation_key_name(self._device)
        ):
            return known
        bundle = self._bundle
        try:
            enrolment = enrol(self._verifier, self._device, bundle)
        except VerificationError as exc:
            self._end(EndReason.REFUSED, exc.findings)
            raise
        self._recall.enrolled(enrolment)
        node = enrolment.node.hex()
        said = f"enrolled at {bundle.issuer} as node {node}"
        self._say(Event("node.enrolled", said, node=node, issuer=bundle.issuer))
        return enrolment

    # -- evidence

    def _pending_evidence(self, enrolment: Enrolment) -> Pending | None:
        """Return the evidence to send; None where the verifier has forgotten this node."""
        pending = self._pending or self._orphan()
        if pending is not None and pending.question.over(self._clock.boottime()):
            self._start_over(pending)
            pending = None
        if pending is None:
            question = self._question(enrolment)
            pending = None if question is None else self._attest(question)
        self._pending = pending
        return pending

    def _orphan(self) -> Pending | None:
        found = self._recall.orphan(self._log)
        if found is not None:
            self._say("an agent that ended may have been answered: its renewal is sent again")
        return found

    def _attest(self, question: Question) -> Pending:
        wished = self._wishes.ask(self._clock.boottime())
        if not wished:
            self._nothing_wished()
        log = self._log.read()
        lineage = self._recall.live_lineage()
        if lineage is not None and lineage.sequence >= RENEWALS:
            self._say("the lineage is long: a new one begins, and the lease goes on until then")
            lineage = None
        quoted = self._quoter.quote(question, lineage, log, wished)
        if lineage is not None and not quoted.is_of(lineage):
            # The TPM was reset: what the old boot was granted says nothing of this one.
            self._say(
                Event("lineage.ended", "the TPM was reset or restarted: a new lineage begins")
            )
            self._end(EndReason.REBOOTED)
            self._recall.change(lineage=None)
            lineage = None
            quoted = self._quoter.quote(question, None, log, wished)
        return Pending(quoted.made, question, lineage, quoted.wished, quoted.keys)

    def _question(self, enrolment: Enrolment) -> Question | None:
        question = self._recall.memory.question
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
            self._end(EndReason.REFUSED, exc.findings)
            raise
        if challenge.node != enrolment.node:
            raise UnavailableError("the verifier sent a challenge for another node")
        question = Question(challenge, asked_at)
        if question.over(self._clock.boottime()):
            raise UnavailableError("the verifier sent a challenge that is over already")
        return question

    # -- answers

    def _refusal(self, pending: Pending, refused: VerificationError) -> None:
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
        denied = all_denied(pending.wished, refused)
        of_lineage = bool(found) and all(finding.startswith(LINEAGE) for finding in found)
        if of_lineage and not self._keeper.valid:
            # Who waits for a first lease is not refused: another lineage brings it.
            self._end(EndReason.LAPSED)
        elif denied is None or self._keeper.valid:
            self._end(EndReason.REFUSED, refused.findings)
        self._recall.change(lineage=None, question=None)
        if pending.orphaned:
            # Of what others wished for; this agent has not asked yet.
            return
        if denied is not None:
            raise DeniedError(refused, denied) from refused
        if of_lineage:
            self._say(
                Event(
                    "lineage.ended",
                    f"the lineage has ended ({refused}); a new one begins",
                    level=Level.WARNING,
                    findings=refused.findings,
                )
            )
            return
        raise refused

    def _start_over(self, pending: Pending) -> None:
        self._pending = None
        if pending.maybe_arrived:
            # It may have moved the lineage's head without our knowing where to.
            self._recall.change(lineage=None, question=None)
        else:
            self._recall.change(question=None)

    def _accept(
        self, pending: Pending, enrolment: Enrolment, answer: LeaseAnswer
    ) -> HeldLease | None:
        """Hold what was granted, and return it; None where it was granted to an earlier agent."""
        # By the verifier's clock, as far as its challenge tells it: this machine's may be wrong.
        challenge, asked_at = pending.question.challenge, pending.question.asked_at
        verifier_now = challenge.issued_at + self._clock.boottime() - asked_at
        expected = pending.expectation(self._trust.bundle, enrolment.node)
        try:
            tokens = self._trust.verify(answer, expected, now=verifier_now)
        except (VerificationError, MalformedError) as exc:
            pending.maybe_arrived = True
            raise UnavailableError(f"the verifier's answer cannot be trusted: {exc}") from exc
        lease = pending.held(answer, tokens)
        clock = pending.attestation.clock
        lineage = Lineage(
            root=expected.lineage.root,
            head=answer.head,
            sequence=answer.sequence,
            reset_count=clock.reset_count,
            restart_count=clock.restart_count,
            log=pending.attestation.evidence.binding.logs[TCG_LOG],
            expires_at=lease.expires_at,
            deadline=lease.deadline,
        )
        next_asked_at = asked_at if pending.first_sent_at is None else pending.first_sent_at
        self._pending = None
        try:
            if not pending.orphaned:
                lease = self._keys.redeem(lease, answer.leases)
                self._keeper.take(lease)
                self._note(lease)
        finally:
            # The verifier has moved on, whatever becomes of the lease here.
            self._recall.change(lineage=lineage, question=Question(answer.challenge, next_asked_at))
        return None if pending.orphaned else lease

    def _note(self, lease: HeldLease) -> None:
        self._wishes.granted(holding.id for holding in lease.holdings)
        self._wishes.denied(lease.denied, self._clock.boottime(), self._jitter)

    # -- ends

    def _end(self, reason: EndReason, findings: tuple[Finding, ...] = ()) -> None:
        self._quietly(lambda: self._keeper.end(reason, findings))

    def _quietly(self, end: Callable[[], None]) -> None:
        try:
            end()
        except TransportError as exc:
            # The lease is over all the same, and the keeper goes on trying to take it back.
            self._say(Event("output.failed", str(exc), level=Level.ERROR))

    def _forget_enrolment(self) -> None:
        self._say(
            Event(
                "node.forgotten", "the verifier does not know this node any more; enrolling again"
            )
        )
        self._pending = None
        self._recall.change(enrolment=None, lineage=None, question=None)
