"""Building again for a comparison: which builds are made, what is told of each leaf, what is not tried."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds.artifacts import new_manifest
from pipeline.compare.wire import Line
from pipeline.edge.machine_lock import MachineLock
from pipeline.errors import ComparisonIncomplete, Interrupted, MachineBusy, UsageError
from pipeline.operations.agreement import Side
from pipeline.operations.compare import compare_files
from pipeline.operations.places import Place
from pipeline.operations.rebuild import rebuild
from pipeline.operations.site import Site
from pipeline.operations.trials import Original, explain_by_building
from pipeline.operations.workshop import Made
from pipeline.records.builds import Environment, Manifest, Stage
from pipeline.records.comparison import ComparedBuild, Comparison, RebuiltLeaf, Verdict
from pipeline.records.jobs import Job
from tests.compare.sides import Near
from tests.operations.conftest import COMMIT, WHEN, MakeSite

OURS = {"timezone": "UTC", "locale": "C", "umask": "022", "user": "root(0)", "host": "vm", "cores": "2"}
THEIRS = {
    "timezone": "Asia/Tokyo",
    "locale": "C",
    "umask": "077",
    "user": "ann(9)",
    "host": "far",
    "cores": "2",
}

#: What a build makes: a file's content by its name, of the values of its environment and of its number.
Tree = Callable[[Mapping[str, str], int], Mapping[str, str]]


def pack(tree: Mapping[str, str], place: Path) -> Path:
    """Makes a set of one artifact, a tar with these files."""
    place.mkdir(parents=True)
    with tarfile.open(place / "all.tar", "w") as tar:
        for name, content in sorted(tree.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content.encode())
            tar.addfile(entry, io.BytesIO(content.encode()))
    return place


@dataclass
class Machine:
    """A machine on which builds take no time, and which notes them."""

    folder: Path
    tree: Tree
    missing: Mapping[str, str] = field(default_factory=dict)
    fails: Callable[[Mapping[str, str]], str | None] = lambda values: None
    full: bool = False
    made: list[Mapping[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def why_not(self, thing: str, value: str) -> str | None:
        return self.missing.get(thing, "disorderfs is not installed" if thing == "order" else None)

    def exact(self, thing: str, value: str) -> bool:
        return True

    def make(self, values: Mapping[str, str]) -> Made:
        self.made.append(dict(values))
        number = len(self.made)
        begun = WHEN + timedelta(hours=number)
        problem = self.fails(values)
        folder = None
        if problem is None:
            folder = pack(self.tree(values, number), self.folder / str(number))
        return Made(folder, problem, begun, begun + timedelta(minutes=1), 60.0, self.full)


def environment(values: Mapping[str, str], machine: str = "here") -> Environment:
    user, _, number = values["user"].partition("(")
    named = {name: values[name] for name in ("timezone", "locale", "umask", "host")}
    cores, user_id = int(values["cores"]), int(number[:-1])
    return Environment(machine=machine, user=user, user_id=user_id, cores=cores, **named)


def manifest(builder: str, values: Mapping[str, str], hour: int, machine: str = "here") -> Manifest:
    """Makes the manifest of a build of a minute."""
    made = new_manifest(
        job_id=f"job_{builder}",
        server=builder,
        branch="b",
        commit=COMMIT,
        created_at=WHEN - timedelta(hours=hour) + timedelta(minutes=1),
        token="1.1.x",
        attempt=1,
    )
    stages = [Stage(name="maven", duration_seconds=60.0)]
    return made.model_copy(update={"environment": environment(values, machine), "stages": stages})


def job(builder: str) -> Job:
    return Job(id=f"job_{builder}", branch="b", commit=COMMIT, created_at=WHEN, assigned_to=builder)


@dataclass
class Case:
    """Two builds that were compared, and the machine on which they can be made again."""

    site: Site
    found: Comparison
    originals: tuple[Original, Original]
    machine: Machine

    def explain(self) -> Comparison:
        with closing_lines() as opened:
            return explain_by_building(self.site, self.found, self.originals, self.machine, opened)


@contextmanager
def closing_lines() -> Iterator[Callable[[str], Line]]:
    """Yields what opens a reader in this process; all of them are closed in the end."""
    lines: list[Line] = []

    def opened(name: str) -> Line:
        lines.append(Line(name, Near()))
        return lines[-1]

    yield opened
    for line in lines:
        with suppress(OSError):
            line.close()


@pytest.fixture
def case(make_site: MakeSite, tmp_path: Path) -> Callable[..., Case]:
    """A maker of cases: what builds make, and what is said otherwise."""

    def make(tree: Tree, *, far: bool = False, now: Tree | None = None, **more: Any) -> Case:
        site = make_site("build1")
        sides = []
        for number, (builder, values) in enumerate((("build1", OURS), ("build2", THEIRS))):
            folder = pack(tree(values, number - 2), tmp_path / "sets" / builder)
            opened = lambda folder=folder: Line(str(folder), Near())  # noqa: E731
            here = not (far and builder == "build2")
            made = manifest(builder, values, 2 - number, "here" if here else "there")
            side = Side(job(builder), str(folder), opened, lambda name: None)
            sides.append(Original(side, made, here))
        places = [Place(Path(each.side.root), typed=each.side.root) for each in sides]
        found = compare_files(places[0], places[1], lambda place: Near(), site.clock, lambda text: None)
        machine = Machine(tmp_path / "made", now or tree, **more)
        return Case(site, found, (sides[0], sides[1]), machine)

    return make


def told(found: Comparison) -> dict[str, RebuiltLeaf]:
    """Returns what is told of each file's content."""
    return {
        leaf.path[-1]: leaf.rebuilt
        for artifact in found.artifacts
        for leaf in artifact.leaves
        if leaf.rebuilt is not None and leaf.what in ("content", "name")
    }


