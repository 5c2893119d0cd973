"""Every command line a kernel may have been given, and what hides one."""

from __future__ import annotations

import struct
import time

import pytest

from bootlease.bootstate.cmdline import MAX_COMMAND_LINE
from bootlease.bootstate.kernel import (
    MAX_LINES,
    CommandLine,
    KernelCommandLines,
    LineSource,
    kernel_command_lines,
)
from bootlease.eventlog import EventType
from bootlease.testing.measurements import Measurement, attested_log

IPL = EventType.EV_IPL
TAG = EventType.EV_EVENT_TAG
SEPARATOR = EventType.EV_SEPARATOR

ARGUMENTS = b"/vmlinuz root=/dev/sda1 ro"
EVIL = b"/vmlinuz root=/dev/sda1 ro init=/bin/sh"


def grub(prefix: bytes, text: bytes, pcr: int = 8) -> Measurement:
    """A string as GRUB measures and logs it."""
    return Measurement(pcr, IPL, prefix + text + b"\0", text)


def wide(text: bytes, pcr: int = 12, nul: bytes = b"\0\0") -> Measurement:
    """A command line as systemd-boot and systemd-stub measure it."""
    data = text.decode().encode("utf-16-le")
    return Measurement(pcr, IPL, data + b"\0\0", data + nul)


def load_options(text: bytes, nul: bytes = b"\0\0") -> Measurement:
    """A kernel's measurement of its load options."""
    name = b"LOADED_IMAGE::LoadOptions\0"
    measured = text.decode().encode("utf-16-le") + nul
    return Measurement(9, TAG, struct.pack("<II", 0x8F3B22ED, len(name)) + name, measured)


def section(name: str, content: bytes) -> tuple[Measurement, Measurement]:
    """A section of a unified kernel image."""
    logged = f"{name}\0".encode("utf-16-le")
    return (
        Measurement(11, IPL, logged, name.encode() + b"\0"),
        Measurement(11, IPL, logged, content),
    )


BOOT = (
    grub(b"grub_cmd: ", b"set root=hd0,gpt1"),
    grub(b"grub_cmd: ", b"linux " + ARGUMENTS),
    Measurement(9, IPL, b"/vmlinuz\0", b"a kernel"),
    grub(b"kernel_cmdline: ", ARGUMENTS),
    grub(b"grub_cmd: ", b"initrd /initrd.img"),
    grub(b"grub_cmd: ", b"boot"),
)


def texts(seen: KernelCommandLines) -> list[bytes | None]:
    """The text of each line."""
    return [line.text for line in seen.lines]


def test_a_boot_by_grub() -> None:
    """GRUB's kernel command line is the only line, in the form that the kernel gets it."""
    seen = kernel_command_lines(attested_log(*BOOT))
    (line,) = seen.lines
    assert (line.event, line.pcr, line.source) == (4, 8, LineSource.GRUB)
    assert line.text == b"BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro"
    assert line.image == "/vmlinuz"
    assert [str(parameter) for parameter in line.parameters] == ["root=/dev/sda1", "ro"]
    assert seen.complete


@pytest.mark.parametrize("prefix", [b"kernel_cmdline: ", b"module_cmdline: "])
def test_the_first_word_is_left_out_only_where_it_is_an_image(prefix: bytes) -> None:
    """A multiboot line has none, and a command has its name there: a label cannot hide either."""
    for text in (b"init=/bin/sh ro", b"set root=hd1"):
        (line,) = kernel_command_lines(attested_log(grub(prefix, text))).lines
        assert line.image is None
        assert [str(each) for each in line.parameters] == text.decode().split()
    (line,) = kernel_command_lines(attested_log(grub(prefix, b"(hd0,gpt2)/vmlinuz ro"))).lines
    assert line.image == "(hd0,gpt2)/vmlinuz"
    assert [str(each) for each in line.parameters] == ["ro"]


def test_a_command_that_hands_over_no_image_hides_no_parameter() -> None:
    """The same holds where the line is read from the command."""
    (line,) = kernel_command_lines(attested_log(grub(b"grub_cmd: ", b"linux init=/x ro"))).lines
    assert [str(each) for each in line.parameters] == ["init=/x", "ro"]


def test_quotes_do_not_make_two_lines() -> None:
    """GRUB puts quotes into the command line and not into the command; both are one line."""
    seen = kernel_command_lines(
        attested_log(
            grub(b"grub_cmd: ", b"linux /k dm=1 vroot none ro"),
            grub(b"kernel_cmdline: ", b'/k "dm=1 vroot none" ro'),
        )
    )
    (line,) = seen.lines
    assert [str(parameter) for parameter in line.parameters] == ["dm=1 vroot none", "ro"]


