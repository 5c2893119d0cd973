"""Secure Boot: its state, its keys and who vouched for what was started.

Specifications: TCG PFP 1.06 §3.3.4.8 (PCR 7), §10.4.1 (EV_EFI_VARIABLE_DRIVER_CONFIG,
EV_EFI_VARIABLE_AUTHORITY, EV_EFI_ACTION); UEFI 2.11 §32.3 (modes), §3.3 (SecureBoot, SetupMode,
AuditMode, DeployedMode).

What is believed, and why:

1. Only events of an attested PCR 7, in its own order (attacks A5, D5, D14).
2. Firmware's events end at the first separator, recognised by its digest or by its type. Without
   one, nothing tells firmware's events from the operating system's: all is unknown (D3, D4).
3. A variable counts where its digest covers name and value, under its own type, before the
   separator, once. Data that was edited proves nothing (D1); under another type, behind the
   separator or twice it contradicts itself and is refused (D2, D3).
4. Debug mode and missing DMA protection are recognised by digest, under any type (D10).
5. A mode that no variable states follows from the platform key where UEFI §32.3 leaves no choice.
"""

from __future__ import annotations

from typing import Final

from bootlease.bootstate.digests import (
    DEBUG_MODE,
    DMA_PROTECTION_DISABLED,
    known_digests,
)
from bootlease.bootstate.findings import data_mismatch, keep, malformed_body
from bootlease.bootstate.keyfacts import (
    Authority,
    AuthorityKind,
    KnownTestKey,
    SecureBoot,
    SignatureDatabase,
)
from bootlease.bootstate.pcrs import CONFIGURATION_PCR, SECURE_BOOT_PCR
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.variables import (
    FLAGS,
    MeasuredVariable,
    could_hold_secure_boot,
    read_variable,
)
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import Coverage, Event, EventType
from bootlease.eventlog.bodies import text_of
from bootlease.model import Effect, Finding, HashAlg

_SEPARATOR: Final = int(EventType.EV_SEPARATOR)
_CONFIG: Final = int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG)
_AUTHORITY: Final = int(EventType.EV_EFI_VARIABLE_AUTHORITY)
_ACTION: Final = int(EventType.EV_EFI_ACTION)
_MODES: Final = FLAGS - {"SecureBoot"}
_VOUCHING: Final = frozenset({"db", "dbr"})
_TEST_KEY_HOLDERS: Final = ("PK", "KEK", "db")

_UNKNOWN: Final = SecureBoot(
    state=Tri.UNKNOWN,
    setup_mode=Tri.UNKNOWN,
    audit_mode=Tri.UNKNOWN,
    deployed_mode=Tri.UNKNOWN,
    debug_mode=Tri.UNKNOWN,
    dma_protection_disabled=Tri.UNKNOWN,
    pk=None,
    kek=None,
    db=None,
    dbx=None,
    dbt=None,
    dbr=None,
    authorities_before=(),
    authorities_after=(),
    test_keys=(),
    actions=(),
    variables=(),
    findings=(),
)


def secure_boot(view: AttestedLog) -> SecureBoot:
    """Return what PCR 7 proves of Secure Boot; all is unknown where PCR 7 is not attested."""
    if not view.attests(SECURE_BOOT_PCR):
        return _UNKNOWN
    reading = _Reading(view)
    reading.read()
    return reading.result()