def everything(values: Mapping[str, str], number: int) -> Mapping[str, str]:
    """Returns a tree in which each file depends on something else."""
    moment = WHEN + timedelta(hours=number, seconds=30)
    return {
        "zone": f"at {values['timezone']}\n",
        "mask": values["umask"],
        "both": f"{values['user']}@{values['host']}\n",
        "random": f"{number * 7919 % 1000}\n",
        "clock": f"Generated {moment:%Y-%m-%d %H:%M:%S}\n",
        "gone": "old\n" if number == -2 else "new\n",
        "same": "same\n",
    }


def test_each_leaf_has_what_it_depends_on(case: Callable[..., Case]) -> None:
    """Of files that each depend on something else, each is told apart, with what was seen and a remedy."""
    one = case(everything)
    found = told(one.explain())
    said = {name: (each.kind, tuple(each.makes), each.how) for name, each in found.items()}
    assert said == {
        "zone": ("host-dependent", ("timezone",), "alone"),
        "mask": ("host-dependent", ("umask",), "alone"),
        "both": ("host-dependent", ("user", "host"), "together"),
        "random": ("random", (), None),
        "clock": ("time-dependent", ("clock",), "alone"),
        "gone": ("transient", (), None),
    }
    assert found["zone"].text == "host-dependent: the time zone makes it"
    assert "build1 with the time zone of build2 makes what build2 makes" in found["zone"].evidence
    assert "build2 with the time zone of build1 makes what build1 makes" in found["zone"].evidence
    assert found["zone"].remedy == "TZ=UTC"
    assert found["random"].evidence == "two builds on build1 and two on build2 differ from each other"
    assert found["gone"].evidence == (
        "all 4 builds made again make the same, which is what build2 made first"
    )


def test_one_thing_is_changed_at_a_time(case: Callable[..., Case]) -> None:
    """Every build is one side's environment, or that with some values of the other's, and nothing else."""
    one = case(everything)
    summary = one.explain().rebuilds
    assert summary is not None
    assert [each.name for each in summary.builds[:4]] == [
        f"{name}, again ({number} of 2)" for name in ("build1", "build2") for number in (1, 2)
    ]
    for record, values in zip(summary.builds, one.machine.made, strict=True):
        own, other = (OURS, THEIRS) if record.side == "left" else (THEIRS, OURS)
        assert values == {**own, **{name: other[name] for name in record.changed}}
        assert record.changed == {name: other[name] for name in record.changed}
    several = [set(each.changed) for each in summary.builds if len(each.changed) > 1]
    assert several == [{"user", "host"}] * 2 + [{"timezone", "umask", "user", "host"}] * 4
    assert len({each.name for each in summary.builds}) == len(summary.builds)


