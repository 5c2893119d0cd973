"""What an operator can do about a refusal: put the node right, or approve what changed.

What no approval can mend is said as well. Commands are whole command lines: whoever meant the
change copies them; whoever did not, must not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bootlease.eventlog.describe import printable
from bootlease.explain.boot import Boot
from bootlease.explain.remedies import REMEDIES, REPAIRS
from bootlease.explain.timeline import Compared
from bootlease.explain.values import Advice, PCRTimeline, Status
from bootlease.explain.words import cut, ranges
from bootlease.model import Finding, HashAlg, refusals
from bootlease.policy import Policy
from bootlease.reference import EventsReference, IMAReferenceSet, ReferenceSet

EVENT_LOG: Final = "eventlog.bin"
PCRS: Final = "pcrs.json"
IMA_LIST: Final = "ima.bin"
REFERENCE: Final = "reference.json"
"""Files in a folder that ``explain --save`` makes: the same as of ``bootlease node collect``, and
the nearest reference."""

MAX_APPROVALS: Final = 64
_SAVED: Final = "boot"
_UNKNOWN: Final = ".unknown-"
_REFERENCE: Final = ("eventlog.pcr", "reference.pcr", "reference.boot.", "reference.none")
_UNTRUE: Final = (".replay-mismatch", ".separator-", "eventlog.bank.", ".phase-unexpected")
_CONTRADICTION: Final = "boot."
_FILES: Final = ("ima.file.", "ima.buffer.")


@dataclass(frozen=True, slots=True)
class Names:
    """What commands call things.

    Attributes:
        subject: Words of ``bootlease`` that explain this boot again, such as
            ``("explain", "<digest>", "--data", "v")``.
        verifier: The verifier's URL, where there is one.
        saved: The folder where log and values are saved; ``boot`` where none was named.
    """

    subject: tuple[str, ...]
    verifier: str | None = None
    saved: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What advice is given about.

    Attributes:
        findings: What the appraisal found.
        policy: The policy.
        references: The accepted reference sets.
        files: The accepted IMA sets.
        names: What commands call things.
        boot: The boot; None where there is no log to read.
        compared: The nearest reference, likewise.
        timeline: What was measured.
        has_list: Entries of an IMA list came along.
    """

    findings: Sequence[Finding]
    policy: Policy
    references: Sequence[ReferenceSet]
    files: Sequence[IMAReferenceSet]
    names: Names
    boot: Boot | None = None
    compared: Compared | None = None
    timeline: Sequence[PCRTimeline] = ()
    has_list: bool = False
    refusing: tuple[Finding, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "refusing", refusals(tuple(self.findings)))


def advise(case: Case) -> Advice:
    """Say what can be done; empty where nothing refuses."""
    if not case.refusing:
        return Advice((), (), (), ())
    kinds = _Kinds.of(case.refusing)
    approvals = [*_approvals(case, kinds.boot), *map(_plain, kinds.files)]
    commands = list(_commands(case, kinds))
    return Advice(
        tuple(_remedies(case.refusing, kinds)),
        tuple(approvals[:MAX_APPROVALS]) if commands else (),
        tuple(_caveats(case, kinds)) if commands else (),
        tuple(commands),
    )


