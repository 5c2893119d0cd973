"""Boot applications and option ROMs."""

from __future__ import annotations

from bootlease.bootstate import boot_applications, option_roms
from bootlease.eventlog import EventType
from bootlease.model import Effect, HashAlg
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

APPLICATION = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
DRIVER = EventType.EV_EFI_BOOT_SERVICES_DRIVER
CALL = b"Calling EFI Application from Boot Option"
RETURN = b"Returning from EFI Application from Boot Option"


def image(pcr: int, path: bytes, content: bytes, kind: int = APPLICATION) -> Measurement:
    """An image that firmware loaded."""
    return Measurement(pcr, kind, efi.image_load_event(len(content), path), content)


def separator(pcr: int) -> Measurement:
    """The end of firmware's measurements in one PCR."""
    return Measurement(pcr, EventType.EV_SEPARATOR, bytes(4))


def action(pcr: int, text: bytes) -> Measurement:
    """A firmware action."""
    return Measurement(pcr, EventType.EV_EFI_ACTION, text)


def test_images_in_order() -> None:
    """Digest, place and the path beside the digest of each image are told."""
    seen = boot_applications(
        attested_log(
            image(4, efi.file_path("\\tool.efi"), b"tool"),
            action(4, CALL),
            separator(4),
            image(4, efi.disk_path("\\EFI\\BOOT\\BOOTX64.EFI"), b"loader"),
            image(4, b"", b"kernel"),
        )
    )
    assert [each.digest for each in seen.images] == [
        HashAlg.SHA256.digest(content) for content in (b"tool", b"loader", b"kernel")
    ]
    assert [each.after_separator for each in seen.images] == [False, True, True]
    assert [each.unverified_file for each in seen.images] == [
        "\\tool.efi",
        "\\EFI\\BOOT\\BOOTX64.EFI",
        "",
    ]
    assert seen.images[1].unverified_path.startswith("PciRoot(0x0)/Pci(")
    assert (seen.attempts, seen.returns, seen.findings) == (1, 0, ())


def test_several_attempts() -> None:
    """A boot option that returned was followed by the next: benign, and counted (D12)."""
    calls = [action(4, CALL), action(4, RETURN), action(4, CALL), action(5, CALL)]
    seen = boot_applications(attested_log(*calls))
    assert (seen.attempts, seen.returns) == (3, 1)


def test_a_malformed_path_leaves_the_digest() -> None:
    """An image whose path cannot be read is a digest, and noted (D23)."""
    body = efi.image_load_event(6, efi.file_path("\\x"))[:-10] + bytes(10)
    seen = boot_applications(attested_log(Measurement(4, APPLICATION, body, b"loader")))
    (only,) = seen.images
    assert (only.digest, only.unverified_path) == (HashAlg.SHA256.digest(b"loader"), "")
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.event.malformed-body", Effect.NOTES)


def test_an_application_from_a_firmware_volume() -> None:
    """A file in firmware is named by its GUID."""
    guid = bytes(range(16))
    path = b"\x04\x06\x14\x00" + guid + bytes.fromhex("7fff0400")
    (only,) = boot_applications(attested_log(image(4, path, b"shell"))).images
    assert only.unverified_file == "03020100-0504-0706-0809-0a0b0c0d0e0f"


def test_option_roms() -> None:
    """Drivers of add-in hardware are told, and what else stands in PCR 2 is counted (D13)."""
    seen = option_roms(
        attested_log(
            image(2, efi.file_path("\\rom"), b"rom", DRIVER),
            image(2, b"", b"late", EventType.EV_EFI_RUNTIME_SERVICES_DRIVER),
            Measurement(2, 0x8401, b"?"),
            separator(2),
            image(4, b"", b"loader"),
        )
    )
    assert seen.known
    assert [each.type for each in seen.images] == [
        DRIVER,
        EventType.EV_EFI_RUNTIME_SERVICES_DRIVER,
    ]
    assert seen.others == 1


def test_unattested_pcrs() -> None:
    """Without PCR 2 nobody knows of option ROMs; without PCR 4 nothing was started."""
    view = attested_log(image(2, b"", b"rom", DRIVER), image(4, b"", b"x"), attested=(7,))
    assert (option_roms(view).known, option_roms(view).images) == (False, ())
    assert boot_applications(view).images == ()


def test_a_ccel_has_no_register_of_option_roms() -> None:
    """In a CCEL, option ROMs and applications share a register and cannot be told apart."""
    view = attested_log(image(2, b"", b"x"), ccel=True)
    assert not option_roms(view).known
    assert len(boot_applications(view).images) == 1
