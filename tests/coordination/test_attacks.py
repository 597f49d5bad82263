"""The interleavings that broke earlier designs, as far as pure rules mend them. Numbers are the design's.

Each fails when its rule is taken out. Those with a letter were found while these rules were written.
"""

from __future__ import annotations

import pytest

from pipeline.coordination import leases, mailbox, queue
from pipeline.coordination.leases import Silence, holder_must_wait, silence_needed, trust_ends
from pipeline.records.jobs import JobArchive
from pipeline.records.messages import MessageArchive
from tests.coordination.world import COMMIT, SILENT, World

LEASE = {"ttl_seconds": 90, "interval_seconds": 30}
DEAD = {"process_dead": "pid 4711"}


@pytest.fixture
def world() -> World:
    return World()


def takeover(world: World, name: str, holder: str, **fields: object) -> dict[str, object]:
    token = world.locks[name].token
    terms = {"name": name, "token": token, "holder": holder, **LEASE, **fields}
    return world.do("lock.takeover", **terms, observations=SILENT)


def test_07_a_refused_acquire_leaves_nothing_that_could_be_granted(world: World) -> None:
    """Refused, killed, replayed: without `wait` no trace of the asker stays in any queue."""
    token = world.take("a")
    world.refused("lock.acquire", names=["a"], holder="killed", **LEASE)
    assert world.ledger.waiters == []
    world.do("lock.release", locks={"a": token})
    assert world.locks == {}


def test_11_an_unrelated_grant_fences_nobody(world: World) -> None:
    """Tokens count over the whole ledger: a higher one elsewhere says nothing about this job."""
    token = world.run("j1")
    world.take("promotion", holder="other")
    world.run("j2", builder="build2")
    assert world.finish("j1", token)["accepted"] is True


def test_11_a_requeue_without_a_new_claim_fences(world: World) -> None:
    """The former holder is fenced from the requeue on, not only from the next grant."""
    token = world.run("j1")
    world.do("job.requeue", job_id="j1", token=token, observations=DEAD)
    assert world.jobs["j1"].token not in (None, token)
    assert world.finish("j1", token)["late"] is True


def test_12_a_cancelled_job_keeps_its_machine_until_its_holder_ends_it(world: World) -> None:
    """Maven still runs: the builder stays locked, and no other job starts beside it."""
    token = world.run("j1")
    world.order("next", target="build1")
    assert world.do("job.cancel", job_id="j1")["status"] == "running"
    assert world.jobs["j1"].cancel_requested is not None
    assert "builder/build1" in world.locks
    assert world.refused("job.claim", holder="p2").reason == "busy"
    assert world.finish("j1", token, "cancelled")["outcome"] == "cancelled"
    assert world.do("job.claim", holder="p2")["job_id"] == "next"


def test_14_trust_counts_from_the_first_push() -> None:
    """Pushed at 100 (unknown) and again at 130: the challenger may have seen the nonce at 100."""
    challenger = Silence("n", 100.0, 100.0)
    ttl = 30.0
    assert trust_ends(100.0, ttl) < challenger.since + silence_needed(ttl)
    assert trust_ends(130.0, ttl) > challenger.since + silence_needed(ttl), "counted from the second: overlap"


def test_16_silence_is_of_a_nonce_and_not_of_an_order() -> None:
    """A counter that was set back is another value too: only an equal nonce is silence."""
    seen = Silence("8", 0.0, 0.0).feed(50.0, "8").feed(100.0, "7")
    assert seen.seconds == 0.0


def test_17_a_dead_head_of_the_queue_is_evicted(world: World) -> None:
    """Those behind it are served in the same decision."""
    token = world.take("a")
    world.acquire("a", "b", wait=True, holder="dead", as_op="head", builder="build2")
    world.acquire("b", wait=True, holder="alive", as_op="second")
    evicted = world.do("lock.evict", op="head", builder="build3", observations=SILENT)
    assert evicted == {"left": True, "released": [], "owner": "build2"}
    assert world.locks["b"].holder == "alive"
    assert world.locks["a"].token == token
    assert world.refused("lock.evict", op="head", observations=SILENT).reason == "not-waiting"


def test_19_a_renewal_between_the_last_read_and_the_takeover_is_waited_for(world: World) -> None:
    """The challenger read n; the holder renewed to n′ and trusts it: the read after the takeover tells."""
    world.take("a", builder="build2")
    takeover(world, "a", "challenger", nonce="n")
    lock = world.locks["a"]
    assert holder_must_wait(lock, "n′") == silence_needed(90.0)
    assert holder_must_wait(lock, None) == silence_needed(90.0)
    assert holder_must_wait(lock, "n") == 0.0


