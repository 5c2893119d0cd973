"""What PCR 7 proves of Secure Boot, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from bootlease.bootstate import AttestedLog, secure_boot
from bootlease.bootstate.keyfacts import AuthorityKind, SecureBoot
from bootlease.bootstate.tri import Tri
from bootlease.eventlog import EventType, parse_event_log, replay
from bootlease.model import Effect, HashAlg
from bootlease.testing import efi
from bootlease.testing.boot import simulate_boot
from bootlease.testing.boot_certificates import boot_certificate
from bootlease.testing.boot_description import load_boot_description
from bootlease.testing.measurements import Measurement, attested_log

BOOTS: Final = Path(__file__).resolve().parents[3] / "fixtures" / "boots"
CONFIG = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
AUTHORITY = EventType.EV_EFI_VARIABLE_AUTHORITY
SEPARATOR = Measurement(7, EventType.EV_SEPARATOR, bytes(4))
VENDOR, OTHER = boot_certificate("Vendor CA"), boot_certificate("Other CA")


def flag(name: str, value: bytes, pcr: int = 7) -> Measurement:
    """One of Secure Boot's switches."""
    return Measurement(pcr, CONFIG, efi.variable_data(efi.GLOBAL_VARIABLE, name, value))


def database(name: str, *certificates: bytes) -> Measurement:
    """A database of certificates."""
    content = b"".join(map(efi.x509_signature_list, certificates))
    guid = efi.GLOBAL_VARIABLE if name in ("PK", "KEK") else efi.IMAGE_SECURITY_DATABASE
    return Measurement(7, CONFIG, efi.variable_data(guid, name, content))


def authority(certificate: bytes, name: str = "db") -> Measurement:
    """A key that vouched for an image."""
    guid = efi.IMAGE_SECURITY_DATABASE if name == "db" else efi.SHIM_LOCK
    data = efi.variable_data(guid, name, efi.signature_data(certificate))
    return Measurement(7, AUTHORITY, data)


ON = flag("SecureBoot", b"\x01")
PK, KEK, DB = database("PK", VENDOR), database("KEK", VENDOR), database("db", VENDOR)
DBX = Measurement(
    7,
    CONFIG,
    efi.variable_data(
        efi.IMAGE_SECURITY_DATABASE, "dbx", efi.sha256_signature_list([bytes(32), b"x" * 32])
    ),
)


def read(*measurements: Measurement) -> SecureBoot:
    """Read a log in which all PCRs are attested."""
    return secure_boot(attested_log(*measurements))


def ids(seen: SecureBoot) -> list[str]:
    """The findings' ids."""
    return [finding.id for finding in seen.findings]


def test_a_whole_boot() -> None:
    """State, modes, databases and authorities of a sound log are read, without a finding."""
    seen = read(ON, PK, KEK, DB, DBX, SEPARATOR, authority(VENDOR))
    assert (seen.state, seen.setup_mode, seen.audit_mode) == (Tri.ON, Tri.OFF, Tri.OFF)
    assert seen.deployed_mode is Tri.UNKNOWN
    assert (seen.debug_mode, seen.dma_protection_disabled) == (Tri.OFF, Tri.OFF)
    assert seen.db is not None
    assert seen.dbx is not None
    assert [each.der for each in seen.db.certificates] == [VENDOR]
    assert seen.dbx.hashes == {bytes(32), b"x" * 32}
    assert seen.dbt is None
    (vouched,) = seen.authorities_after
    assert (vouched.event, vouched.variable, vouched.kind) == (7, "db", AuthorityKind.CERTIFICATE)
    assert (vouched.data, vouched.owner) == (VENDOR, efi.SIGNATURE_OWNER)
    assert vouched.listed is Tri.ON
    assert seen.authorities_before == ()
    assert dict(seen.variables) == {"SecureBoot": 1, "PK": 2, "KEK": 3, "db": 4, "dbx": 5}
    assert seen.findings == ()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (b"\x01", Tri.ON),
        (b"\x00", Tri.OFF),
        (b"", Tri.OFF),
        (b"\x02", Tri.UNKNOWN),
        (b"\x01\x00", Tri.UNKNOWN),
    ],
)
def test_values_of_the_switch(value: bytes, state: Tri) -> None:
    """One is on, zero and an empty variable are off, anything else is unknown (D6)."""
    assert read(flag("SecureBoot", value), SEPARATOR).state is state


