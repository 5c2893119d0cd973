"""A monitor against a ledger that tells the truth, and against each way to lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bootlease.errors import TransportError
from bootlease.ledger import Frontier, extend, leaf_hash
from bootlease.ledger.governance import CHECKPOINT, LEDGER_OPENED, GovernanceRecord
from bootlease.ledger.leaf import encode_leaf
from bootlease.monitor import LogSource, Monitor, MonitorState
from bootlease.monitor.alarms import AlarmError
from bootlease.monitor.following import Round
from bootlease.testing.memory_ledger import InProcess, MemoryLedger, ledger_app, made_leaf

URL = "https://verifier.example"


class Follower:
    """A monitor and what it remembers."""

    def __init__(self, ledger: MemoryLedger, *, reread: int | None = 16) -> None:
        self.transport = InProcess(ledger_app(ledger))
        self.monitor = Monitor(
            LogSource(URL, transport=self.transport), ledger.signer.key, reread=reread
        )
        self.state = MonitorState(ledger.vkey)

    def look(self) -> Round:
        """Look once and remember."""
        seen = self.monitor.look(self.state)
        self.state = seen.state
        return seen

    def move(self, ledger: MemoryLedger) -> None:
        """Be shown another ledger from now on."""
        self.transport = InProcess(ledger_app(ledger))
        self.monitor = Monitor(LogSource(URL, transport=self.transport), ledger.signer.key)

    def alarm(self) -> AlarmError:
        """Look, and return the alarm that this must raise."""
        with pytest.raises(AlarmError) as caught:
            self.look()
        return caught.value


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger of 600 entries: two full bundles and a part of one."""
    ledger = MemoryLedger()
    ledger.grow(599)
    return ledger


@pytest.fixture
def follower(ledger: MemoryLedger) -> Follower:
    """A monitor that has read all of it."""
    follower = Follower(ledger)
    follower.look()
    return follower


def alarm_id(error: AlarmError) -> str:
    """Return the finding's id."""
    assert len(error.findings) == 1
    return error.findings[0].id


def test_it_grows_the_same_tree_from_entries_alone(ledger: MemoryLedger) -> None:
    """Its root is the signed one, and it asked for entries, not for tiles."""
    follower = Follower(ledger)
    seen = follower.look()
    assert seen.new == 600
    assert follower.state.shards[0].tree.root() == ledger.current.root(600)
    assert not any("/tile/0" in path for path in follower.transport.requests)


@pytest.mark.parametrize("steps", [[1], [255, 1, 1], [256], [3, 700, 40], [1, 1, 1, 1]])
def test_growth_in_any_steps_ends_in_the_signed_root(steps: list[int]) -> None:
    """Whatever the sizes between looks, bundles that are read twice included."""
    ledger = MemoryLedger()
    follower = Follower(ledger)
    for step in steps:
        ledger.grow(step)
        seen = follower.look()
        assert seen.state.shards[0].tree.size == len(ledger.current.leaves)
    assert follower.look().new == 0


def test_old_entries_are_read_again_in_turn(ledger: MemoryLedger) -> None:
    """With one bundle a round, three rounds read all three; the first round has none to read."""
    follower = Follower(ledger, reread=1)
    assert [follower.look().reread for _ in range(4)] == [0, 256, 256, 88]
    assert follower.state.reread_bundle == 0


def test_all_old_entries_are_read_again_on_demand(ledger: MemoryLedger, follower: Follower) -> None:
    """Without a bound, one round reads everything."""
    everything = Monitor(
        LogSource(URL, transport=follower.transport), ledger.signer.key, reread=None
    )
    assert everything.look(follower.state).reread == 600