@pytest.mark.parametrize(
    ("what", "events"),
    [
        ("as a command", [grub(b"grub_cmd: ", EVIL), grub(b"kernel_cmdline: ", ARGUMENTS)]),
        ("as a module", [grub(b"module_cmdline: ", EVIL), grub(b"kernel_cmdline: ", ARGUMENTS)]),
        ("as text", [Measurement(8, IPL, EVIL), grub(b"kernel_cmdline: ", ARGUMENTS)]),
        ("as an action", [Measurement(8, EventType.EV_ACTION, EVIL)]),
        ("as a separator", [Measurement(8, SEPARATOR, EVIL)]),
        ("of another type", [Measurement(8, 0xBEEF, EVIL)]),
        ("behind a good one", [grub(b"kernel_cmdline: ", EVIL), *BOOT]),
        ("only as a command", [grub(b"grub_cmd: ", b"linux " + EVIL)]),
        ("of an EFI stub", [wide(EVIL)]),
        ("as a device tree", [Measurement(12, TAG, EVIL.decode().encode("utf-16-le"))]),
    ],
)
def test_a_command_line_under_another_name(what: str, events: list[Measurement]) -> None:
    """What a kernel was given is among the lines, whatever the log calls it (attack D16)."""
    del what
    seen = kernel_command_lines(attested_log(*events))
    assert any("init=/bin/sh" in map(str, line.parameters) for line in seen.lines)


@pytest.mark.parametrize(
    "event",
    [
        Measurement(8, IPL, b"kernel_cmdline: " + ARGUMENTS, EVIL),
        Measurement(8, IPL, b"grub_cmd: boot", EVIL),
        Measurement(8, IPL, b"kernel_cmdline: " + ARGUMENTS, b"kernel_cmdline: " + ARGUMENTS),
        Measurement(8, SEPARATOR, bytes(4), EVIL),
        Measurement(8, 0xBEEF, b"", EVIL),
        Measurement(8, IPL, b"kernel_cmdline: " + b"x" * MAX_COMMAND_LINE, b"x" * MAX_COMMAND_LINE),
        Measurement(8, IPL, b"x" * (MAX_COMMAND_LINE + 1)),
        Measurement(12, IPL, "Credentials initrd\0".encode("utf-16-le"), EVIL),
        Measurement(12, IPL, b"\xff\xfe\xff"),
        Measurement(12, IPL, b""),
    ],
)
def test_what_cannot_be_read_is_named(event: Measurement) -> None:
    """A measurement whose text is not proven may have been a command line: nothing is complete."""
    seen = kernel_command_lines(attested_log(event))
    assert seen.unread == (1,)
    assert seen.lines == ()
    assert not seen.complete


def test_ascii_is_never_read_as_utf16() -> None:
    """An even number of ASCII characters is text, though it is UTF-16 of other characters too."""
    seen = kernel_command_lines(attested_log(Measurement(8, IPL, b"init=/bin/sh")))
    assert texts(seen) == [b"init=/bin/sh"]


@pytest.mark.parametrize(
    "event",
    [
        Measurement(8, SEPARATOR, bytes(4)),
        Measurement(12, SEPARATOR, b"WBCL"),
        Measurement(12, TAG, b"\1\0\1\x40" + struct.pack("<I", 9) + b"\1\0\4\0\1\0\0\0\0"),
    ],
)
def test_what_is_no_command_line(event: Measurement) -> None:
    """Separators and Windows' containers are known by their bytes, and hide nothing."""
    seen = kernel_command_lines(attested_log(event))
    assert (seen.lines, seen.unread) == ((), ())


@pytest.mark.parametrize("nul", [b"", b"\0\0"])
def test_lines_of_systemd(nul: bytes) -> None:
    """The stub measures what was passed to it, with a NUL or without, and again what it appends."""
    seen = kernel_command_lines(
        attested_log(wide(b" quiet ", nul=nul), wide(b" quiet ", nul=nul), wide(b"debug", nul=nul))
    )
    assert texts(seen) == [b" quiet ", b"debug"]
    assert {line.source for line in seen.lines} == {LineSource.STUB}
    assert seen.complete


def test_a_line_of_old_systemd_boot() -> None:
    """systemd-boot measured into PCR 8 once, and logged one byte of the NUL."""
    data = "quiet ro".encode("utf-16-le")
    event = Measurement(8, IPL, data + b"\0", data + b"\0\0")
    seen = kernel_command_lines(attested_log(event))
    assert texts(seen) == [b"quiet ro"]
    assert seen.lines[0].source is LineSource.LOADER