def test_without_events_all_is_unknown() -> None:
    """A log that measures nothing into PCR 7 says nothing of Secure Boot (D5)."""
    seen = read(Measurement(0, EventType.EV_SEPARATOR, bytes(4)))
    assert seen.state is Tri.UNKNOWN
    assert seen.debug_mode is Tri.UNKNOWN
    assert seen.findings == ()


def test_an_unattested_pcr_says_nothing() -> None:
    """Events of PCR 7 count for nothing where the quote left PCR 7 out (A5)."""
    seen = secure_boot(attested_log(ON, PK, SEPARATOR, attested=(0, 4)))
    assert (seen.state, seen.pk) == (Tri.UNKNOWN, None)


def test_without_a_separator_all_is_unknown() -> None:
    """Nothing tells firmware's events from others where no separator ends them (D3)."""
    seen = read(ON, PK, DB, authority(VENDOR))
    assert (seen.state, seen.setup_mode, seen.pk, seen.db) == (Tri.UNKNOWN, Tri.UNKNOWN, None, None)
    assert seen.authorities_before == ()
    assert [each.data for each in seen.authorities_after] == [VENDOR]


def test_an_edited_value_is_refused() -> None:
    """Data that the digest is not over gives no state, and is called an alteration (D1)."""
    off = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\0")
    seen = read(Measurement(7, CONFIG, ON.data, off), PK, SEPARATOR)
    assert seen.state is Tri.UNKNOWN
    assert ids(seen) == ["boot.event.data-mismatch"]


@pytest.mark.parametrize(
    "kind",
    [
        EventType.EV_EFI_VARIABLE_BOOT,
        EventType.EV_ACTION,
        EventType.EV_EFI_ACTION,
        EventType.EV_EFI_VARIABLE_AUTHORITY,
        EventType.EV_IPL,
        0x8000_BEEF,
    ],
)
def test_a_retyped_variable_is_refused(kind: int) -> None:
    """The switch under another type leaves the state unknown, and is refused (D2)."""
    seen = read(Measurement(7, kind, ON.data), PK, SEPARATOR)
    assert seen.state is Tri.UNKNOWN
    assert ids(seen) == ["boot.secure-boot.variable-retyped"]


def test_a_variable_after_the_separator_is_refused() -> None:
    """What the system extends later neither turns Secure Boot on nor leaves it as it was (D3)."""
    seen = read(flag("SecureBoot", b"\0"), PK, SEPARATOR, ON)
    assert seen.state is Tri.UNKNOWN
    assert ids(seen) == ["boot.secure-boot.variable-after-separator"]


@pytest.mark.parametrize("kind", [EventType.EV_ACTION, EventType.EV_POST_CODE])
def test_a_retyped_separator_still_separates(kind: int) -> None:
    """The first separator ends firmware's events by its digest, whatever it is called (D3)."""
    seen = read(PK, Measurement(7, kind, bytes(4)), ON, SEPARATOR)
    assert seen.state is Tri.UNKNOWN
    assert ids(seen) == ["boot.secure-boot.variable-after-separator"]


@pytest.mark.parametrize("second", [ON, flag("SecureBoot", b"\0")])
def test_a_variable_measured_twice_is_refused(second: Measurement) -> None:
    """Two states leave none."""
    seen = read(ON, second, PK, SEPARATOR)
    assert seen.state is Tri.UNKNOWN
    assert ids(seen) == ["boot.secure-boot.variable-repeated"]


def test_a_name_that_no_digest_covers() -> None:
    """A digest over the value alone lets anybody name it: noted, and unknown."""
    seen = read(Measurement(7, CONFIG, ON.data, b"\x01"), PK, SEPARATOR)
    assert seen.state is Tri.UNKNOWN
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.secure-boot.name-unproven", Effect.NOTES)


def test_a_name_in_another_namespace_is_another_variable() -> None:
    """A vendor's variable may be called SecureBoot; it is none of Secure Boot's."""
    data = efi.variable_data(efi.SHIM_LOCK, "SecureBoot", b"\x01")
    seen = read(Measurement(7, CONFIG, data), PK, SEPARATOR)
    assert (seen.state, seen.findings) == (Tri.UNKNOWN, ())


def test_setup_mode_follows_from_the_platform_key() -> None:
    """Without a platform key the machine is in setup mode, and cannot be deployed (§32.3)."""
    seen = read(flag("SecureBoot", b"\0"), database("PK"), SEPARATOR)
    assert (seen.setup_mode, seen.audit_mode) == (Tri.ON, Tri.UNKNOWN)
    assert seen.deployed_mode is Tri.OFF
    assert seen.pk is not None
    assert seen.pk.empty


