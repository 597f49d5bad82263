"""What is told of a leaf in words, and of which modules it is."""

from __future__ import annotations

import pytest

from pipeline.compare.counterfactuals import LEFT, RIGHT, Change, Forms
from pipeline.compare.telling import owners, rebuilt, told
from pipeline.records.comparison import ComparedLeaf

LEAF = ComparedLeaf(path=["a.deb", "x"], what="content")
NAMES = ("build1", "build2")


def change(side: int, *things: str) -> Change:
    return Change(side, frozenset(things))


@pytest.mark.parametrize(
    ("forms", "text", "evidence"),
    [
        (
            Forms(("a", "b"), (("a", "c"), ("b", "b"))),
            "unstable",
            "two builds on build1 differ from each other; build2 makes the same again (2 builds)",
        ),
        (
            Forms(
                ("a", "b"),
                (("a", "a"), ("b", "b")),
                {change(LEFT, "user"): "b", Change(LEFT, frozenset({"user"}), 2): "a"},
            ),
            "unstable",
            "two builds on build1 differ from each other; build2 makes the same again (2 builds)",
        ),
        (
            Forms(("a", "b"), (("b", "b"), ("a", "a"))),
            "unstable",
            "build1 makes now what build2 made (2 builds); build2 makes now what build1 made (2 builds)",
        ),
        (
            Forms(("a", "b"), (("c", "c"), ("c", "c"))),
            "transient",
            "all 4 builds made again make the same, which neither made first",
        ),
        (
            Forms(("a", "b"), (("a", "a"), ("a", "a")), {change(LEFT, "order"): "c"}),
            "transient: the order in which folders list their files changes it",
            "all 4 builds made again make the same, which is what build1 made first; build1 with the order in"
            " which folders list their files reversed makes something else, which neither makes",
        ),
        (
            Forms(("a", "b"), (("a", "a"), ())),
            "not known",
            "build1 makes the same again (2 builds); not known of build2, not built again twice",
        ),
        (
            Forms(
                ("a", "b"), (("c", "c"), ("b", "b")), {change(LEFT, "user"): "c", change(LEFT, "host"): "d"}
            ),
            "host-dependent: the host name changes it",
            "build1 always makes the same, but not what it made first (2 builds); build2 makes the same again"
            " (2 builds); build1 with the host name of build2 makes something else, which neither makes;"
            " no effect: the user",
        ),
        (
            Forms(
                ("a", "b"), (("a", "a"), ("b", "b")), {change(LEFT, "user"): "b", change(RIGHT, "user"): "b"}
            ),
            "host-dependent: not known what makes it",
            "build1 makes the same again (2 builds); build2 makes the same again (2 builds); build1 with the"
            " user of build2 makes what build2 makes; no effect: the user",
        ),
    ],
)
def test_what_was_seen_is_told(forms: Forms, text: str, evidence: str) -> None:
    """Each kind has its words, and beside them what each build did that speaks for it or against."""
    found = rebuilt(LEAF, forms, NAMES)
    assert (found.text, found.evidence) == (text, evidence)


def test_a_date_keeps_the_remedy_of_its_cause() -> None:
    """Where the clock is behind it, what removes it depends on what wrote the date."""
    forms = Forms(("a", "b"), (("a", "c"), ("b", "d")), dated=True)
    dated = LEAF.model_copy(update={"cause": "java-properties-date"})
    assert "java.properties.date" in str(rebuilt(dated, forms, NAMES).remedy)
    assert "SOURCE_DATE_EPOCH" in str(rebuilt(LEAF, forms, NAMES).remedy)


def test_a_change_is_told_by_both_names() -> None:
    """Whose build it is comes first, then what it had of the other's."""
    assert told(change(RIGHT, "host", "user"), NAMES) == "build2 with the user and the host name of build1"


def test_modules_are_known_by_their_archives() -> None:
    """An archive's name begins with the id of the module that made it; the longest that fits is it."""
    paths = [
        ["x.deb", "data.tar.xz", "data", "./lib/cloud-api-4.21.jar", "A.class"],
        ["x.deb", "data.tar.xz", "data", "./lib/cloud-api-extra-4.21.jar", "lib/cloud-api-4.21.jar"],
        ["x.deb", "data.tar.xz", "data", "./etc/file"],
    ]
    leaves = [ComparedLeaf(path=list(path), what="content") for path in paths]
    assert owners(leaves, {"cloud-api", "cloud-api-extra", "cloud"}) == ["cloud-api"]
    assert owners(leaves[2:], {"cloud"}) == []
    alone = LEAF.model_copy(update={"path": ["cloud-api-extra-4.21.jar"]})
    assert owners([alone], {"cloud-api", "cloud-api-extra"}) == ["cloud-api-extra"]