@pytest.mark.parametrize(
    ("given", "nul"),
    [(b"BOOT_IMAGE=" + ARGUMENTS, b""), (b"BOOT_IMAGE=" + ARGUMENTS, b"\0\0")],
)
def test_load_options_confirm_a_line(given: bytes, nul: bytes) -> None:
    """The kernel's own measurement marks the line that it was started with."""
    seen = kernel_command_lines(attested_log(*BOOT, load_options(given, nul)))
    (line,) = seen.lines
    assert line.confirmed_by == len(BOOT) + 1
    assert seen.complete


def test_load_options_that_no_line_explains() -> None:
    """Load options of another text are a line of their own, whose text is unknown."""
    seen = kernel_command_lines(attested_log(*BOOT, load_options(EVIL)))
    assert [line.source for line in seen.lines] == [LineSource.GRUB, LineSource.LOAD_OPTIONS]
    assert texts(seen)[1] is None
    assert seen.lines[1].parameters == ()
    assert not seen.complete


UKI = (*section(".linux", b"kernel"), *section(".cmdline", b"root=/dev/sda1 ro\n"))


@pytest.mark.parametrize(
    ("known", "text"),
    [([b"root=/dev/sda1 ro"], b"root=/dev/sda1 ro"), ([b"other"], None), ([], None)],
)
def test_a_unified_kernel_image(known: list[bytes], text: bytes | None) -> None:
    """The line of an image is a digest, until somebody knows its text."""
    view = attested_log(*UKI, load_options(b"root=/dev/sda1 ro"))
    seen = kernel_command_lines(view, known)
    assert seen.lines[0].source is LineSource.UKI_SECTION
    assert set(texts(seen)) == {text}
    assert seen.complete is (text is not None)
    assert len(seen.lines) == (1 if text else 2)


def test_what_the_stub_appends() -> None:
    """The kernel's load options are the image's line and the add-ons behind it."""
    view = attested_log(*UKI, wide(b"debug"), load_options(b"root=/dev/sda1 ro debug"))
    seen = kernel_command_lines(view, [b"root=/dev/sda1 ro"])
    assert texts(seen) == [b"debug", b"root=/dev/sda1 ro", b"root=/dev/sda1 ro debug"]
    assert seen.complete


def test_pcrs_that_were_not_quoted() -> None:
    """What nobody quoted cannot be complete, and is named."""
    seen = kernel_command_lines(attested_log(*BOOT, attested=[4, 8, 9]))
    assert len(seen.lines) == 1
    assert seen.unattested == (11, 12)
    assert not seen.complete
    assert kernel_command_lines(attested_log(*BOOT, attested=[4])).lines == ()


def test_lines_of_a_confidential_machine() -> None:
    """In a CCEL strings and files share a register, so that files are among what is not read."""
    events = [
        Measurement(3, each.type, each.data, each.measured)
        for each in (*BOOT, load_options(b"BOOT_IMAGE=" + ARGUMENTS))
    ]
    seen = kernel_command_lines(attested_log(*events, ccel=True))
    assert texts(seen) == [b"BOOT_IMAGE=" + ARGUMENTS]
    assert seen.lines[0].confirmed_by == len(BOOT) + 1
    assert seen.unread == (3,)


def test_an_image_of_a_confidential_machine() -> None:
    """The names of an image's sections are understood in the register that holds them."""
    events = [Measurement(3, each.type, each.data, each.measured) for each in UKI]
    seen = kernel_command_lines(attested_log(*events, ccel=True), [b"root=/dev/sda1 ro"])
    assert texts(seen) == [b"root=/dev/sda1 ro"]


def test_other_readings_reach_through() -> None:
    """A line tells what user space reads behind its quotes."""
    seen = kernel_command_lines(attested_log(grub(b"kernel_cmdline: ", b'/k x="a init=/bin/sh"')))
    (line,) = seen.lines
    assert "init=/bin/sh" not in map(str, line.parameters)
    assert "init=/bin/sh" in map(str, line.other_readings)


@pytest.mark.parametrize(("length", "too_long"), [(2047, False), (2048, True)])
def test_lines_that_the_kernel_cuts(length: int, too_long: bool) -> None:  # noqa: FBT001 - as given
    """A line of 2,048 bytes loses its end in the kernel."""
    line = CommandLine(1, 12, LineSource.STUB, b"a" * length, b"")
    assert line.too_long is too_long


def test_no_log_costs_more_than_a_moment() -> None:
    """Thousands of long lines and load options are read in bounded time."""
    long = (b'a="' * 1000)[:2000]
    events = [
        *(wide(long + str(number).encode()) for number in range(2000)),
        *(load_options(str(number).encode()) for number in range(2000)),
    ]
    view = attested_log(*events)
    started = time.perf_counter()
    seen = kernel_command_lines(view, [b"known"])
    assert time.perf_counter() - started < 2
    assert len(seen.lines) <= 2 * MAX_LINES
    assert len(seen.unread) == 4000 - len(seen.lines)
