"""Kernel command lines, split into parameters the way each of their readers does.

Sources: Linux lib/cmdline.c (next_arg), kernel/params.c (parse_args), lib/ctype.c (isspace, to
which byte A0 is a blank too); systemd src/basic/proc-cmdline.c and extract-word.c; the
``for x in $(cat /proc/cmdline)`` of initramfs-tools.

    kernel    blanks outside double quotes part words; a quote that begins the word or its value,
              and one that ends it, are dropped; "name=value" parts at the first "=" that is not
              the word's first byte; what follows "--" is for init
    systemd   blanks outside single or double quotes part words; all quotes are dropped
    shell     blanks part words, whatever the quotes

The three disagree on purpose-made text: ``x="a init=/bin/sh"`` is one harmless parameter to the
kernel and an order to a shell. Who forbids a parameter has to look through all readings.

Not handled: bootconfig, CONFIG_CMDLINE (part of the kernel image), and the prefix matching of
some early parameters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL_LIMIT: Final = 2048
"""COMMAND_LINE_SIZE of x86 and arm64, its NUL included: the kernel cuts what goes beyond."""

MAX_COMMAND_LINE: Final = 4096
"""Bytes of a command line that is split at all: COMMAND_LINE_SIZE of s390, the largest default."""

_KERNEL_WORD: Final = re.compile(rb'(?:[^\t-\r \xa0"]+|"[^"]*(?:"|\Z))+')
_SYSTEMD_WORD: Final = re.compile(rb"""(?:[^\t\n\r "']+|"[^"]*(?:"|\Z)|'[^']*(?:'|\Z))+""")
_SHELL_WORD: Final = re.compile(rb"[^\t\n ]+")
_READ_DIFFERENTLY: Final = re.compile(rb"[\"'\v\f\r\xa0]|(?:\A|[\t-\r ])=")
_QUOTES: Final = b"\"'"
_QUOTE: Final = ord('"')


class Parameter(NamedTuple):
    """One parameter of a command line; a tuple, because a cold appraisal makes dozens.

    Attributes:
        name: As written; bytes that are not UTF-8 are shown as escapes.
        value: What follows "=", without the quotes around it; ``None`` without "=".
        for_init: It stands behind "--", where the kernel hands it to init unread.
    """

    name: str
    value: str | None
    for_init: bool = False

    @property
    def key(self) -> str:
        """The name as the kernel and systemd compare it: "-" and "_" are the same."""
        return self.name.replace("-", "_")

    def __str__(self) -> str:
        """Return ``name`` or ``name=value``, without quotes."""
        return self.name if self.value is None else f"{self.name}={self.value}"


def split_command_line(text: bytes) -> tuple[Parameter, ...]:
    """Split a command line as the Linux kernel does.

    Args:
        text: The command line; a NUL ends it.

    Raises:
        MalformedError: It is longer than ``MAX_COMMAND_LINE``.
    """
    parameters: list[Parameter] = []
    for_init = False
    for match in _KERNEL_WORD.finditer(_terminated(text)):
        name, value = _next_arg(match[0])
        if not for_init and name == b"--" and value is None:
            for_init = True
            continue
        parameters.append(_parameter(name, value, for_init=for_init))
    return tuple(parameters)


def other_readings(text: bytes) -> tuple[Parameter, ...]:
    """Return the parameters that systemd or a shell script sees and the kernel does not.

    Args:
        text: The command line; a NUL ends it.

    Raises:
        MalformedError: It is longer than ``MAX_COMMAND_LINE``.
    """
    line = _terminated(text)
    if not _READ_DIFFERENTLY.search(line):
        return ()
    seen = {(parameter.name, parameter.value) for parameter in split_command_line(line)}
    others: dict[tuple[str, str | None], Parameter] = {}
    for word in _other_words(line):
        name, equals, value = word.partition(b"=")
        parameter = _parameter(name, value if equals else None, for_init=False)
        identity = (parameter.name, parameter.value)
        if identity not in seen and word != b"--":
            others.setdefault(identity, parameter)
    return tuple(others.values())


def _other_words(line: bytes) -> Iterator[bytes]:
    for match in _SYSTEMD_WORD.finditer(line):
        yield match[0].translate(None, _QUOTES)
    for match in _SHELL_WORD.finditer(line):
        yield match[0]
        # dracut's shell library drops the quotes that the split left over.
        if bare := match[0].translate(None, _QUOTES):
            yield bare


def _terminated(text: bytes) -> bytes:
    line = text.partition(b"\0")[0]
    if len(line) > MAX_COMMAND_LINE:
        raise MalformedError(f"a kernel command line of {len(line)} bytes")
    return line


def _next_arg(word: bytes) -> tuple[bytes, bytes | None]:
    """Part one word into name and value, quote by quote as next_arg does."""
    quoted = word[0] == _QUOTE
    if quoted:
        word = word[1:]
    end = len(word)
    closed = end > 0 and word[-1] == _QUOTE
    equals = word.find(b"=", 1)
    if equals < 0:
        return word[: end - 1 if quoted and closed else end], None
    start = equals + 1
    if start < end and word[start] == _QUOTE:
        return word[:equals], word[start + 1 : end - 1 if closed else end]
    return word[:equals], word[start : end - 1 if quoted and closed else end]


def _parameter(name: bytes, value: bytes | None, *, for_init: bool) -> Parameter:
    return Parameter(_text(name), None if value is None else _text(value), for_init)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