@pytest.mark.parametrize("pcr", [1, 7])
def test_modes_that_firmware_measured(pcr: int) -> None:
    """Modes count where PCR 7 has them, and where some firmware puts them, in PCR 1."""
    seen = read(
        ON, PK, flag("DeployedMode", b"\x01", pcr), flag("AuditMode", b"\0", pcr), SEPARATOR
    )
    assert (seen.deployed_mode, seen.audit_mode) == (Tri.ON, Tri.OFF)
    assert seen.findings == ()


def test_modes_behind_the_separator_of_pcr1_do_not_count() -> None:
    """What the system extends into PCR 1 makes no machine a deployed one."""
    end = Measurement(1, EventType.EV_SEPARATOR, bytes(4))
    seen = read(ON, PK, SEPARATOR, end, flag("DeployedMode", b"\x01", 1))
    assert seen.deployed_mode is Tri.UNKNOWN


def test_modes_of_an_unattested_pcr1_do_not_count() -> None:
    """A mode in PCR 1 is nobody's word where PCR 1 was not quoted."""
    view = attested_log(ON, PK, flag("DeployedMode", b"\x01", 1), SEPARATOR, attested=(7,))
    assert secure_boot(view).deployed_mode is Tri.UNKNOWN


def test_setup_mode_that_contradicts_the_platform_key() -> None:
    """A machine with a platform key that says it is in setup mode is in no known mode."""
    seen = read(ON, PK, flag("SetupMode", b"\x01"), SEPARATOR)
    assert seen.setup_mode is Tri.UNKNOWN
    assert ids(seen) == ["boot.secure-boot.mode-contradicts-platform-key"]


def test_secure_boot_without_a_platform_key() -> None:
    """Secure Boot cannot be on in setup mode."""
    assert ids(read(ON, database("PK"), SEPARATOR)) == ["boot.secure-boot.on-without-platform-key"]


@pytest.mark.parametrize("end", [b"", b"\0"])
@pytest.mark.parametrize("kind", [EventType.EV_EFI_ACTION, CONFIG, AUTHORITY, EventType.EV_IPL])
def test_debug_mode_under_any_type(kind: int, end: bytes) -> None:
    """A debugger is seen by its digest, though its record calls itself something else (D10)."""
    text = b"UEFI Debug Mode" + end
    seen = read(ON, PK, Measurement(7, kind, b"nothing to see", text), SEPARATOR)
    assert seen.debug_mode is Tri.ON
    assert seen.dma_protection_disabled is Tri.OFF


def test_dma_protection_disabled() -> None:
    """Firmware that does not protect against DMA says so in PCR 7 (D10)."""
    action = Measurement(7, EventType.EV_EFI_ACTION, b"DMA Protection Disabled")
    seen = read(ON, PK, action, SEPARATOR)
    assert seen.dma_protection_disabled is Tri.ON
    assert (seen.state, seen.findings) == (Tri.ON, ())


def test_actions_of_a_makers_own_are_kept() -> None:
    """An action that no specification names is a text, neither fatal nor trusted (D10)."""
    action = Measurement(7, EventType.EV_EFI_ACTION, b"Vendor says hello")
    seen = read(ON, PK, action, SEPARATOR)
    assert (seen.actions, seen.findings) == (("Vendor says hello",), ())


def test_an_altered_action_is_refused() -> None:
    """The digest of an action is over its text."""
    action = Measurement(7, EventType.EV_EFI_ACTION, b"harmless", b"harmful")
    seen = read(ON, PK, action, SEPARATOR)
    assert (seen.actions, ids(seen)) == ((), ["boot.event.data-mismatch"])


def test_an_authority_that_db_does_not_hold() -> None:
    """An image cannot have been started on the word of a key that db lacks (D8)."""
    seen = read(ON, PK, DB, SEPARATOR, authority(OTHER))
    (vouched,) = seen.authorities_after
    assert vouched.listed is Tri.OFF
    assert ids(seen) == ["boot.authority.not-in-db"]


def test_an_authority_where_db_is_unknown() -> None:
    """Where db was not measured, nobody can tell whether it holds the key."""
    (vouched,) = read(ON, PK, SEPARATOR, authority(VENDOR)).authorities_after
    assert vouched.listed is Tri.UNKNOWN


def test_an_authority_before_the_separator() -> None:
    """Who vouched for option ROMs is told apart from who vouched for the boot loader (D8)."""
    seen = read(ON, PK, DB, authority(VENDOR), SEPARATOR)
    assert [each.event for each in seen.authorities_before] == [4]
    assert seen.authorities_after == ()


