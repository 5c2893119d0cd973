"""A TPM's make: vendor, model and firmware as its manufacturer certified them.

Specifications: TCG EK Credential Profile for TPM Family 2.0 §3.1.2 (tcg-at-tpmManufacturer, Model,
Version); TCG TPM Vendor ID Registry (four bytes, the vendor's letters filled up with blanks or
zeros).

The version is the firmware's when the certificate was made: what a TPM runs today may be newer.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

ANY_VENDOR: Final = "any"

_ID: Final = re.compile(r"id:[0-9A-Fa-f]{8}", re.ASCII)
_PATTERN: Final = re.compile(r"([^/]{1,64})/([^/]{1,128})/([^/]{1,128})")

_REGISTERED: Final = frozenset(
    {
        *("AMD", "ANT", "ATML", "BRCM", "CSCO", "FLYS", "GOOG", "HISI", "HPE", "HPI", "IBM"),
        *("IFX", "INTC", "LEN", "MSFT", "NSG", "NSM", "NTC", "NTZ", "QCOM", "ROCC", "SECE"),
        *("SEAL", "SIMA", "SMSC", "SMSN", "SNPS", "SNS", "STM", "TXN", "WEC"),
    }
)

SOFTWARE_VENDORS: Final = frozenset({"id:00001014", "id:49424D00", "id:49424D20", "id:58595A5A"})
"""IBM's PCI id, which swtpm_cert writes by default; "IBM", which libtpms and IBM's simulator
report; "XYZZ", which Microsoft's reference simulator reports."""

_SOFTWARE_MODELS: Final = ("swtpm", "libtpms", "sw tpm", "simulat", "xcg ftpm", "software")


class TPMIdentity(NamedTuple):
    """What a certificate says of the TPM's make (EK Credential Profile §3.1.2).

    A tuple, because it is part of keys of memos.

    Attributes:
        manufacturer: Vendor id as registered, for example ``id:53544D20`` for STMicroelectronics.
        model: The vendor's part name.
        version: Firmware version, for example ``id:00490004``.
    """

    manufacturer: str
    model: str
    version: str

    @property
    def vendor(self) -> str:
        """The vendor id in one spelling; the manufacturer as it is where it is no id."""
        return _canonical(self.manufacturer) or self.manufacturer

    @property
    def is_software(self) -> bool:
        """The TPM is a program that whoever runs it can copy (B16), as its certificate says.

        A virtual TPM of a cloud provider, under the provider's own id, is none of these: that
        provider is the manufacturer, and trusting its root is trusting it.
        """
        model = " ".join(self.model.casefold().split())
        return self.vendor in SOFTWARE_VENDORS or any(word in model for word in _SOFTWARE_MODELS)

    def __str__(self) -> str:
        """Return it as a pattern that means this make alone."""
        return f"{vendor_name(self.vendor)}/{self.model}/{self.version}"


def _canonical(manufacturer: str) -> str | None:
    return f"id:{manufacturer[3:].upper()}" if _ID.fullmatch(manufacturer) else None


def vendor_id(name: str) -> str:
    """Return the vendor id that an operator means by ``STM`` or ``id:53544D20``.

    Raises:
        ValueError: No vendor is registered under that name, and it is no id.
    """
    if known := _canonical(name):
        return known
    if name not in _REGISTERED:
        raise ValueError(
            f"{name!r:.80} is no TPM vendor: give its registered name, such as STM, or its id, such"
            " as id:53544D20"
        )
    # STM and NSM fill up with a blank, the others with zeros.
    fill = b" " if name in {"STM", "NSM"} else b"\0"
    return f"id:{name.encode().ljust(4, fill).hex().upper()}"


@functools.lru_cache(maxsize=256)
def vendor_name(vendor: str) -> str:
    """Return the registered name of a vendor id, the id itself where there is none."""
    return next((name for name in sorted(_REGISTERED) if vendor_id(name) == vendor), vendor)


@dataclass(frozen=True, slots=True)
class MakePattern:
    """Vendor, model and version, the latter two perhaps with an ``*`` at their end.

    Attributes:
        vendor: Vendor id.
        model: Model, or its beginning and ``*``.
        version: Version, or its beginning and ``*``.
    """

    vendor: str
    model: str
    version: str

    @classmethod
    def parse(cls, text: str) -> MakePattern:
        """Read ``VENDOR/MODEL/VERSION``.

        Raises:
            ValueError: It is not of that form.
        """
        parts = _PATTERN.fullmatch(text)
        if parts is None or not text.isprintable():
            raise ValueError(
                f"{text!r:.80} is not VENDOR/MODEL/VERSION, such as IFX/SLB9665/* or"
                " STM/ST33TPHF2ESPI/id:00470004"
            )
        if any("*" in part[:-1] for part in parts.groups()) or "*" in parts[1]:
            raise ValueError(f"{text!r:.80} may have * at the end of model and version only")
        return cls(vendor_id(parts[1]), parts[2], parts[3])

    def __str__(self) -> str:
        """Return the one spelling."""
        return f"{self.vendor}/{self.model}/{self.version}"

    def matches(self, make: TPMIdentity) -> bool:
        """Tell whether it means this make; letters' case counts for nothing."""
        return self.vendor == make.vendor and all(
            _covers(pattern.casefold(), text.casefold())
            for pattern, text in ((self.model, make.model), (self.version, make.version))
        )


def _covers(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