def test_19_the_trace_goes_to_whoever_is_granted_the_lock(world: World) -> None:
    """The challenger may not be first in line: the waiter that is gets the predecessor to look at."""
    world.take("a", builder="build2")
    world.acquire("a", wait=True, holder="first", as_op="first", builder="build3")
    assert takeover(world, "a", "challenger", nonce="n")["granted"] is False
    lock = world.locks["a"]
    assert lock.holder == "first"
    assert lock.predecessor is not None
    assert lock.predecessor.nonce == "n"


def test_24_the_same_numbers_of_two_histories_are_two_tokens() -> None:
    """After a rewind a fresh store is granted (1, 1) again: the operation in it is another."""
    one, two = World(), World()
    old, new = one.take("a", as_op="before"), two.take("a", as_op="after")
    assert (old, new) == ("1.1.before", "1.1.after")
    assert two.refused("lock.release", locks={"a": old}).reason == "fenced"
    job_one, job_two = one.run("j", as_op="claim-b"), two.run("j", as_op="claim-a")
    assert job_one != job_two
    assert two.finish("j", job_one)["late"] is True


def test_25_two_repairs_of_two_rewinds_choose_two_epochs() -> None:
    """Both are above every epoch seen, and a random part keeps them apart."""
    one, two = World(), World()
    repair = {"abandoned_tips": ["3" * 40], "seen": [9, 2]}
    first = one.do("ledger.raise_epoch", **repair, random="a1b2c3" + "0" * 26)["epoch"]
    second = two.do("ledger.raise_epoch", **repair, random="a1b2c4" + "0" * 26)["epoch"]
    assert min(first, second) > 9
    assert first != second


def test_27_withdrawal_finds_the_grant_in_the_state(world: World) -> None:
    """The completion record may be trimmed: the token in the lock is what says whose it is."""
    world.acquire("a", "b", as_op="gone")
    world.acquire("a", wait=True, holder="h2", as_op="next")
    undone = world.do("withdraw", op="gone")
    assert undone == {"left": False, "released": ["a", "b"], "jobs": [], "withdrawn": "gone"}
    assert {name: lock.holder for name, lock in world.locks.items()} == {"a": "h2"}


def test_47_withdrawn_grant_leaves_its_trace(world: World) -> None:
    """A copy of the store takes a living asker for dead: whoever is next waits, as after a break."""
    world.acquire("a", as_op="lives")
    world.acquire("a", wait=True, holder="h2", as_op="next")
    world.do("withdraw", op="lives")
    lock = world.locks["a"]
    assert (lock.holder, lock.cautious) == ("h2", True)
    assert lock.predecessor is not None


def test_30_a_lease_outlives_two_lost_renewals(world: World) -> None:
    """A ttl of less than three intervals is refused at the grant, with what would do."""
    terms = {"names": ["a"], "holder": "h", "ttl_seconds": 89.9, "interval_seconds": 30}
    refusal = world.refused("lock.acquire", **terms)
    assert refusal.reason == "ttl-too-short"
    assert refusal.remedy == "Ask for 90 s or more."
    assert world.acquire("a", ttl_seconds=90.0)["granted"]


def test_31_who_holds_a_lock_waits_for_no_other(world: World) -> None:
    """Hold A, want B against hold B, want A: one of the two is refused before it waits."""
    world.take("a", holder="one")
    world.take("b", holder="two")
    for holder, name in (("one", "b"), ("two", "a")):
        refusal = world.refused("lock.acquire", names=[name], holder=holder, wait=True, **LEASE)
        assert refusal.reason == "hold-and-wait"


def test_31_the_machine_counts_as_held(world: World) -> None:
    """Neither does a process wait that runs a job, nor run a job that waits."""
    world.run("j1", holder="builder")
    lease = {"names": ["a"], "wait": True, **LEASE}
    assert world.refused("lock.acquire", holder="builder", **lease).reason == "hold-and-wait"
    world.take("a", holder="other")
    world.do("lock.acquire", holder="waiter", **lease)
    order = {"id": "j2", "branch": "b", "commit": COMMIT, "builder": "build2"}
    assert world.refused("job.start", **order, holder="waiter").reason == "hold-and-wait"
    assert world.refused("lock.acquire", names=["b"], holder="waiter", **LEASE).reason == "hold-and-wait"


