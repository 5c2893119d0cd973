"""Kernel command lines as the kernel, systemd and shells read them."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootlease.bootstate.cmdline import MAX_COMMAND_LINE, other_readings, split_command_line
from bootlease.errors import MalformedError


def words(text: bytes) -> list[tuple[str, str | None]]:
    """Name and value of each parameter."""
    return [(parameter.name, parameter.value) for parameter in split_command_line(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"  \t\n ", []),
        (b"quiet ro", [("quiet", None), ("ro", None)]),
        (b" root=/dev/sda1  ro ", [("root", "/dev/sda1"), ("ro", None)]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=", [("a", "")]),
        (b"=a", [("=a", None)]),
        (b"=a=b", [("=a", "b")]),
        (b'dyndbg="file a.c +p" ro', [("dyndbg", "file a.c +p"), ("ro", None)]),
        (b'"dm=1 vroot none" ro', [("dm", "1 vroot none"), ("ro", None)]),
        (b'a="b c', [("a", "b c")]),
        (b'a="', [("a", "")]),
        (b'a=""', [("a", "")]),
        (b'"', [("", None)]),
        (b'""', [("", None)]),
        (b'"a b"', [("a b", None)]),
        (b'"a b"=c', [('a b"', "c")]),
        (b'"a="b" c"', [("a", 'b" c')]),
        (b'a=b" c"d', [("a", 'b" c"d')]),
        (b'a="b"c', [("a", 'b"c')]),
        (b"a='b c'", [("a", "'b"), ("c'", None)]),
        (b"a\xa0b\x0bc\x0cd\re", [("a", None), ("b", None), ("c", None), ("d", None), ("e", None)]),
        (b"good\0init=/bin/sh", [("good", None)]),
        (b"name=\xff", [("name", "\\xff")]),
    ],
)
def test_the_kernels_reading(text: bytes, expected: list[tuple[str, str | None]]) -> None:
    """Quotes, equals signs and blanks part a command line as they do in the kernel."""
    assert words(text) == expected


def test_what_follows_two_dashes_is_for_init() -> None:
    """Parameters behind "--" are told apart, and only the first "--" parts them."""
    parameters = split_command_line(b"ro -- single -- init=/x")
    assert [(str(parameter), parameter.for_init) for parameter in parameters] == [
        ("ro", False),
        ("single", True),
        ("--", True),
        ("init=/x", True),
    ]


def test_names_compare_without_regard_to_dashes() -> None:
    """The kernel takes "-" and "_" in a name for the same, and so does the key."""
    (parameter,) = split_command_line(b"module.sig-enforce=0")
    assert parameter.key == "module.sig_enforce"
    assert parameter.name == "module.sig-enforce"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (b'x="a init=/bin/sh b"', "init=/bin/sh"),
        (b'x="a init=/bin/sh"', "init=/bin/sh"),
        (b"'systemd.unit=rescue.target'", "systemd.unit=rescue.target"),
        (b"systemd.debug'-'shell", "systemd.debug-shell"),
        (b"a='b rd.break'", "a=b rd.break"),
    ],
)
def test_readings_that_the_kernel_does_not_share(text: bytes, hidden: str) -> None:
    """What systemd or a shell reads behind quotes is found, though the kernel does not see it."""
    assert hidden not in map(str, split_command_line(text))
    assert hidden in map(str, other_readings(text))


@pytest.mark.parametrize(
    "text", [b"", b"root=/dev/sda1 ro quiet", b"a -- b=c", b"init=/x console=a,b"]
)
def test_plain_lines_are_read_alike(text: bytes) -> None:
    """A line without quotes and odd blanks has one reading."""
    assert other_readings(text) == ()


@pytest.mark.parametrize("read", [split_command_line, other_readings])
def test_endless_lines_are_refused(read: object) -> None:
    """A line beyond every kernel's limit is refused, the longest one is read."""
    assert callable(read)
    read(b"a" * MAX_COMMAND_LINE)
    with pytest.raises(MalformedError):
        read(b"a" * (MAX_COMMAND_LINE + 1))


@pytest.mark.parametrize("unit", [b'"', b'a"', b" =", b"'\"", b"a ", b"\xa0="])
def test_hostile_lines_cost_little(unit: bytes) -> None:
    """The longest line of any pattern is read in a fraction of a second."""
    text = (unit * MAX_COMMAND_LINE)[:MAX_COMMAND_LINE]
    started = time.process_time()
    split_command_line(text)
    other_readings(text)
    assert time.process_time() - started < 0.5


PIECES = st.sampled_from([b'"', b"=", b" ", b"\t", b"a", b"b", b"--", b"'", b"\\", b"\xa0", b"-"])


@given(st.lists(PIECES, max_size=24).map(b"".join))
@example(b'""a')
@example(b'a=" "" b"')
def test_the_reading_agrees_with_a_walk_byte_by_byte(text: bytes) -> None:
    """Patterns and a state machine that goes byte by byte part every line alike."""
    expected = walked(text)
    if ("--", None) in expected:
        expected.remove(("--", None))
    assert words(text) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_read(text: bytes) -> None:
    """No bytes make a reader raise, and every piece is printable text or an escape of it."""
    for parameter in (*split_command_line(text), *other_readings(text)):
        assert parameter.name.encode().decode() == parameter.name


BLANKS = b"\t\n\v\f\r \xa0"


def walked(line: bytes) -> list[tuple[str, str | None]]:
    """Read a line byte by byte, holding the state that the kernel's description names."""
    found: list[tuple[str, str | None]] = []
    position = 0
    while True:
        while position < len(line) and line[position] in BLANKS:
            position += 1
        if position == len(line):
            return found
        opened = line[position] == ord('"')
        position += opened
        begin, inside, equals = position, opened, None
        while position < len(line) and (inside or line[position] not in BLANKS):
            if line[position] == ord('"'):
                inside = not inside
            elif line[position] == ord("=") and equals is None and position > begin:
                equals = position
            position += 1
        found.append(word(line[begin:position], opened, equals, begin))


def word(raw: bytes, opened: bool, equals: int | None, begin: int) -> tuple[str, str | None]:  # noqa: FBT001 - as walked
    """Part a word whose first "=" is at ``equals`` of the line."""
    if equals is None:
        return (raw[:-1] if opened and raw.endswith(b'"') else raw).decode(
            errors="backslashreplace"
        ), None
    name, value = raw[: equals - begin], raw[equals - begin + 1 :]
    if value.startswith(b'"'):
        value = value[1:].removesuffix(b'"')
    elif opened:
        value = value.removesuffix(b'"')
    return name.decode(errors="backslashreplace"), value.decode(errors="backslashreplace")