def test_what_is_not_host_dependent_costs_four_builds(case: Callable[..., Case]) -> None:
    """Chance and time are told by repetition alone."""
    one = case(lambda values, number: {"random": str(number), "same": "same"})
    assert told(one.explain())["random"].kind == "random"
    assert one.machine.made == [OURS, OURS, THEIRS, THEIRS]


def test_the_other_machines_values_are_tried_here(case: Callable[..., Case]) -> None:
    """Another machine's side is not built again; its values are tried, one at a time, and that is said."""
    one = case(lambda values, number: {"zone": values["timezone"], "random": str(number)}, far=True)
    found = one.explain()
    assert told(found)["zone"].makes == ["timezone"]
    assert told(found)["zone"].text == "host-dependent: the time zone makes it"
    assert told(found)["random"].evidence == "two builds on build1 differ from each other"
    assert found.rebuilds is not None
    assert {each.side for each in found.rebuilds.builds} == {"left"}
    assert "build2 is another machine: nothing was built there, its values were tried here." in (
        found.rebuilds.notes
    )


def test_what_only_the_other_machine_has_stays_unknown(case: Callable[..., Case]) -> None:
    """Where all that can be had of the other side changes nothing, one build shows it: there is no name."""
    one = case(lambda values, number: {"kernel": "6.1" if number == -1 else "5.10"}, far=True)
    found = one.explain()
    assert (told(found)["kernel"].kind, told(found)["kernel"].makes) == ("unknown", [])
    assert one.machine.made == [OURS, OURS, {**OURS, **THEIRS}]


def test_what_a_machine_cannot_be_is_told(case: Callable[..., Case]) -> None:
    """A thing that cannot be changed is not tried, and the leaf that depends on it has no name."""
    why = "a user namespace: Operation not permitted"
    one = case(lambda values, number: {"host": values["host"]}, missing={"host": why})
    found = one.explain()
    assert (told(found)["host"].kind, told(found)["host"].makes) == ("host-dependent", [])
    assert found.rebuilds is not None
    assert f"the host name: {why}" in found.rebuilds.not_varied
    assert all(values["host"] in ("vm", "far") for values in one.machine.made)


def test_a_build_that_fails_tells_nothing(case: Callable[..., Case]) -> None:
    """What does not build any more is told with its cause; others go on, and what they show still counts."""
    one = case(
        lambda values, number: {"host": values["host"], "mask": values["umask"]},
        fails=lambda values: "compile in core: no symbol" if values == OURS | {"umask": "077"} else None,
    )
    found = one.explain()
    assert told(found)["host"].makes == ["host"]
    assert told(found)["mask"].makes == []
    assert found.rebuilds is not None
    (failed,) = [each for each in found.rebuilds.builds if each.problem]
    assert (failed.name, failed.problem) == ("build1 with the umask of build2", "compile in core: no symbol")


def test_nothing_builds_any_more(case: Callable[..., Case]) -> None:
    """Where no build succeeds nothing is known, and nothing is tried in vain."""
    one = case(lambda values, number: {"host": values["host"]}, fails=lambda values: "dependency: gone")
    found = one.explain()
    assert told(found)["host"].kind == "unknown"
    assert one.machine.made == [OURS, OURS, THEIRS, THEIRS]


def test_a_full_disk_ends_it(case: Callable[..., Case]) -> None:
    """No second build is begun on a disk that is full."""
    one = case(lambda values, number: {"a": values["host"]}, fails=lambda values: "disk: full", full=True)
    found = one.explain()
    assert one.machine.made == [OURS]
    assert found.rebuilds is not None
    assert "Ended early: disk: full" in found.rebuilds.notes
    assert told(found)["a"].kind == "unknown"


def test_packages_that_changed_meanwhile_are_not_explained(case: Callable[..., Case]) -> None:
    """What is built again is held against the very bytes that were compared."""
    one = case(everything)
    (Path(one.originals[1].side.root) / "all.tar").write_bytes(b"other")
    with pytest.raises(ComparisonIncomplete, match=r"all\.tar changed on .* since it was compared"):
        one.explain()
    assert one.machine.made == []


