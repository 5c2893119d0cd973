"""What GRUB measured: strings, and files by digest."""

from __future__ import annotations

import pytest

from bootlease.bootstate.grub import MAX_FINDINGS, GRUBLabel, grub_commands
from bootlease.eventlog import EventType
from bootlease.model import Effect, HashAlg
from bootlease.testing.measurements import Measurement, attested_log

IPL = EventType.EV_IPL


@pytest.mark.parametrize(
    ("prefix", "label"),
    [
        (b"grub_cmd: ", GRUBLabel.COMMAND),
        (b"kernel_cmdline: ", GRUBLabel.KERNEL),
        (b"module_cmdline: ", GRUBLabel.MODULE),
        (b"grub_cmd ", GRUBLabel.COMMAND),
        (b"grub_kernel_cmdline ", GRUBLabel.KERNEL),
        (b"grub_module_cmdline ", GRUBLabel.MODULE),
    ],
)
@pytest.mark.parametrize("nul", [b"", b"\0"])
def test_strings(prefix: bytes, label: GRUBLabel, nul: bytes) -> None:
    """A string counts without its prefix, whether its digest is over its NUL or not."""
    view = attested_log(Measurement(8, IPL, prefix + b"set x=1\0", b"set x=1" + nul))
    seen = grub_commands(view)
    assert [(each.unverified_label, each.text) for each in seen.strings] == [(label, b"set x=1")]
    assert seen.findings == ()


@pytest.mark.parametrize(
    ("data", "measured"),
    [
        (b"grub_cmd: boot init=/bin/sh\0", b"boot"),
        (b"grub_cmd: boot", b"grub_cmd: boot"),
        (b"kernel_cmdline: /good\0init=/bin/sh", b"/good\0init=/bin/sh"),
    ],
)
def test_strings_that_were_not_measured_so(data: bytes, measured: bytes) -> None:
    """A string whose digest is over something else, or over its prefix too, is refused."""
    seen = grub_commands(attested_log(Measurement(8, IPL, data, measured)))
    assert seen.strings == ()
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.grub.altered-string", Effect.REFUSES)
    assert (finding.pcr, finding.event) == (8, 1)


def test_files() -> None:
    """Files are digests with a name that proves nothing."""
    view = attested_log(Measurement(9, IPL, b"(hd0,gpt1)/vmlinuz\0", b"a kernel"))
    (file,) = grub_commands(view).files
    assert file.digest == HashAlg.SHA256.digest(b"a kernel")
    assert file.unverified_name == "(hd0,gpt1)/vmlinuz"


def test_files_of_a_confidential_machine() -> None:
    """In a register that files share with others, a file is what has a path."""
    view = attested_log(
        Measurement(3, IPL, b"MokList\0", b"keys"),
        Measurement(3, IPL, b"/vmlinuz\0", b"a kernel"),
        ccel=True,
    )
    assert [file.unverified_name for file in grub_commands(view).files] == ["/vmlinuz"]


def test_only_attested_pcrs_count() -> None:
    """What was not quoted is not there."""
    view = attested_log(
        Measurement(8, IPL, b"grub_cmd: boot\0", b"boot"),
        Measurement(9, IPL, b"/vmlinuz\0", b"a kernel"),
        attested=[0, 4, 7],
    )
    seen = grub_commands(view)
    assert (seen.strings, seen.files, seen.findings) == ((), (), ())


def test_findings_are_bounded() -> None:
    """A log full of altered strings is refused in a few words."""
    view = attested_log(*[Measurement(8, IPL, b"grub_cmd: a", b"b")] * 100)
    assert len(grub_commands(view).findings) == MAX_FINDINGS