def remedies_of(findings: Sequence[Finding]) -> Advice:
    """Say what can be done where nothing but findings is known."""
    refusing = refusals(tuple(findings))
    return Advice(tuple(_remedies(refusing, _Kinds.of(refusing))), (), (), ())


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Findings by what could make them go away.

    Attributes:
        boot: Another reference.
        files: Another IMA set.
        others: Neither.
        untrue: The log is not what was measured: nothing can be learned from it.
    """

    boot: tuple[Finding, ...]
    files: tuple[Finding, ...]
    others: tuple[Finding, ...]
    untrue: bool

    @classmethod
    def of(cls, refusing: Sequence[Finding]) -> _Kinds:
        untrue = [
            each
            for each in refusing
            if each.id.startswith(_CONTRADICTION) or any(part in each.id for part in _UNTRUE)
        ]
        # Of such a PCR the reference says nothing that would help: its events are nobody's word.
        pcrs = {each.pcr for each in untrue if each.pcr is not None}
        boot = [
            each
            for each in refusing
            if each.id.startswith(_REFERENCE) and each.pcr not in pcrs and each not in untrue
        ]
        files = [each for each in refusing if each.id.startswith(_FILES)]
        named = {*boot, *files}
        others = [each for each in refusing if each not in named]
        return cls(tuple(boot), tuple(files), tuple(others), bool(untrue))


def _remedies(refusing: Sequence[Finding], kinds: _Kinds) -> Iterator[str]:
    changed = sorted({finding.pcr for finding in kinds.boot if finding.pcr is not None})
    repairs = [REPAIRS[pcr] for pcr in changed if pcr in REPAIRS]
    if repairs:
        yield (
            f"If nobody meant this change: {'; '.join(repairs)}. Then reboot: the agent attests"
            " again by itself."
        )
    told = set()
    for finding in refusing:
        remedy = _remedy(finding)
        if remedy is not None and remedy not in told:
            told.add(remedy)
            yield remedy


def _remedy(finding: Finding) -> str | None:
    for part, remedy in REMEDIES.items():
        # What an event of the log is, is said once for all of them, above.
        if part == "eventlog." and finding.id.startswith("eventlog.pcr"):
            continue
        if finding.id.startswith(part) or (part.startswith(".") and part in finding.id):
            return remedy
    return None


def _approvals(case: Case, approvable: Sequence[Finding]) -> Iterator[str]:
    for each in case.timeline if approvable else ():
        for event in each.events:
            if event.status is Status.UNKNOWN or any(_UNKNOWN in id_ for id_ in event.findings):
                shown = event.digest.hex()[:16]
                yield f"+ PCR {each.pcr}: {event.text}, digest {shown}…"
        yield from (f"- PCR {each.pcr}: {text}" for text in each.missing)
    for finding in approvable:
        if not finding.id.startswith("eventlog.pcr"):
            yield _plain(finding)


def _plain(finding: Finding) -> str:
    return f"~ {cut(printable(finding.message.rstrip('.')))}"


def _caveats(case: Case, kinds: _Kinds) -> Iterator[str]:
    if kinds.others:
        ids = ", ".join(dict.fromkeys(finding.id for finding in kinds.others))
        yield f"It would be refused all the same, for {ids}."
    if not kinds.boot:
        return
    reference = None if case.compared is None else case.compared.reference
    rules = None if reference is None else reference.boot
    if any(finding.id == "reference.boot.secure-boot" for finding in kinds.boot):
        yield "This approves another state of Secure Boot: its state is a rule of the new set."
    if rules is not None and rules.command_line is not None:
        yield (
            "Rules on the kernel command line are learned anew: carry over what was edited by"
            " hand, and what the old set forbids."
        )
    yield (
        "Every node that boots like this one is accepted then, beside those that boot as before:"
        " the old set counts until its not_after, or until a policy accepts another name."
    )


def _commands(case: Case, kinds: _Kinds) -> Iterator[tuple[str, ...]]:
    learned = list(_learn(case)) if kinds.boot and not kinds.untrue else []
    listed = list(_list_files(case)) if kinds.files and case.has_list else []
    if not learned and not listed:
        return
    folder = case.names.saved or _SAVED
    if case.names.saved is None:
        yield ("bootlease", *case.names.subject, "--save", folder)
    yield from learned
    yield from listed


def _learn(case: Case) -> Iterator[tuple[str, ...]]:
    boot, compared = case.boot, case.compared
    if boot is None or compared is None:
        return
    old, bank = compared.reference, compared.bank
    name = case.policy.accept[0] if old is None else old.name
    version = _next_version(name, case.references)
    target = f"{name}-{version}.json"
    folder = case.names.saved or _SAVED
    quoted = () if case.policy.boot.phases else ("--quoted", f"{folder}/{PCRS}")
    yield (
        *("bootlease", "reference", "learn", "--log", f"{folder}/{EVENT_LOG}", *quoted),
        *("--name", name, "--version", version),
        *("--pcrs", ranges(frozenset(boot.required.get(bank, ())))),
        *(() if bank is HashAlg.SHA256 else ("--bank", bank.label)),
        *(() if old is None else _options(old)),
        *("-o", target),
    )
    if old is not None:
        yield ("bootlease", "reference", "diff", f"{folder}/{REFERENCE}", target)
    yield _register(case, target)


def _options(old: ReferenceSet) -> Iterator[str]:
    by_events = frozenset(
        pcr for pcr, constraint in old.pcrs.items() if isinstance(constraint, EventsReference)
    )
    if by_events:
        yield from ("--match", f"events:{ranges(by_events)}")
    rules = old.boot
    if rules is None or not rules.reads_secure_boot:
        yield "--no-boot-rules"
    if rules is not None and rules.command_line is not None:
        yield "--command-line"
        for line in rules.command_line.known:
            yield from ("--known-command-line", line)


def _list_files(case: Case) -> Iterator[tuple[str, ...]]:
    name = case.policy.ima.accept[0]
    version = _next_version(name, case.files)
    target = f"{name}-{version}.json"
    folder = case.names.saved or _SAVED
    yield (
        *("bootlease", "reference", "ima", "node", f"{folder}/{IMA_LIST}"),
        *("--name", name, "--version", version, "-o", target),
    )
    yield _register(case, target)


def _register(case: Case, target: str) -> tuple[str, ...]:
    verifier = case.names.verifier or "URL"
    return ("bootlease", "reference", "register", target, "--verifier", verifier)


def _next_version(name: str, references: Collection[ReferenceSet | IMAReferenceSet]) -> str:
    """Return a version that no registered set of this name has, one more than the highest."""
    taken = {each.version for each in references if each.name == name}
    numbers = [int(version) for version in taken if version.isdecimal() and len(version) < 9]  # noqa: PLR2004 - a date fits
    return str(max(numbers, default=1) + 1) if taken else "1"
