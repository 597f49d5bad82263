"""Tables that are compared without being sent: digests, sums of buckets, and the spool below them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pytest

from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.listings import Listing, told
from pipeline.compare.reader.regions import Spool

Entries = Sequence[tuple[bytes, bytes]]
MANY = [(b"name %d" % number, b"value %d" % number) for number in range(1500)]


@pytest.fixture
def spool() -> Iterator[Spool]:
    """A spool that is closed in the end."""
    made = Spool(Limits(entries=2000, name=50))
    yield made
    made._file.close()


def listing(spool: Spool, entries: Entries) -> Listing:
    """Returns a table with one column."""
    made = Listing("toy", ["value"], spool)
    for name, value in entries:
        made.add(name, (value,), None)
    return made.finish()


def test_rows_come_back_as_they_were_added(spool: Spool) -> None:
    """The table keeps its order, over more entries than are kept together."""
    rows = list(listing(spool, MANY).rows())
    assert [(row.name, row.values, row.place) for row in rows] == [(name, (v,), None) for name, v in MANY]


@pytest.mark.parametrize("at", [0, 511, 512, 1499])
def test_a_value_changes_its_column_and_its_bucket_alone(spool: Spool, at: int) -> None:
    """One value changes one digest and one bucket, and that bucket holds the entry."""
    other = [*MANY[:at], (MANY[at][0], b"another"), *MANY[at + 1 :]]
    one, two = listing(spool, MANY), listing(spool, other)
    assert [a == b for a, b in zip(one.digests(), two.digests(), strict=True)] == [True, False]
    sums = [each.sums([0, 1], 5) for each in (one, two)]
    assert sums[0][0] == sums[1][0]
    (bucket,) = [at for at, (a, b) in enumerate(zip(sums[0][1], sums[1][1], strict=True)) if a != b]
    assert MANY[at][0] in [row.name for _, _, row in two.within([bucket], 5)]


def test_another_order_changes_digests_and_no_sum(spool: Spool) -> None:
    """The order is in the digests, and not in the sums: so an order that differs is told from an entry."""
    one, two = listing(spool, MANY), listing(spool, MANY[::-1])
    assert one.digests()[0] != two.digests()[0]
    assert one.sums([0, 1], 5) == two.sums([0, 1], 5)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([(b"ab", b"c")], [(b"a", b"bc")]),
        ([(b"a", b"x"), (b"", b"y")], [(b"", b"x"), (b"a", b"y")]),
        ([(b"a", b"1"), (b"a", b"2")], [(b"a", b"2"), (b"a", b"1")]),
        ([(b"a", b"")], [(b"a", b""), (b"a", b"")]),
    ],
)
def test_different_tables_have_different_digests(spool: Spool, one: Entries, two: Entries) -> None:
    """Moving a byte from a name to its value, swapping values or entries of one name is seen."""
    assert listing(spool, one).digests() != listing(spool, two).digests()


def test_entries_of_one_name_are_told_apart(spool: Spool) -> None:
    """The second entry of a name is found as its second, and changes another sum than the first."""
    made = listing(spool, [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert made.duplicates
    assert {key: row.values for key, row in made.find({(b"a", 1), (b"c", 0)}).items()} == {(b"a", 1): (b"3",)}


def test_too_many_entries_and_too_long_names_are_refused(spool: Spool) -> None:
    """What no archive that is meant has, is not taken."""
    with pytest.raises(Unreadable, match="more than 2000 entries"):
        listing(spool, [(b"a", b"")] * 2001)
    with pytest.raises(Unreadable, match="51 bytes long"):
        listing(spool, [(b"a" * 51, b"")])


def test_a_value_that_reads_like_a_long_one_is_not_taken_for_it() -> None:
    """A long value is told by its digest; a short one with the same words is told otherwise."""
    long = b"x" * 300
    words = told(long)
    assert words == f"300 bytes, sha256 {hashlib.sha256(long).hexdigest()}"
    assert told(words.encode()) != words
    assert told(b"short") == "short"


def test_a_bomb_ends_at_the_limit() -> None:
    """Whatever is unpacked, no more than the limit is written."""
    small = Spool(Limits(expanded=1000))
    with pytest.raises(Unreadable, match="more than the 1000 bytes"):
        small.keep(b"x" * 100 for _ in range(1_000_000))
    small._file.close()


def test_two_writers_of_one_spool_are_noticed(spool: Spool) -> None:
    """What is kept lies in one piece; somebody who writes in between is a defect, and not a wrong region."""

    def blocks() -> Iterator[bytes]:
        yield b"one"
        spool.keep([b"between"])
        yield b"two"

    with pytest.raises(AssertionError, match="between two blocks"):
        spool.keep(blocks())
