"""The kernel calls that a leash is made of, which Python 3.11 does not have.

clone3(2) and clone(2), prctl(2), timer_create(2), timerfd_create(2), capset(2), mount(2),
mlockall(2), close_range(2); constants are those of the generic ABI (x86-64, AArch64, RISC-V).
Every call raises ``KernelError`` where the kernel refuses.

Nothing here is imported that the leash itself would have to carry: it runs in an interpreter of
its own beside each workload. So no dataclasses, no typing at run time.

Not handled: kernels before 5.6, and architectures whose constants are their own (MIPS, SPARC,
Alpha, PA-RISC).
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

CLONE_PIDFD: Final = 0x1000
CLONE_NEWNS: Final = 0x20000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
_CLONE_INTO_CGROUP: Final = 0x200000000

CAP_SYS_ADMIN: Final = 21

CLOCK_REALTIME: Final = 0
CLOCK_BOOTTIME: Final = 7

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000

_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_SYS_SCHED_SETATTR: Final = {"x86_64": 314}
_SYS_SCHED_SETATTR_ELSEWHERE: Final = 274
_SYS_CLONE3: Final = 435
_SYS_CLOSE_RANGE: Final = 436

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63

_TIMER_ABSTIME: Final = 1
_TFD_TIMER_CANCEL_ON_SET: Final = 2
_TFD_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK
_SIGEV_SIGNAL: Final = 0
_MCL_CURRENT_FUTURE_ONFAULT: Final = 1 | 2 | 4
_SLICE_NS: Final = 100_000
_BPF_INSTRUCTION: Final = 8
_NS: Final = 1_000_000_000

# PyDLL keeps the interpreter's lock, which a child made by a bare clone could not take.
_libc: Final = ctypes.PyDLL(None, use_errno=True)


class KernelError(OSError):
    """The kernel refused a call; ``filename`` names it."""


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


class _SignalEvent(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    ]


class _TimerSpec(ctypes.Structure):
    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


class _SchedulingAttributes(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for half in ("low", "high")
        for name in (f"effective_{half}", f"permitted_{half}", f"inheritable_{half}")
    ]


def _call(name: str, *arguments: object) -> int:
    return _checked(getattr(_libc, name)(*arguments), name)


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise KernelError(number, os.strerror(number), name)
    return result


def _long(value: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(value)


def clone(flags: int, *, exit_signal: int, cgroup: int | None = None) -> tuple[int, int]:
    """Make a child process in new namespaces.

    In the child nothing of Python's that belongs to a fork has happened: it must call an
    ``exec`` function or ``os._exit`` and little else. The caller has one thread.

    Args:
        flags: ``CLONE_NEW…``.
        exit_signal: What tells the parent of the child's end.
        cgroup: Descriptor of the cgroup v2 folder that the child begins in.

    Returns:
        The child's pid and a pidfd for it; in the child (0, -1).

    Raises:
        KernelError: ENOSYS with a ``cgroup`` where clone3 is not there.
    """
    pidfd = ctypes.c_int(-1)
    asked = _CloneArguments(
        flags=flags | CLONE_PIDFD | (0 if cgroup is None else _CLONE_INTO_CGROUP),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=exit_signal,
        cgroup=cgroup or 0,
    )
    size = ctypes.sizeof(asked)
    pid = _libc.syscall(_long(_SYS_CLONE3), ctypes.byref(asked), _long(size))
    if pid < 0 and ctypes.get_errno() == errno.ENOSYS and cgroup is None:
        # Container runtimes hide clone3, whose flags their filters cannot see.
        pid = _old_clone(flags | CLONE_PIDFD | exit_signal, pidfd)
    _checked(pid, "clone")
    return pid, -1 if pid == 0 else pidfd.value


def _old_clone(flags: int, pidfd: ctypes.c_int) -> int:
    number = _SYS_CLONE.get(os.uname().machine)
    if number is None:
        raise KernelError(errno.ENOSYS, os.strerror(errno.ENOSYS), "clone")
    zero = _long(0)
    made: int = _libc.syscall(_long(number), _long(flags), zero, ctypes.byref(pidfd), zero, zero)
    return made


def _prctl(option: int, value: int, more: int = 0) -> None:
    _call("prctl", option, _long(value), _long(more), _long(0), _long(0))


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def forbid_tracing() -> None:
    """Keep processes of the same user from tracing this one or reading its memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def allow_tracing() -> None:
    """Take ``forbid_tracing`` back: its files in /proc are then its user's own, to write too."""
    _prctl(_PR_SET_DUMPABLE, 1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Let no later exec, of a set-uid program say, gain a privilege."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def filter_system_calls(program: bytes) -> None:
    """Have a BPF program judge every later system call, also of what is executed (seccomp(2)).

    New privileges must have been forbidden.
    """
    given = _FilterProgram(len(program) // _BPF_INSTRUCTION, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(given))


def keep_capabilities() -> None:
    """Take every capability that this process has through its next exec (capabilities(7))."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = _CapabilityData()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    data.inheritable_low, data.inheritable_high = data.permitted_low, data.permitted_high
    _call("capset", ctypes.byref(header), ctypes.byref(data))
    permitted = data.permitted_low | data.permitted_high << 32
    for number in range(_LAST_CAPABILITY + 1):
        if permitted >> number & 1:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def capable(number: int) -> bool:
    """Tell whether this process has a capability in effect."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = _CapabilityData()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    return bool((data.effective_low | data.effective_high << 32) >> number & 1)


def drop_capabilities(kept: Iterable[int]) -> None:
    """Give up every capability that is not ``kept``, also for what is executed later.

    Ambient and inheritable ones all go.
    """
    mask = sum(1 << number for number in kept)
    for number in range(_LAST_CAPABILITY + 1):
        if not mask >> number & 1:
            try:
                _prctl(_PR_CAPBSET_DROP, number)
            except KernelError as exc:
                if exc.errno == errno.EINVAL:  # beyond the kernel's last one
                    break
                raise
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = _CapabilityData()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    for half, part in (("low", mask & 0xFFFFFFFF), ("high", mask >> 32)):
        for kind in ("effective", "permitted"):
            name = f"{kind}_{half}"
            setattr(data, name, getattr(data, name) & part)
        setattr(data, f"inheritable_{half}", 0)
    _call("capset", ctypes.byref(header), ctypes.byref(data))


def mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    """Add to, or change, what this process's namespace has mounted (mount(2))."""
    given = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", *given, _long(flags), None)


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` up."""
    closed = _libc.syscall(_long(_SYS_CLOSE_RANGE), _long(first), _long(0xFFFFFFFF), _long(0))
    if closed < 0:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def lock_memory() -> None:
    """Keep the pages of this process, as they are touched, from being taken away."""
    _call("mlockall", _MCL_CURRENT_FUTURE_ONFAULT)


def ask_for_short_slice(pid: int = 0) -> None:
    """Have a process run soon after it wakes, and briefly (sched_setattr(2); Linux 6.12).

    Any user may. ``os.sched_setscheduler`` undoes it.
    """
    size = ctypes.sizeof(_SchedulingAttributes)
    nice = os.getpriority(os.PRIO_PROCESS, pid)
    asked = _SchedulingAttributes(size=size, policy=os.SCHED_OTHER, nice=nice, runtime=_SLICE_NS)
    number = _long(_SYS_SCHED_SETATTR.get(os.uname().machine, _SYS_SCHED_SETATTR_ELSEWHERE))
    _checked(_libc.syscall(number, _long(pid), ctypes.byref(asked), _long(0)), "sched_setattr")


def _spec(at_ns: int) -> _TimerSpec:
    # A time of 0 would switch the timer off; what has passed fires at once, as 1 ns does.
    seconds, rest = divmod(max(1, at_ns), _NS)
    return _TimerSpec(0, 0, seconds, rest)


class TimerFD:
    """A timer that makes a descriptor readable at a time of ``clock`` (timerfd_create(2)).

    Args:
        clock: ``CLOCK_BOOTTIME`` or ``CLOCK_REALTIME``; the second also becomes readable when
            somebody sets the clock.
    """

    def __init__(self, clock: int) -> None:
        self._cancels = _TFD_TIMER_CANCEL_ON_SET if clock == CLOCK_REALTIME else 0
        self._fd = _call("timerfd_create", clock, _TFD_FLAGS)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def set(self, at_ns: int) -> None:
        """Fire at ``at_ns``, absolute, instead of any time set before."""
        flags = _TIMER_ABSTIME | self._cancels
        spec = _spec(at_ns)
        try:
            _call("timerfd_settime", self._fd, flags, ctypes.byref(spec), None)
        except KernelError as exc:
            # The clock was set since the last read; the new time stands all the same.
            if exc.errno != errno.ECANCELED:
                raise

    def clear(self) -> bool:
        """Make the descriptor unreadable again; True where the clock was set meanwhile."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno != errno.ECANCELED:
                raise
            return True
        return False

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


class SignalTimer:
    """A timer with which the kernel sends a signal to this process (timer_create(2)).

    With SIGCONT and SIGKILL it needs nothing of the process, and works on one that is stopped too:
    the first lets it go on, the second ends it. The first process of a pid namespace is shielded
    from the second. It is never switched off, only set to another time.

    Args:
        clock: ``CLOCK_BOOTTIME`` or ``CLOCK_REALTIME``.
        signal: What is sent.
    """

    def __init__(self, clock: int, signal: int) -> None:
        event = _SignalEvent(signo=signal, notify=_SIGEV_SIGNAL)
        self._id = ctypes.c_void_p()
        _call("timer_create", clock, ctypes.byref(event), ctypes.byref(self._id))

    def set(self, at_ns: int) -> None:
        """Fire at ``at_ns``, absolute, instead of any time set before."""
        _call("timer_settime", self._id, _TIMER_ABSTIME, ctypes.byref(_spec(at_ns)), None)
