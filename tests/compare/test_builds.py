"""Two builds: every field of a manifest, spoiled in every way, on one side and on both. Never agreement."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.compare.inputs import weigh_dependencies, weigh_inputs, weigh_packages
from pipeline.compare.manifests import Claimed, Judged, are_independent, judge_builds
from pipeline.compare.verdicts import Stated
from pipeline.errors import RecordInvalid
from pipeline.records.base import load_json
from pipeline.records.builds import Manifest
from pipeline.records.comparison import Verdict

A, B, C = "a" * 64, "b" * 64, "c" * 64
COMMIT, TREE = "1" * 40, "2" * 40
NAMES = ["cloudstack-common_4.21_all.deb", "cloudstack-ui_4.21_all.deb"]
AGREEMENT = {Verdict.AGREE, Verdict.AGREE_NORMALISED}
JOBS = {"build1": "job_1", "build2": "job_2"}


def manifest(builder: str = "build1") -> dict[str, Any]:
    """Returns a sound manifest of one builder, as it is read out of the ledger."""
    digests = dict(
        zip([*NAMES, "cloudstack_4.21_amd64.changes"], (A, B, C if builder == "build1" else A), strict=True)
    )
    found: dict[str, Any] = json.loads(
        Manifest.model_validate(
            {
                "job_id": JOBS[builder],
                "server": builder,
                "branch": "ExternalNew",
                "commit": COMMIT,
                "created_at": "2026-01-02T03:04:05Z",
                "build_dir": f"/{builder}",
                "artifacts": [
                    {"name": name, "path": name, "size_bytes": 10, "checksums": {"sha256": digest}}
                    for name, digest in digests.items()
                ],
                "artifact_count": 3,
                "total_size_bytes": 30,
                "token": f"1.{builder[-1]}.op",
                "recipe": {
                    "source": f"/{builder}/source.git",
                    "branch": "ExternalNew",
                    "commit": COMMIT,
                    "source_date_epoch": 1_700_000_000,
                    "profiles": ["systemvm"],
                    "properties": {"git.branch": "ExternalNew"},
                    "maven_opts": "-Xmx1g",
                    "threads": 2,
                    "environment": {"SOURCE_DATE_EPOCH": "1700000000", "TZ": f"Zone/{builder}"},
                    "timezone": f"Zone/{builder}",
                    "build_path": f"/{builder}/tree",
                    "java": "17",
                    "toolchain": {
                        "java": "17.0.15",
                        "java_home": f"/{builder}",
                        "maven": "3",
                        "maven_home": "/m",
                    },
                    "substitutes": {"node_version": "16.20.2"},
                },
                "inputs": {
                    "tree": TREE,
                    "expected": NAMES,
                    "submodules": {"lib": COMMIT},
                    "npm_locks": {"ui/package-lock.json": A},
                    "dependencies": {"path": "dependencies.txt", "count": 2, "size_bytes": 9, "sha256": A},
                },
                "environment": {
                    "machine": builder,
                    "host": builder,
                    "cores": 2,
                    "timezone": f"Zone/{builder}",
                },
            }
        ).model_dump_json()
    )
    return found


def files(builder: str) -> list[Stated]:
    """Returns what was hashed in the folder of a sound build."""
    rows = manifest(builder)["artifacts"]
    return [
        Stated(row["path"], row["size_bytes"], row["checksums"]["sha256"], f"{builder}:{number}", None)
        for number, row in enumerate(rows)
    ]


def judged(
    left: Any, right: Any, ours: list[Stated] | None = None, theirs: list[Stated] | None = None
) -> Judged:
    """Judges two builds as the product does; the jobs are those that the ledger has."""
    sides = [
        Claimed(name, JOBS[name], COMMIT, f"1.{name[-1]}.op", stated)
        for name, stated in zip(JOBS, (left, right), strict=True)
    ]
    there = (files("build1") if ours is None else ours, files("build2") if theirs is None else theirs)
    return judge_builds(sides[0], sides[1], there, same_machine=False)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields where every field of a JSON value lies, also below others and in the first row of a list."""
    for name in value if isinstance(value, dict) else range(min(1, len(value))):
        yield (*place, name)
        if isinstance(value[name], dict | list):
            yield from places(value[name], (*place, name))


def spoil(value: Any, place: tuple[Any, ...], operation: Callable[[Any, Any], None]) -> None:
    """Applies an operation to one field."""
    for name in place[:-1]:
        value = value[name]
    operation(value, place[-1])


def _rename(one: Any, name: Any) -> None:
    if isinstance(one, dict):
        one[f"{name}_"] = one.pop(name)
    else:
        one[name] = {"renamed": one[name]}