def test_31_who_holds_a_lock_does_not_wait_for_a_machine(world: World) -> None:
    """A queued start is a wait as well."""
    world.run("j1")
    world.take("a", holder="holds")
    order = {"id": "j2", "branch": "b", "commit": COMMIT, "holder": "holds"}
    assert world.refused("job.start", **order, wait=True).reason == "hold-and-wait"


@pytest.mark.parametrize("observations", [DEAD, SILENT])
def test_32_a_requeue_of_a_cancelled_job_ends_it(world: World, observations: dict[str, object]) -> None:
    """By its own builder or by a rescuer: it does not run again."""
    token = world.run("j1")
    world.do("job.cancel", job_id="j1", reason="changed my mind")
    builder = "build1" if observations is DEAD else "build3"
    world.do("job.requeue", job_id="j1", token=token, builder=builder, observations=observations)
    job = world.jobs["j1"]
    assert (job.status, job.outcome, job.losses) == ("failed", "cancelled", 1)
    assert world.locks == {}


def test_34_an_archive_is_named_by_its_transaction(world: World) -> None:
    """Messages of one second seal into different files, and none is written twice."""
    world.twice = False
    for n in range(4 * mailbox.TAIL + 2):
        before = {path: world.files[path] for path in world.archives(mailbox.ARCHIVES)}
        world.do("message.send", id=f"m{n}", to="all", subject="s")
        assert before.items() <= world.files.items()
    archives = [world.load(MessageArchive, path) for path in world.archives(mailbox.ARCHIVES)]
    assert len({archive.ordinal for archive in archives}) == len(archives) == 3
    ever = [each.id for archive in archives for each in archive.messages]
    ever += [each.id for each in world.messages.messages]
    assert ever == [f"m{n}" for n in range(4 * mailbox.TAIL + 2)]


def test_35_a_waiter_is_evicted_by_its_own_interval(world: World) -> None:
    """A slow waiter declares that it is slow, and is not put last again and again."""
    world.take("a")
    slow = {"ttl_seconds": 3600, "interval_seconds": 600, "wait": True, "as_op": "slow", "holder": "h2"}
    world.acquire("a", **slow)
    enough_for_others = {"silence_seconds": silence_needed(3 * 30.0)}
    assert world.refused("lock.evict", op="slow", observations=enough_for_others).reason == "unproven"
    enough = {"silence_seconds": silence_needed(leases.RENEWALS_PER_TTL * 600.0)}
    assert world.do("lock.evict", op="slow", observations=enough)["left"] is True


# Found while these rules were written


def test_a_caution_survives_a_holder_that_never_waited(world: World) -> None:
    """Broken from A; B is granted, and gives back before it waited: C must wait for A all the same."""
    world.do("lock.break", name="a", token=world.take("a", ttl_seconds=600))
    world.do("lock.release", locks={"a": world.take("a", holder="b")})
    world.acquire("a", holder="c", as_op="c")
    assert holder_must_wait(world.locks["a"], None) == silence_needed(600.0)
    world.do("withdraw", op="c")
    world.take("a", holder="d")
    assert holder_must_wait(world.locks["a"], None) == silence_needed(600.0)


def test_a_caution_ends_with_a_holder_that_waited(world: World) -> None:
    """And not a release later: nobody waits twice for the same predecessor."""
    world.do("lock.break", name="a", token=world.take("a"))
    world.do("lock.release", locks={"a": world.take("a", holder="b")}, waited=True)
    world.take("a", holder="c")
    assert holder_must_wait(world.locks["a"], None) == 0.0


def test_b_the_silence_of_one_holder_proves_nothing_about_the_one_before(world: World) -> None:
    """A, of ttl 600, is taken over by B, of ttl 9, which dies at once; C sees B silent after 14 s only."""
    world.take("a", builder="build2", holder="A", ttl_seconds=600, interval_seconds=60)
    takeover(world, "a", "B", nonce="n", ttl_seconds=9, interval_seconds=3)
    takeover(world, "a", "C", nonce="m")
    assert holder_must_wait(world.locks["a"], "m") == silence_needed(600.0)


def test_c_a_takeover_does_not_pass_the_queue(world: World) -> None:
    """Whoever watches hardest is not served first: the challenger only makes the lock free."""
    world.take("a", builder="build2")
    world.acquire("a", wait=True, holder="first", as_op="first")
    outcome = takeover(world, "a", "impatient", nonce=None)
    assert outcome["granted"] is False
    assert world.locks["a"].holder == "first"
    assert world.ledger.waiters == []