def test_an_authority_by_hash() -> None:
    """An image may be allowed by its own digest."""
    data = efi.variable_data(
        efi.IMAGE_SECURITY_DATABASE, "db", efi.signature_data(HashAlg.SHA256.digest(b"image"))
    )
    listed = Measurement(
        7,
        CONFIG,
        efi.variable_data(
            efi.IMAGE_SECURITY_DATABASE,
            "db",
            efi.sha256_signature_list([HashAlg.SHA256.digest(b"image")]),
        ),
    )
    (vouched,) = read(ON, PK, listed, SEPARATOR, Measurement(7, AUTHORITY, data)).authorities_after
    assert (vouched.kind, vouched.listed) == (AuthorityKind.HASH, Tri.ON)
    assert vouched.data == HashAlg.SHA256.digest(b"image")


def test_authorities_as_shim_logs_them() -> None:
    """Shim leaves out the owner, and old versions log bytes that they did not measure (D8)."""
    whole = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", VENDOR) + bytes(5)
    old = Measurement(7, AUTHORITY, whole + b"\x7f", whole)
    seen = read(ON, PK, DB, SEPARATOR, old)
    (vouched,) = seen.authorities_after
    assert (vouched.owner, vouched.data, vouched.listed) == (None, VENDOR, Tri.ON)
    assert seen.findings == ()


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("SbatLevel", b"sbat,1,2021030218\n", AuthorityKind.SBAT_LEVEL),
        ("MokListTrusted", b"\x01", AuthorityKind.SHIM_VARIABLE),
        ("MokListRT", efi.signature_data(VENDOR), AuthorityKind.CERTIFICATE),
        ("Shim", VENDOR, AuthorityKind.CERTIFICATE),
        ("Unheard", b"of", AuthorityKind.OPAQUE),
    ],
)
def test_what_shim_vouches_with(name: str, value: bytes, kind: AuthorityKind) -> None:
    """Shim's variables share the event type; none of them can be looked up in db (D8)."""
    data = efi.variable_data(efi.SHIM_LOCK, name, value)
    seen = read(ON, PK, DB, SEPARATOR, Measurement(7, AUTHORITY, data))
    (vouched,) = seen.authorities_after
    assert (vouched.variable, vouched.kind, vouched.listed) == (name, kind, Tri.UNKNOWN)
    assert seen.findings == ()


def test_keys_that_call_themselves_untrustworthy() -> None:
    """A platform key for tests is a fact that rules can weigh (D7)."""
    leaked = boot_certificate("DO NOT TRUST - AMI Test PK")
    seen = read(ON, database("PK", leaked), DB, SEPARATOR)
    (key,) = seen.test_keys
    assert (key.variable, key.certificate.der) == ("PK", leaked)


def test_a_malformed_database_is_unknown() -> None:
    """Signature lists that contradict themselves are noted and say nothing (D23)."""
    data = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", b"\xff" * 40)
    seen = read(ON, PK, Measurement(7, CONFIG, data), SEPARATOR)
    assert seen.db is None
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.event.malformed-body", Effect.NOTES)
    assert seen.state is Tri.ON


@pytest.mark.parametrize("kind", [CONFIG, AUTHORITY])
def test_a_body_that_is_no_variable(kind: int) -> None:
    """An event that its digest proves to be no variable is noted."""
    seen = read(ON, PK, Measurement(7, kind, b"short"), SEPARATOR)
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.event.malformed-body", Effect.NOTES)


@pytest.mark.parametrize(
    ("enabled", "state", "names"),
    [
        (True, Tri.ON, ["db", "SbatLevel", "MokListRT"]),
        (False, Tri.OFF, ["SbatLevel"]),
    ],
    ids=["on", "off"],
)
def test_a_simulated_boot(enabled: bool, state: Tri, names: list[str]) -> None:  # noqa: FBT001 - the case itself
    """The boots that tests and demonstrations simulate read as what they describe."""
    description = load_boot_description(BOOTS / "grub-server.toml")
    boot = simulate_boot(description.with_secure_boot(enabled=enabled))
    log = parse_event_log(boot.event_log)
    seen = secure_boot(AttestedLog.of(replay(log), HashAlg.SHA256))
    assert (seen.state, seen.setup_mode, seen.findings) == (state, Tri.OFF, ())
    assert [each.variable for each in seen.authorities_after] == names