OPERATIONS: dict[str, Callable[[Any, Any], None]] = {
    "missing": lambda one, name: one.pop(name),
    "null": lambda one, name: one.__setitem__(name, None),
    "empty": lambda one, name: one.__setitem__(name, type(one[name])()),
    "renamed": _rename,
    "other type": lambda one, name: one.__setitem__(name, [one[name]]),
    "other case": lambda one, name: one.__setitem__(name, str(one[name]).swapcase()),
    "trailing space": lambda one, name: one.__setitem__(name, f"{one[name]} "),
    "number for text": lambda one, name: one.__setitem__(name, 7.5),
    "truth for a number": lambda one, name: one.__setitem__(name, True),
    "negative": lambda one, name: one.__setitem__(name, -1),
    "another": lambda one, name: one.__setitem__(name, "d" * 64),
}

TOOLS = Manifest.model_json_schema()["$defs"]["Toolchain"]["properties"]
#: What is no evidence of what was built from what: it may be anything, or nothing, and builds agree.
FREE = {
    ("created_at",), ("build_dir",), ("attempt",), ("stages",), ("modules",), ("downloads",), ("log",),
    ("environment",),
    *((("recipe", name)) for name in ("source", "timezone", "locale", "umask", "build_path", "fixed_path")),
    ("recipe", "timeout_seconds"),
    *(("recipe", "toolchain", name) for name in TOOLS if name != "java"),
    *(("artifacts", 0, name) for name in ("package", "version", "architecture")),
}  # fmt: skip
EVIDENCE = [
    place
    for place in places(manifest())
    if not any(place[: len(free)] == free for free in FREE) and place != ("recipe", "environment", "TZ")
]
#: What may be so, as long as it is the same on both sides: it is what was asked for.
SAME_ON_BOTH = {"empty", "other case", "trailing space", "another", "truth for a number", "negative"}
#: Tables whose names whoever ordered the build has chosen, and the first of the profiles.
CHOSEN = {
    ("recipe", "properties"), ("recipe", "environment"), ("inputs", "submodules"), ("inputs", "npm_locks")
}  # fmt: skip
ROWS = {("recipe", "profiles", 0)}
#: What both may leave out.
OPTIONAL = (("recipe", "substitutes", "node_version"), "null")
#: Of the JDK's version the first number counts.
SPELLED = {(("recipe", "toolchain", "java"), each) for each in ("other case", "trailing space")}


def test_equal_builds_agree() -> None:
    """Without anything wrong two builds agree, wherever they ran: the other cases are no accident."""
    found = judged(manifest("build1"), manifest("build2"))
    assert (found.verdict(), found.problems, found.weighed.problems) == (Verdict.AGREE, [], [])
    assert [each.name for each in found.artifacts] == NAMES


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_field_that_is_wrong_agrees(operation: str, side: str) -> None:
    """Every field of a manifest, in every way, alone; on both sides where it then cannot be read."""
    tried = 0
    for place in EVIDENCE:
        left, right = manifest("build1"), manifest("build2")
        before = copy.deepcopy(left)
        for word, stated in (("left", left), ("right", right)):
            if side in (word, "both"):
                spoil(stated, place, OPERATIONS[operation])
        changed = _changed(before, left) if side != "right" else _changed(manifest("build2"), right)
        on_both = (
            operation in SAME_ON_BOTH
            or place[:-1] in CHOSEN
            or place in ROWS
            or (place, operation) == OPTIONAL
        )
        if not changed or (side == "both" and on_both) or (place, operation) in SPELLED:
            continue
        tried += 1
        assert judged(left, right).verdict() not in AGREEMENT, (place, operation, side)
    assert tried > len(EVIDENCE) // 3 or (side == "both" and operation in SAME_ON_BOTH)


def _changed(one: Any, two: Any) -> bool:
    return json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True)


@pytest.mark.parametrize("place", sorted(FREE, key=str))
def test_where_a_build_ran_is_no_input(place: tuple[Any, ...]) -> None:
    """What is not evidence may be missing, or anything: builds agree all the same."""
    for operation in ("missing", "null", "another"):
        left = manifest("build1")
        spoil(left, place, OPERATIONS[operation])
        assert judged(left, manifest("build2")).verdict() == Verdict.AGREE


@pytest.mark.parametrize("garbage", [None, [], {}, "", "AGREE", 0, True, {"files": []}])
def test_garbage_on_both_sides_agrees_on_nothing(garbage: Any) -> None:
    """A manifest that is none, on one side or on both, is INCOMPLETE."""
    assert judged(garbage, garbage, [], []).verdict() == Verdict.INCOMPLETE
    assert judged(manifest("build1"), garbage).verdict() == Verdict.INCOMPLETE