class _Reading:
    """One pass over the events of PCR 7."""

    __slots__ = (
        "_actions",
        "_after",
        "_bank",
        "_before",
        "_column",
        "_databases",
        "_dropped",
        "_events",
        "_findings",
        "_flags",
        "_known_actions",
        "_separated",
        "_separators",
        "_variables",
        "_view",
    )

    def __init__(self, view: AttestedLog) -> None:
        known = known_digests(view.bank)
        self._view = view
        self._bank: HashAlg = view.bank
        self._column = view.column
        self._events = view.events(SECURE_BOOT_PCR)
        self._separators = known.separators
        self._known_actions = known.actions
        self._separated = False
        self._flags: dict[str, bytes] = {}
        self._databases: dict[str, SignatureDatabase] = {}
        self._variables: dict[str, int] = {}
        self._dropped: set[str] = set()
        self._before: list[tuple[Event, MeasuredVariable]] = []
        self._after: list[tuple[Event, MeasuredVariable]] = []
        self._actions: list[str] = []
        self._findings: list[Finding] = []

    def read(self) -> None:
        column, separators, actions = self._column, self._separators, self._known_actions
        for event in self._events:
            event_type, digest = event[2], event[4][column]
            if event_type == _SEPARATOR or digest in separators:
                self._separated = True
            elif digest in actions:
                self._actions.append(actions[digest])
            elif event_type == _CONFIG:
                self._config(event)
            elif event_type == _AUTHORITY:
                self._authority(event)
            else:
                self._other(event)
        if self._view.attests(CONFIGURATION_PCR) and not self._view.is_ccel:
            self._modes_of_pcr1()

    def _config(self, event: Event) -> None:
        variable = read_variable(event, self._bank, self._column)
        if variable is None:
            # An altered body has no name to go by: which variable it was is not known.
            keep(self._findings, _unproven(event, self._view))
        elif variable.role is None:
            return
        elif self._separated:
            self._refuse(event, variable.role, "after-separator", "after firmware's separator")
        elif variable.coverage is not Coverage.WHOLE:
            keep(self._findings, _unproven(event, self._view))
        else:
            self._store(event, variable, variable.role)

    def _store(self, event: Event, variable: MeasuredVariable, role: str) -> None:
        if role in self._variables:
            self._refuse(event, role, "repeated", "a second time")
            return
        self._variables[role] = event[0]
        if role in FLAGS:
            self._flags[role] = variable.value
        elif variable.database is not None:
            self._databases[role] = variable.database
        else:
            keep(self._findings, malformed_body(event, variable.trouble))

    def _authority(self, event: Event) -> None:
        variable = read_variable(event, self._bank, self._column)
        if variable is None:
            keep(self._findings, _unproven(event, self._view))
        elif variable.role is not None and variable.role not in _VOUCHING:
            self._refuse(event, variable.role, "retyped", "as an authority")
        else:
            (self._after if self._separated else self._before).append((event, variable))

    def _other(self, event: Event) -> None:
        """Look at an event of a type that PCR 7 should not have, and at unknown actions."""
        if could_hold_secure_boot(event):
            variable = read_variable(event, self._bank, self._column)
            if variable is not None and variable.role is not None:
                self._refuse(event, variable.role, "retyped", "under another event type")
                return
        if event[2] == _ACTION:
            verified = self._view.verified(event)
            text = None if verified is None else text_of(verified.data)
            if verified is None:
                keep(self._findings, data_mismatch(event))
            elif text is not None:
                self._actions.append(text)

    def _modes_of_pcr1(self) -> None:
        """Read the modes where some firmware (AMI's) measures them, before that separator."""
        events = self._view.events(CONFIGURATION_PCR)
        # Few machines have one, and all have many events there.
        if _CONFIG not in [event[2] for event in events]:
            return
        for event in events:
            if event[2] == _SEPARATOR or event[4][self._column] in self._separators:
                return
            if event[2] != _CONFIG:
                continue
            variable = read_variable(event, self._bank, self._column)
            if (
                variable is not None
                and variable.role in _MODES
                and variable.coverage is Coverage.WHOLE
                and variable.role not in self._flags
            ):
                self._store(event, variable, variable.role)

    def _refuse(self, event: Event, role: str, what: str, words: str) -> None:
        self._dropped.add(role)
        keep(
            self._findings,
            Finding(
                f"boot.secure-boot.variable-{what}",
                f"The log has the Secure Boot variable {role} {words}: it contradicts itself, and"
                " nobody can tell which state the machine was in.",
                pcr=event[1],
                event=event[0],
                seen=role,
            ),
        )

    def result(self) -> SecureBoot:
        if not self._separated:
            # Without an end of firmware's events, every one of them may be the system's.
            self._flags.clear()
            self._databases.clear()
            self._after, self._before = self._before, []
        for role in self._dropped:
            self._flags.pop(role, None)
            self._databases.pop(role, None)
        databases, db = self._databases, self._databases.get("db")
        state = self._flag("SecureBoot")
        setup, audit, deployed = self._modes()
        before = tuple([self._authority_of(*each, db) for each in self._before])
        after = tuple([self._authority_of(*each, db) for each in self._after])
        self._check_platform_key(state, databases.get("PK"))
        return SecureBoot(
            state,
            setup,
            audit,
            deployed,
            self._action(DEBUG_MODE),
            self._action(DMA_PROTECTION_DISABLED),
            databases.get("PK"),
            databases.get("KEK"),
            db,
            databases.get("dbx"),
            databases.get("dbt"),
            databases.get("dbr"),
            before,
            after,
            tuple(self._test_keys()),
            tuple(
                each for each in self._actions if each not in (DEBUG_MODE, DMA_PROTECTION_DISABLED)
            ),
            tuple(self._variables.items()),
            tuple(self._findings),
        )

    def _flag(self, role: str) -> Tri:
        value = self._flags.get(role)
        if value is None:
            return Tri.UNKNOWN
        # A variable that does not exist is measured without data: the feature is off (attack D6).
        return _FLAG_VALUES.get(value, Tri.UNKNOWN)

    def _modes(self) -> tuple[Tri, Tri, Tri]:
        """Return setup, audit and deployed mode, as stated or as §32.3 leaves no choice."""
        setup, audit = self._flag("SetupMode"), self._flag("AuditMode")
        deployed = self._flag("DeployedMode")
        platform_key = self._databases.get("PK")
        if platform_key is None:
            return setup, audit, deployed
        implied = Tri.ON if platform_key.empty else Tri.OFF
        if setup not in (Tri.UNKNOWN, implied):
            self._refuse_modes("SetupMode")
            return Tri.UNKNOWN, audit, deployed
        if implied is Tri.OFF and audit is Tri.UNKNOWN:
            audit = Tri.OFF
        if implied is Tri.ON and deployed is Tri.UNKNOWN:
            deployed = Tri.OFF
        return implied, audit, deployed

    def _refuse_modes(self, role: str) -> None:
        keep(
            self._findings,
            Finding(
                "boot.secure-boot.mode-contradicts-platform-key",
                f"The variable {role} says the opposite of what the platform key (PK) implies.",
                pcr=SECURE_BOOT_PCR,
                event=self._variables.get(role),
            ),
        )

    def _check_platform_key(self, state: Tri, platform_key: SignatureDatabase | None) -> None:
        if state is Tri.ON and platform_key is not None and platform_key.empty:
            keep(
                self._findings,
                Finding(
                    "boot.secure-boot.on-without-platform-key",
                    "Secure Boot is said to be on without a platform key (PK), which no firmware"
                    " allows.",
                    pcr=SECURE_BOOT_PCR,
                    event=self._variables.get("SecureBoot"),
                ),
            )

    def _action(self, text: str) -> Tri:
        if text in self._actions:
            return Tri.ON
        return Tri.OFF if self._separated else Tri.UNKNOWN

    def _authority_of(
        self, event: Event, variable: MeasuredVariable, db: SignatureDatabase | None
    ) -> Authority:
        content = variable.authority
        if content is None:
            raise RuntimeError("an authority event was read as another")
        listed = Tri.UNKNOWN
        if db is not None and variable.role == "db" and content.kind is not AuthorityKind.OPAQUE:
            listed = Tri.ON if content.data in db.signatures else Tri.OFF
            if listed is Tri.OFF:
                keep(self._findings, _not_in_db(event))
        return Authority(
            event[0],
            variable.name,
            variable.namespace,
            content.kind,
            content.owner,
            content.data,
            content.certificate,
            listed,
        )

    def _test_keys(self) -> list[KnownTestKey]:
        return [
            KnownTestKey(role, certificate)
            for role in _TEST_KEY_HOLDERS
            if (database := self._databases.get(role)) is not None
            for certificate in database.test_certificates
        ]


_FLAG_VALUES: Final = {b"": Tri.OFF, b"\0": Tri.OFF, b"\x01": Tri.ON}


def _not_in_db(event: Event) -> Finding:
    return Finding(
        "boot.authority.not-in-db",
        f"event {event[0]}, PCR {event[1]}: an image was started on the word of a key that the"
        " measured database db does not hold.",
        pcr=event[1],
        event=event[0],
    )


def _unproven(event: Event, view: AttestedLog) -> Finding:
    """Say why an event that should hold a variable proves none."""
    verified = view.verified(event)
    if verified is None:
        return data_mismatch(event)
    if verified.coverage is Coverage.VARIABLE_VALUE:
        return Finding(
            "boot.secure-boot.name-unproven",
            f"event {event[0]}, PCR {event[1]}: the digest is over a value without its name, so it"
            " says nothing of Secure Boot.",
            Effect.NOTES,
            pcr=event[1],
            event=event[0],
        )
    return malformed_body(event, None)