def test_c_a_waiter_for_several_does_not_take_over_one(world: World) -> None:
    """It would hold the one and wait for the other: it keeps its place until all are free."""
    world.take("a", builder="build2", holder="dead")
    other = world.take("b", builder="build3", holder="alive")
    world.acquire("a", "b", wait=True, holder="both", as_op="both")
    assert takeover(world, "a", "both", nonce=None)["granted"] is False
    assert "a" not in world.locks
    assert world.refused("lock.acquire", names=["a"], holder="late", **LEASE).reason == "held"
    world.do("lock.release", locks={"b": other})
    assert {name: lock.holder for name, lock in world.locks.items()} == {"a": "both", "b": "both"}
    assert holder_must_wait(world.locks["a"], "renewed") == silence_needed(90.0)


def test_d_a_lock_that_was_held_in_the_abandoned_history_is_granted_with_caution(world: World) -> None:
    """In the rewound state it is free, yet somebody works under it."""
    repair = {"abandoned_tips": ["4" * 40], "abandoned_locks": {"a": 600.0}}
    world.do("ledger.raise_epoch", **repair)
    world.take("a")
    assert holder_must_wait(world.locks["a"], None) == silence_needed(600.0)


def test_e_a_transaction_seals_once(world: World) -> None:
    """Many entries in one commit share its ordinal: the second sealing would write over the first."""
    world.twice = False
    for n in range(2 * mailbox.TAIL):
        world.do("message.send", id=f"m{n}", to="all", subject="s")
    for n in range(mailbox.TAIL + 5):
        world.do("message.send", id=f"n{n}", to="all", subject="s", same_transaction=n > 0)
    (path,) = world.archives(mailbox.ARCHIVES)
    assert len(world.load(MessageArchive, path).messages) == mailbox.TAIL
    assert len(world.messages.messages) == 2 * mailbox.TAIL + 5
    world.do("message.send", id="last", to="all", subject="s")
    assert len(world.archives(mailbox.ARCHIVES)) == 2


def test_e_a_transaction_seals_jobs_once(world: World) -> None:
    """The same for jobs: none is lost between two sealings of one commit."""
    world.twice = False
    for n in range(2 * queue.TAIL):
        world.order(f"j{n}")
        world.do("job.cancel", job_id=f"j{n}")
    for n in range(queue.TAIL + 3):
        world.order(f"k{n}", same_transaction=n > 0)
        world.do("job.cancel", job_id=f"k{n}", same_transaction=True)
    (path,) = world.archives(queue.ARCHIVES)
    assert len(world.load(JobArchive, path).jobs) == queue.TAIL
    assert len(world.jobs) == 2 * queue.TAIL + 3


def test_f_a_job_that_a_rescuer_ended_is_fenced_for_its_holder_too(world: World) -> None:
    """A guard outside compares tokens alone: the last holder's must not stay the job's."""
    token = world.run("j1", maximum_losses=0)
    world.do("job.requeue", job_id="j1", token=token, builder="build2", observations=SILENT)
    assert world.jobs["j1"].outcome == "dead"
    assert world.jobs["j1"].token != token


def test_g_a_thread_of_ones_own_gives_no_second_automatic_reply(world: World) -> None:
    """A client cannot name another thread to answer automatically in: the ledger derives it."""
    send = {"subject": "s", "to": "build2"}
    world.do("message.send", id="m1", **send)
    reply = {"subject": "re", "to": "build1", "builder": "build2", "in_reply_to": "m1", "auto": True}
    world.do("message.send", id="m2", **reply)
    assert world.refused("message.send", id="m3", thread="new", **reply).reason == "auto-loop"


def test_h_a_withdrawn_start_does_not_run_again(world: World) -> None:
    """Its claim alone put back, the job would run for nobody, a day later."""
    world.run("j1", as_op="start")
    world.do("withdraw", op="start")
    assert world.refused("job.claim", holder="p").reason == "nothing-to-do"
    assert world.jobs["j1"].outcome == "cancelled"


def test_i_an_automatic_reply_to_a_sealed_message_is_known_to_be_one(world: World) -> None:
    """Between the message and its reply the message may be sealed: it is still looked at."""
    world.twice = False
    world.do("message.send", id="robot", to="build2", subject="s", auto=True)
    world.do("message.send", id="person", to="build2", subject="s")
    for n in range(2 * mailbox.TAIL):
        world.do("message.send", id=f"m{n}", to="all", subject="s")
    reply = {"to": "build1", "subject": "re", "builder": "build2", "auto": True}
    assert world.refused("message.send", id="r1", in_reply_to="robot", **reply).reason == "auto-loop"
    world.do("message.send", id="r2", in_reply_to="person", **reply)
    assert world.messages.messages[-1].thread == "person"