def test_empty_sets_on_both_sides_agree_on_nothing() -> None:
    """Two manifests that list nothing, or expect nothing, are INCOMPLETE, whatever lies in the folders."""
    sides = [manifest(name) for name in JOBS]
    for stated in sides:
        stated.update(artifacts=[], artifact_count=0, total_size_bytes=0)
    assert judged(*sides, [], []).verdict() == Verdict.INCOMPLETE
    assert judged(*sides).verdict() == Verdict.INCOMPLETE
    for stated in sides:
        stated["inputs"]["expected"] = []
    assert judged(*sides, [], []).verdict() == Verdict.INCOMPLETE


def test_the_build_of_another_commit_is_incomparable() -> None:
    """Two jobs of two commits, each with its own sound manifest, have another commit as input."""
    other = "3" * 40
    right = manifest("build2") | {"commit": other}
    right["recipe"]["commit"] = other
    sides = (
        Claimed("build1", "job_1", COMMIT, "1.1.op", manifest("build1")),
        Claimed("build2", "job_2", other, "1.2.op", right),
    )
    found = judge_builds(*sides, (files("build1"), files("build2")), same_machine=False)
    assert found.verdict() == Verdict.INCOMPARABLE
    assert [each.name for each in found.weighed.differences] == ["commit", "recipe.commit"]


def test_a_doubled_key_is_refused_where_it_is_read() -> None:
    """JSON readers take the last of two keys silently; this one refuses the file."""
    text = json.dumps(manifest()).replace('"commit":', f'"commit": "{"3" * 40}", "commit":', 1)
    with pytest.raises(RecordInvalid, match="'commit' occurs twice"):
        load_json(text.encode(), "manifest.json")


def test_another_input_is_named() -> None:
    """Builds of other inputs are INCOMPARABLE, whatever their bytes are, and the input is told."""
    right = manifest("build2")
    right["recipe"]["properties"]["skip.ui"] = "true"
    found = judged(manifest("build1"), right)
    assert found.verdict() == Verdict.INCOMPARABLE
    assert [(each.name, each.left, each.right) for each in found.weighed.differences] == [
        ("recipe.properties.skip.ui", None, "true")
    ]


def test_a_field_of_a_newer_version_is_an_input() -> None:
    """What this version does not know of a recipe counts: both have it, or they are INCOMPARABLE."""
    left, right = manifest("build1"), manifest("build2")
    left["recipe"]["of_a_newer_version"] = True
    assert judged(left, right).verdict() == Verdict.INCOMPARABLE
    right["recipe"]["of_a_newer_version"] = 1
    assert judged(left, right).verdict() == Verdict.INCOMPARABLE
    right["recipe"]["of_a_newer_version"] = True
    assert judged(left, right).verdict() == Verdict.AGREE


@pytest.mark.parametrize(("java", "verdict"), [("17", Verdict.INCOMPARABLE), ("17+", Verdict.AGREE)])
def test_a_tool_counts_as_far_as_the_recipe_pins_it(java: str, verdict: Verdict) -> None:
    """Another JDK is another input where one version was asked for, and only where it was."""
    left, right = manifest("build1"), manifest("build2")
    for stated in (left, right):
        stated["recipe"]["java"] = java
    right["recipe"]["toolchain"]["java"] = "21.0.1"
    assert judged(left, right).verdict() == verdict


def test_the_same_builder_twice_is_incomparable() -> None:
    """A builder that agrees with itself proves nothing."""
    side = Claimed("build1", "job_1", COMMIT, "1.1.op", manifest("build1"))
    found = judge_builds(side, side, (files("build1"), files("build1")), same_machine=None)
    assert found.verdict() == Verdict.INCOMPARABLE


def test_the_manifest_of_another_job_is_not_taken() -> None:
    """A manifest that names another job, builder, token or commit is INCOMPLETE, and says which."""
    left = manifest("build1") | {"job_id": "job_9"}
    found = judged(left, manifest("build2"))
    assert found.verdict() == Verdict.INCOMPLETE
    assert found.problems == [
        "the manifest of the left side is not build1's: its `job_id` is 'job_9', the job's is 'job_1'"
    ]


FILES: dict[str, Callable[[list[Stated]], list[Stated]]] = {
    "another digest": lambda found: [Stated(found[0].path, 10, C, "x:9", None), *found[1:]],
    "another size": lambda found: [Stated(found[0].path, 11, A, "x:9", None), *found[1:]],
    "missing": lambda found: found[1:],
    "extra": lambda found: [*found, Stated("more_1_all.deb", 10, A, "x:9", None)],
    "renamed": lambda found: [Stated("more_1_all.deb", 10, A, "x:9", None), *found[1:]],
    "unreadable": lambda found: [Stated(found[0].path, None, None, None, "is no file"), *found[1:]],
    "one file under two names": lambda found: [
        found[0], Stated(found[1].path, 10, B, found[0].inode, None), *found[2:]
    ],
    "none": lambda found: [],
}  # fmt: skip