def test_shards_are_followed_and_their_chain_checked(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """A second shard that continues the first is read from its opening on."""
    ledger.open_shard("2026-12")
    ledger.grow(300)
    seen = follower.look()
    assert seen.new == 301
    assert [(shard.name, shard.closed) for shard in seen.state.shards] == [
        ("2026-11", True),
        ("2026-12", False),
    ]


def other_history(ledger: MemoryLedger, count: int, *, at: int) -> MemoryLedger:
    """Return a ledger with the same key and opening that differs from entry ``at`` on."""
    other = MemoryLedger(ledger.private)
    other.current.leaves[:] = ledger.current.leaves[:at]
    other.records = dict(ledger.records)
    other.grow(count - at, salt="other")
    return other


@pytest.mark.parametrize("at", [1, 300, 599])
@pytest.mark.parametrize("size", [600, 601, 900])
def test_a_fork_is_found(ledger: MemoryLedger, follower: Follower, at: int, size: int) -> None:
    """Another history of the same size or more, signed by the log: both notes are kept."""
    follower.move(other_history(ledger, size, at=at))
    error = follower.alarm()
    assert alarm_id(error) == "monitor.fork"
    assert len(error.notes) == 2


def test_a_log_that_goes_back_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """An earlier checkpoint of the same tree, though it is signed."""
    ledger.current.notes[1] = MemoryLedger(ledger.private).current.notes[1]
    ledger.current.shown = 1
    assert alarm_id(follower.alarm()) == "monitor.rollback"


def test_a_shard_that_disappears_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """A list that is shorter than it was."""
    ledger.open_shard("2026-12")
    follower.look()
    ledger.shards_held.pop()
    assert alarm_id(follower.alarm()) == "monitor.rollback"


def test_a_shard_that_is_renamed_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """The list names another shard in the place of one that was read."""
    ledger.current.name = "2026-11.2"
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_a_closed_shard_must_not_grow(ledger: MemoryLedger, follower: Follower) -> None:
    """Entries appended behind the final checkpoint that the next shard names."""
    ledger.open_shard("2026-12")
    follower.look()
    first = ledger.shards_held[0]
    first.leaves.append(made_leaf("late"))
    ledger.seal(first)
    assert alarm_id(follower.alarm()) == "monitor.fork"


def test_a_shard_that_continues_another_end_is_found(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """The opening names a checkpoint of the log's that is not the last one of the shard before."""
    early = ledger.current.notes[600]
    ledger.grow(5)
    ledger.open_shard("2026-12", final=early)
    error = follower.alarm()
    assert alarm_id(error) == "monitor.fork"
    assert early in error.notes


def test_a_shard_that_continues_another_log_is_found(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """The opening names a checkpoint that another key signed."""
    stranger = MemoryLedger(Ed25519PrivateKey.generate())
    ledger.open_shard("2026-12", final=stranger.current.notes[1])
    assert alarm_id(follower.alarm()) == "monitor.gap"


@pytest.mark.parametrize(
    "record",
    [
        GovernanceRecord(1, "verifier", LEDGER_OPENED, {}, None),
        GovernanceRecord(1, "verifier", "shard.opened", {}, None),
        GovernanceRecord(1, "verifier", "shard.opened", {CHECKPOINT: 7}, None),
    ],
    ids=["kind", "no-checkpoint", "wrong-type"],
)
def test_a_second_shard_without_a_chain_is_found(
    ledger: MemoryLedger, follower: Follower, record: GovernanceRecord
) -> None:
    """Its first leaf is of another kind or names no checkpoint."""
    shard = ledger.open_shard("2026-12")
    ledger.records[record.digest] = record.encoded
    shard.leaves[0] = encode_leaf(record.digest)
    ledger.seal(shard)
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_an_opening_that_is_not_the_first_leaf_is_found(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """The log publishes a good record that its tree does not hold."""
    shard = ledger.open_shard("2026-12")
    digest = shard.leaves[0][3:35]
    ledger.records[digest] = GovernanceRecord(2, "verifier", "shard.opened", {}, None).encoded
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_an_opening_that_does_not_parse_is_found(ledger: MemoryLedger) -> None:
    """The first shard's record is some bytes."""
    ledger.records[ledger.current.leaves[0][3:35]] = b"\xff"
    assert alarm_id(Follower(ledger).alarm()) == "monitor.gap"


def test_a_first_leaf_without_its_record_is_found(ledger: MemoryLedger) -> None:
    """The first shard's record is not published."""
    ledger.records.clear()
    assert alarm_id(Follower(ledger).alarm()) == "monitor.gap"


def test_missing_entries_are_found(ledger: MemoryLedger, follower: Follower) -> None:
    """A checkpoint that covers entries that are not published."""
    ledger.grow(10)
    ledger.current.missing.add(605)
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_a_shard_without_checkpoint_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """It is listed, but what was signed is not shown."""
    ledger.current.notes.clear()
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_a_listed_shard_without_entries_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """A signed tree without leaves has no opening, so it continues nothing."""
    shard = ledger.open_shard("2026-12")
    shard.leaves.clear()
    ledger.seal(shard)
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_a_new_entry_that_was_not_signed_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """Entries that differ from the tree which tiles and checkpoint agree on."""
    ledger.grow(10)
    ledger.current.entries[605] = made_leaf("swapped")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_an_entry_in_the_last_bundle_that_changes_is_found(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """An entry that was read before comes again, changed, with the new ones of its bundle."""
    ledger.grow(10)
    ledger.current.entries[595] = made_leaf("swapped")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_tiles_and_entries_that_were_not_signed_are_found(
    ledger: MemoryLedger, follower: Follower
) -> None:
    """Everything that is published was changed, but not the signed root."""
    ledger.grow(10)
    ledger.current.leaves[20] = made_leaf("swapped")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_an_old_entry_that_changes_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """Nothing new is signed, and reading again finds it."""
    ledger.current.entries[20] = made_leaf("swapped")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_an_old_entry_that_disappears_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """Nothing new is signed, and reading again finds it."""
    ledger.current.missing.add(20)
    assert alarm_id(follower.alarm()) == "monitor.gap"


def test_old_tiles_that_change_are_found(ledger: MemoryLedger, follower: Follower) -> None:
    """Entries are as they were; the tree that is published over them is another one."""
    was = ledger.current.leaves[20]
    ledger.current.entries[20] = was
    ledger.current.leaves[20] = made_leaf("swapped")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def test_an_entry_that_is_no_leaf_is_found(ledger: MemoryLedger, follower: Follower) -> None:
    """Even where it is signed: a ledger holds digests."""
    ledger.append(b"something else")
    assert alarm_id(follower.alarm()) == "monitor.rewrite"


def another_key(ledger: MemoryLedger) -> bytes:
    """Return a checkpoint of the same tree under another key of the same name."""
    stranger = MemoryLedger(Ed25519PrivateKey.generate())
    root = ledger.current.root(600)
    return stranger.signer.seal(ledger.origin(ledger.current), 600, root).checkpoint


def another_shard(ledger: MemoryLedger) -> bytes:
    """Return a checkpoint of the same tree, signed for another shard."""
    root = ledger.current.root(600)
    return ledger.signer.seal(f"{ledger.signer.key.name}/2026-12", 600, root).checkpoint


def altered(ledger: MemoryLedger) -> bytes:
    """Return the checkpoint with another size."""
    return ledger.current.notes[600].replace(b"\n600\n", b"\n601\n")


def no_note(_: MemoryLedger) -> bytes:
    """Return something that is no checkpoint."""
    return b"600\n"


@pytest.mark.parametrize("forge", [another_key, another_shard, altered, no_note])
def test_a_checkpoint_that_is_not_the_logs_is_found(
    ledger: MemoryLedger, follower: Follower, forge: Callable[[MemoryLedger], bytes]
) -> None:
    """Another key, another shard, other text, or no note at all."""
    ledger.current.notes[600] = forge(ledger)
    error = follower.alarm()
    assert alarm_id(error) == "monitor.signature"
    assert error.notes == (ledger.current.notes[600],)


def test_an_alarm_leaves_what_was_known_as_it_was(ledger: MemoryLedger, follower: Follower) -> None:
    """So that the same log raises it again, and a log that mends itself is followed on."""
    known = follower.state
    ledger.grow(10)
    ledger.current.missing.add(605)
    for _ in range(2):
        assert alarm_id(follower.alarm()) == "monitor.gap"
    assert follower.state == known
    ledger.current.missing.clear()
    assert follower.look().new == 10


def test_the_same_alarm_gives_the_same_evidence(ledger: MemoryLedger, follower: Follower) -> None:
    """A monitor that is restarted again and again fills no disk."""
    ledger.current.notes[600] = no_note(ledger)
    assert follower.alarm().evidence() == follower.alarm().evidence()
    assert b"monitor.signature" in follower.alarm().evidence()[1]


def test_a_place_to_read_again_beyond_the_end_begins_anew(follower: Follower) -> None:
    """A state file whose place does not exist is no reason to stop."""
    follower.state = replace(follower.state, reread_shard=7, reread_bundle=10**9)
    assert follower.look().reread == 600


def test_a_log_that_cannot_be_reached_is_no_alarm(ledger: MemoryLedger) -> None:
    """A list of shards that is not there is the world's fault."""
    follower = Follower(ledger)
    follower.monitor = Monitor(
        LogSource(f"{URL}/elsewhere", transport=follower.transport), ledger.signer.key
    )
    with pytest.raises(TransportError) as caught:
        follower.look()
    assert not isinstance(caught.value, AlarmError)


def test_the_tail_of_a_tree_is_that_of_its_last_bundle(ledger: MemoryLedger) -> None:
    """What the overlap is compared with: the frontier of the last bundle's own leaves."""
    hashes = [leaf_hash(leaf) for leaf in ledger.current.leaves]
    whole, tail = extend(Frontier(), hashes).frontier, extend(Frontier(), hashes[512:]).frontier
    assert whole.hashes[-len(tail.hashes) :] == tail.hashes
