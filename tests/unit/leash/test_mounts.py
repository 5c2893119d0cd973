"""Reading what is mounted."""

from __future__ import annotations

from bootlease.leash.mounts import Mount, mounted


def test_line_is_taken_apart() -> None:
    """Optional fields are stepped over, and what is written in octal is read."""
    line = (
        "36 35 98:0 /mnt\\0401 /sys/fs/cg\\040roup rw,nosuid,relatime master:1 shared:3 - cgroup"
        " cgroup rw,freezer,cpu"
    )
    mount = Mount(line)
    assert (mount.root, mount.point) == ("/mnt 1", "/sys/fs/cg roup")
    assert mount.options == ["rw", "nosuid", "relatime"]
    assert mount.kind == "cgroup"
    assert mount.controllers == {"rw", "freezer", "cpu"}


def test_own_mounts_are_read() -> None:
    """This process's mounts have a /proc among them."""
    assert "proc" in {mount.kind for mount in mounted() if mount.point == "/proc"}