def test_many_leaves_take_no_longer_than_their_patterns(case: Callable[..., Case]) -> None:
    """Files that depend on the same thing are found out with the builds of one."""

    def tree(values: Mapping[str, str], number: int) -> Mapping[str, str]:
        return {f"{each}": values["host"] for each in range(50)}

    one = case(tree)
    found = told(one.explain())
    assert len(found) == 50
    assert {tuple(each.makes) for each in found.values()} == {("host",)}
    assert len(one.machine.made) < 16


def test_files_of_builds_with_changes_do_not_stay(case: Callable[..., Case]) -> None:
    """Only what later builds are held against is kept while it lasts."""
    one = case(everything)
    one.explain()
    assert sorted(each.name for each in one.machine.folder.iterdir()) == ["1", "2", "3", "4"]


# ---------------------------------------------------------------- whether anything is built


@dataclass
class Story:
    """The whole operation over a ledger that has both builds."""

    case: Case
    opened: int = 0

    def run(self, site: Site, **changes: Any) -> Comparison:
        found = self.case.found.model_copy(
            update={
                "left_build": ComparedBuild(builder="build1", job_id="job_build1", commit=COMMIT),
                "right_build": ComparedBuild(builder="build2", job_id="job_build2", commit=COMMIT),
                **changes,
            }
        )

        @contextmanager
        def open_maker(*words: Any) -> Iterator[Machine]:
            self.opened += 1
            yield self.case.machine

        with closing_lines() as opened:
            return rebuild(site, found, [], opened, open_maker, lambda *words: self.case.originals)


@pytest.fixture
def story(case: Callable[..., Case]) -> Story:
    return Story(case(lambda values, number: {"zone": values["timezone"]}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": Verdict.AGREE, "artifacts": []}, "Nothing was built again: nothing differs."),
        ({"verdict": Verdict.INCOMPARABLE}, "Nothing was built again: the inputs are not the same"),
        ({"verdict": Verdict.INCOMPLETE, "artifacts": []}, "there is no place that is known to differ"),
    ],
)
def test_where_nothing_can_be_told_nothing_is_built(
    story: Story, changes: Mapping[str, Any], said: str
) -> None:
    """Builds that agree, or cannot be compared, are left alone, and the comparison is as it was."""
    heard: list[str] = []
    story.case.site.say = heard.append
    found = story.run(story.case.site, **changes)
    assert said in heard[0]
    assert (found.rebuilds, story.opened, found.verdict) == (None, 0, changes["verdict"])


def test_a_machine_that_builds_is_left_alone(story: Story) -> None:
    """While another build holds the machine nothing is built beside it."""
    lock = MachineLock(story.case.site.settings.machine_lock)
    assert lock.try_hold("{}")
    with pytest.raises(MachineBusy) as caught:
        story.run(story.case.site)
    assert caught.value.remedy is not None
    assert "--rebuild when the machine is free" in caught.value.remedy
    lock.release()
    assert story.run(story.case.site).rebuilds is not None
    assert lock.try_hold("{}"), "the machine is free again"
    lock.release()


def test_builds_of_other_machines_are_not_made_here(story: Story) -> None:
    """Where neither build is this machine's, it is said where to go."""
    one, two = story.case.originals
    story.case.originals = Original(one.side, one.manifest, False), Original(two.side, two.manifest, False)
    with pytest.raises(UsageError) as caught:
        story.run(story.case.site)
    assert caught.value.remedy == "Run it on the machine of build1 or build2."
    assert story.opened == 0


def test_an_interruption_ends_it_and_frees_the_machine(story: Story) -> None:
    """Ctrl-C in a build ends the whole; the machine is free, and no lock and no job was touched."""
    tip = story.case.site.state().tip

    def interrupted(values: Mapping[str, str]) -> str | None:
        raise Interrupted("The rebuild was interrupted by SIGINT.")

    story.case.machine.fails = interrupted
    with pytest.raises(Interrupted):
        story.run(story.case.site)
    lock = MachineLock(story.case.site.settings.machine_lock)
    assert lock.try_hold("{}")
    lock.release()
    assert story.case.site.state().tip == tip