@pytest.mark.parametrize("sides", [(1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_the_manifests_never_agree(case: str, sides: tuple[int, int]) -> None:
    """What was hashed has to be what the manifest states, on each side, also if both sides are alike."""
    ours, theirs = (
        FILES[case](files(name)) if spoiled else files(name)
        for name, spoiled in zip(JOBS, sides, strict=True)
    )
    found = judged(manifest("build1"), manifest("build2"), ours, theirs)
    assert found.verdict() == Verdict.INCOMPLETE
    assert case == "one file under two names" or found.problems


def test_an_artifact_that_both_lack_is_missed() -> None:
    """What the tree makes has to be there: two builds that both lost a package do not agree."""
    left, right = manifest("build1"), manifest("build2")
    for stated in (left, right):
        stated["artifacts"] = stated["artifacts"][1:]
        stated.update(artifact_count=2, total_size_bytes=20)
    found = judged(left, right, files("build1")[1:], files("build2")[1:])
    assert found.verdict() == Verdict.INCOMPLETE
    assert f"{NAMES[0]} is not in the manifest of the left side, which has to make it" in found.problems


def test_what_the_source_says_is_expected_counts_more_than_manifests() -> None:
    """Two builders that state the same, smaller set are found out by the commit's own control file."""
    sides = [Claimed(name, JOBS[name], COMMIT, f"1.{name[-1]}.op", manifest(name)) for name in JOBS]
    there = (files("build1"), files("build2"))
    found = judge_builds(sides[0], sides[1], there, same_machine=False, control=[*NAMES, "x_1_all.deb"])
    assert found.verdict() == Verdict.INCOMPLETE
    assert len(found.problems) == 4
    assert (
        judge_builds(sides[0], sides[1], there, same_machine=False, control=NAMES).verdict() == Verdict.AGREE
    )


def listing(text: bytes) -> dict[str, Any]:
    """Returns the record of a list of dependencies."""
    digest = hashlib.sha256(text).hexdigest()
    return {"path": "dependencies.txt", "count": text.count(b"\n"), "size_bytes": len(text), "sha256": digest}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ((b"g/a.jar 1\n", b"g/a.jar 1\ng/b.jar 2\n"), Verdict.AGREE),
        ((b"g/a.jar 1\n", b"g/a.jar 9\n"), Verdict.INCOMPARABLE),
    ],
)
def test_lists_of_dependencies_that_differ_are_read(given: tuple[bytes, bytes], verdict: Verdict) -> None:
    """Lists that differ are compared line by line; one that is not what its manifest says is not believed."""
    sides = [Claimed(name, JOBS[name], COMMIT, f"1.{name[-1]}.op", manifest(name)) for name in JOBS]
    for side, text in zip(sides, given, strict=True):
        side.manifest["inputs"]["dependencies"] = listing(text)
    there = (files("build1"), files("build2"))
    assert judge_builds(*sides, there, same_machine=False, lists=given).verdict() == verdict
    for wrong in ((given[0], None), (given[1], given[0]), (given[0] + b"x 1\n", given[1])):
        assert judge_builds(*sides, there, same_machine=False, lists=wrong).verdict() not in AGREEMENT


def test_dependencies_are_inputs_by_their_hash() -> None:
    """A dependency with other bytes is another input; one that only one side has is none by itself."""
    other, alone = weigh_dependencies(["g/a.jar 1", "g/b.jar 2"], ["g/a.jar 9", "g/c.jar 3"])
    assert [(each.name, each.left, each.right) for each in other] == [("dependency g/a.jar", "1", "9")]
    assert [each.name for each in alone] == ["dependency g/b.jar", "dependency g/c.jar"]


def test_long_lists_are_cut_and_say_so() -> None:
    """Of very many packages that differ fifty are told, and the others counted."""
    found = weigh_packages([f"p{n}=1" for n in range(60)], [f"p{n}=2" for n in range(60)])
    assert (len(found), found[-1].name) == (51, "10 more packages")


@pytest.mark.parametrize(
    ("one", "two", "independent"),
    [
        ("m1", "m2", True),
        ("m1", "m1", False),
        (None, "m2", False),
        (None, None, False),
        ("", "m2", False),
        (1, 2, False),
    ],
)
def test_only_two_named_machines_are_independent(one: Any, two: Any, independent: bool) -> None:
    """Two builders on one host, and machines that are not named, are not independent."""
    sides = [{"environment": {"machine": each}} for each in (one, two)]
    assert are_independent(*sides) is independent


def test_numbers_and_truth_values_are_not_the_same_input() -> None:
    """What Python takes for equal, 1 and true, is another type and no input."""
    left, right = manifest("build1"), manifest("build2")
    left["recipe"]["packages"] = 1
    assert weigh_inputs(left, right).problems == [
        "the left manifest does not state `recipe.packages` as it should"
    ]
