"""Each attack is worth something: with its rule left out, the named invariant fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from tests.ledger import test_attacks_answers as answers
from tests.ledger import test_attacks_history as history
from tests.ledger import test_attacks_numbers as numbers
from tests.ledger.mutants import MUTANTS, planted
from tests.ledger.toy import Violated

KILLS: list[tuple[Callable[[Path], None], str, str]] = [
    (numbers.test_01_two_clones_make_the_same_commit, "no-record", "one-lands"),
    (numbers.test_02_disk_restored_from_a_backup, "number-alone", "acknowledged-is-applied"),
    (numbers.test_03_writer_was_forgotten, "unknown-is-new", "applied-once"),
    (numbers.test_03_writer_was_forgotten, "no-search", "applied-once"),
    (numbers.test_04_leader_dies_after_numbering, "numbered-at-drain", "acknowledged-is-applied"),
    (numbers.test_20_stopped_leader_wakes_up, "reborn-unseen", "no-false-rebirth"),
    (numbers.test_20_reborn_store_looks_again_at_every_decide, "search-once", "applied-once"),
    (numbers.test_20_cloned_store_runs_twice, "number-alone", "applied-once"),
    (numbers.test_27_asker_dies_with_a_grant, "not-held", "no-orphan-grant"),
    (numbers.test_36_foreign_reboot_of_the_machine_id, "rebirth-keeps-the-name", "reborn"),
    (answers.test_05_leader_gets_ctrl_z, "no-deadline", "answered-in-time"),
    (answers.test_06_register_freed_a_moment_ago, "cached-tip", "refused-is-true"),
    (answers.test_07_refused_and_killed, "attached-lives-on", "no-orphan-grant"),
    (lambda path: answers.test_08_claim_of_yesterday(path, "never"), "attached-lives-on", "never-granted"),
    (answers.test_09_33_result_in_the_outbox, "drain-gives-up", "result-first"),
    (answers.test_21_two_leaders_one_refuses_one_grants, "no-compare", "refused-never-applied"),
    (answers.test_22_hook_refuses_while_the_first_push_runs, "drop-pushed", "no-orphan-grant"),
    (answers.test_22_refusal_beside_a_mate_that_was_lost, "refused-early", "refused-is-true"),
    (answers.test_37_refusal_while_a_push_of_a_dead_leader_may_land, "no-doubt", "refused-never-applied"),
    (answers.test_51_copy_of_a_refused_push_lands, "refusal-ends-doubt", "no-orphan-grant"),
    (history.test_23_merge_by_hand_hides_the_ledgers_side, "first-parents", "chain-holds"),
    (history.test_23_amended_copy_is_no_transaction, "unbound-record", "state-is-not-adopted"),
    (history.test_24_rewind_and_the_same_number_again, "counted-ops", "tokens-differ"),
    (history.test_25_two_repairs_of_two_rewinds, "epoch-plus-one", "epochs-differ"),
    (
        history.test_25_rewind_stops_all_writing_until_it_is_accepted,
        "rewind-unnoticed",
        "rewind-noticed",
    ),
    (history.test_25_repair_by_hand_is_not_joined, "joins-any-repair", "not-joined"),
    (history.test_39_damaged_clone_is_not_a_refusal, "records-local-damage", "nothing-recorded"),
    (
        partial(history.test_52_clone_that_cannot_be_read_is_not_a_refusal, why=StoreError("it is full")),
        "unreadable-is-a-refusal",
        "nothing-recorded",
    ),
    (history.test_26_shallow_clone_is_no_rewind, "cut-is-whole", "no-false-rewind"),
    (history.test_26_shallow_clone_applies_nothing_again, "cut-is-whole", "unknown-is-not-never"),
    (history.test_28_mark_moves_while_another_compares, "mark-read-after", "no-false-rewind"),
]


@pytest.mark.parametrize(("attack", "mutant", "named"), KILLS, ids=[f"{m}-{n}" for _, m, n in KILLS])
def test_mutant_is_killed(tmp_path: Path, attack: Callable[[Path], None], mutant: str, named: str) -> None:
    """The invariant that the rule keeps fails without it, and nothing else stops the attack first."""
    with planted(mutant), pytest.raises(Violated) as caught:
        attack(tmp_path)
    assert caught.value.name == named


def test_every_mutant_is_killed() -> None:
    """No mutant is registered that no attack kills."""
    assert MUTANTS.keys() - {mutant for _, mutant, _ in KILLS} == set()
