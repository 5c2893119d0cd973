"""What helps against each kind of finding, and what puts each PCR right again."""

from __future__ import annotations

from typing import Final

_OTHER_LIST: Final = (
    "The IMA list does not show what the kernel measured: it was changed, withheld, or is of"
    " another boot. Reboot the node; if it comes again, take it out. It cannot be approved."
)

REMEDIES: Final = {
    "ima.replay-mismatch": _OTHER_LIST,
    ".replay-mismatch": (
        "Something extended a PCR after the events that the log has, or the log was altered."
        " Reboot the node; if it comes again, find what extends that PCR. It cannot be"
        " approved."
    ),
    ".separator-": (
        "The log does not end firmware's measurements as it must, so nobody can tell"
        " firmware's events from later ones. Update the firmware, or report it. It cannot be"
        " approved."
    ),
    ".phase-unexpected": (
        "The system asked too early or too late. Start the agent in a boot phase that"
        " boot.phases of the policy names."
    ),
    "eventlog.": (
        "Without a log that parses, nobody can tell what was booted. Look whether the node"
        " has /sys/kernel/security/tpm0/binary_bios_measurements, and boot it in a way that"
        " leaves one. It cannot be approved."
    ),
    "boot.": (
        "The log contradicts what was measured: somebody wrote it, or the firmware is at"
        " fault. Take the node out of service. It cannot be approved."
    ),
    "reference.not-valid": (
        "The reference has expired or does not count yet: register one that counts now."
    ),
    "reference.none": (
        "No reference set of an accepted name is registered: learn one from a boot that is good."
    ),
    "reference.name.": "The policy accepts a name that no registered set has: register one.",
    "reference.bank.": "The reference is of a bank that the policy does not demand: learn another.",
    "policy.report-only": (
        'The policy only reports: nothing is granted until its mode is "enforce".'
    ),
    "policy.scope.": (
        "Ask for what the policy grants, or change its Cedar policies (authorization.cedar): permit"
        " the scope. Where one is named that forbids it, no other permits it: change that one, or"
        " have the node meet what it asks for, such as a label (`bootlease verifier label`) or a"
        " key in the TPM (`bootlease node run --confirmation tpm`)."
    ),
    "policy.audience.": "Ask for what the policy grants, or add it to lease.audiences.",
    "policy.unsafe-bearer.denied": (
        "Ask for a CWT or JWT, whose holder proves possession. If the relying party cannot check"
        " that, name it in lease.unsafe_bearer_audiences, and know that a stolen token opens it."
    ),
    "policy.unsafe-bearer.granted": (
        "Have the relying party check possession, and ask for a JWT: a bearer token is worth"
        " stealing."
    ),
    "lease.level.unproven": (
        "Level 3 needs a key that the TPM lets expire (`bootlease node run --confirmation"
        " tpm-expiring`, and a join bundle with a leash_key), or ask for a lower level."
    ),
    "expiring-key.authority.mismatch": (
        "The verifier has another leash key than the node's join bundle: give the node a new bundle"
        " (`bootlease verifier bundle`) and start its agent again."
    ),
    "policy.findings.": "Mend what the other findings name, and ask again: the rest shows then.",
    "policy.leases.": "Ask for fewer leases at once, or raise lease.max_leases.",
    "policy.secure-boot.": (
        "Switch Secure Boot on in the firmware. The policy demands it (boot.secure_boot ="
        ' "required") whatever a reference says.'
    ),
    "policy.deployed-mode.": (
        "Put the firmware into deployed mode: boot.deployed_mode of the policy demands it."
    ),
    "policy.setup-mode.": (
        "Enrol a platform key: in setup mode anybody enrols keys (boot.unsafe_setup_mode)."
    ),
    "policy.audit-mode.": "Leave audit mode: it starts everything (boot.unsafe_setup_mode).",
    "policy.test-key.": (
        "Enrol keys of your own: the secret of these is public (boot.unsafe_test_keys)."
    ),
    "policy.debug-mode.": "Switch the firmware's debugger off (boot.unsafe_debug_mode).",
    "policy.dma-protection.": "Switch DMA protection on in the firmware (boot.unsafe_dma).",
    "policy.shim-validation.": (
        "Run `mokutil --enable-validation` and reboot (boot.unsafe_shim_validation)."
    ),
    "policy.option-rom.": (
        "Find the add-in hardware that brings the driver; take it out, or look at"
        " boot.option_roms of the policy."
    ),
    "policy.exit-boot-services.": (
        "Boot an operating system that leaves the firmware once (boot.exit_boot_services)."
    ),
    "reference.boot.dbx-old": (
        "Install the latest dbx (revoked boot loaders), for example with `fwupdmgr update`,"
        " and reboot."
    ),
    "reference.boot.sbat-": "Update shim, so that it refuses what it must, and reboot.",
    "ima.violation": (
        "A file was written while it was in use, so nobody knows what was loaded. Find out"
        " which, and reboot. It cannot be approved."
    ),
    "ima.signature.": "Sign the files with a key that an accepted set names, or list them.",
    "ima.reference.": (
        "Register an IMA set of an accepted name: `bootlease reference ima` makes one."
    ),
    "ima.list.missing": (
        "The node sent no IMA list. Look whether its kernel measures (boot parameters ima_policy="
        " and ima_hash=sha256), and whether the agent may read"
        " /sys/kernel/security/ima/binary_runtime_measurements. It cannot be approved."
    ),
    "ima.nothing-measured": (
        "The kernel extended nothing into PCR 10 of a bank that the policy demands. Boot it with"
        " ima_policy= and ima_hash=sha256. It cannot be approved."
    ),
    "ima.sha1-padding": "Run Linux 5.8 or later, which measures into every bank by its own hash.",
    "ima.bank-": (
        "The policy demands a bank that the kernel's list cannot be replayed in: look at"
        " quote.banks."
    ),
    "ima.boot-aggregate.unquoted": (
        "Nothing ties the list to this boot: quote.pcrs must have PCRs 0 to 9, in the bank that the"
        " kernel hashes by."
    ),
    "ima.pcr.unquoted": "An older agent is running, or another one: install this version's.",
    "ima.list.unasked": "An older agent is running, or another one: install this version's.",
    "ima.file.algorithm-mismatch": (
        "The node measures by another kind of digest than the sets list: boot it with the"
        " ima_hash= of the sets, or make them anew with --hash."
    ),
    "ima.buffer.algorithm-mismatch": (
        "The node measures by another kind of digest than the sets list: boot it with the"
        " ima_hash= of the sets, or learn them anew."
    ),
    "ima.file.": (
        "If nobody installed these files: take the node out of service, find who put them"
        " there and install it anew."
    ),
    "ima.buffer.": "If nobody meant these: take the node out of service.",
    "ima.": _OTHER_LIST,
    "clock.unsafe": (
        "The TPM lost power without a shutdown. It settles by itself within some minutes."
    ),
    "clock.": (
        "The TPM's counters went back: it was cleared, or its state was restored or copied. Only if"
        " you know that somebody cleared it: `bootlease verifier readmit NODE --reason TEXT`."
        " Otherwise take the node out of service: `bootlease revoke node NODE --reason TEXT`."
    ),
    "node.revoked": (
        "An operator revoked the node, or another one took its place. If it may come back:"
        " `bootlease verifier readmit NODE --reason TEXT`."
    ),
    "lineage.": "Nothing to do: the agent begins a new lineage by itself, with full evidence.",
    "lease.life.": "The answer came too late. Look at the node's clock, load and network.",
    "quote.": (
        "The quote does not show what it must: is an older agent running, or another TPM bank"
        " in use? It cannot be approved."
    ),
    "endorsement.": (
        "The TPM's endorsement does not stand any more. Look at the policy's [enrolment] and"
        " at the trusted roots."
    ),
    "enrolment.": (
        "The policy does not admit this TPM any more: look at its [enrolment]. If the machine has"
        " another mainboard or TPM, it is another node: `bootlease verifier replace OLD_NODE"
        " --join-token`."
    ),
}
"""By the first part of a finding's id, or, with a dot in front, any part: the first that fits."""

REPAIRS: Final = {
    0: "flash the firmware that was there before, or that the maker signed",
    1: "put firmware settings and boot order back",
    2: "take out the add-in hardware that came",
    3: "put the add-in hardware's settings back",
    4: "reinstall boot loader and kernel from the distribution",
    5: "put the partition table back",
    7: "put the state of Secure Boot and its keys back",
    8: "put GRUB's commands and the kernel command line back",
    9: "put the boot loader's configuration, kernel and initrd back",
    11: "boot the unified kernel image that was there before",
    12: "take away what the kernel image was handed beside itself",
    13: "take away the system extensions that came",
    14: "put the machine owner's keys back (`mokutil --list-enrolled`)",
}
"""What undoes a change, by the PCR that shows it."""
