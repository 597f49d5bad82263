"""Builds again what two builders made differently, until it is known what each leaf depends on.

`counterfactuals` decides which build comes next and what they tell; a `Maker` makes each; it is held against
those before it by the comparison's own readers, and then removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Literal

from pipeline.builds.stage import NOT_VARIED, values_of
from pipeline.compare.counterfactuals import LEFT, REPEATS, RIGHT, THINGS, Change, Forms, next_change
from pipeline.compare.descent import descend
from pipeline.compare.explaining import explain
from pipeline.compare.leaf_forms import EQUAL, UNREADABLE, Key, Pair, form_of, key_of, pair_of
from pipeline.compare.moments import Told, tells_its_time
from pipeline.compare.telling import owners, rebuilt, told
from pipeline.compare.wire import Line
from pipeline.errors import ComparisonIncomplete
from pipeline.operations.agreement import Side
from pipeline.operations.sides import hash_files
from pipeline.operations.site import Site
from pipeline.operations.workshop import Made, Maker
from pipeline.records.builds import Environment, Manifest
from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedLeaf,
    ComparedSide,
    Comparison,
    Rebuild,
    Rebuilds,
    Verdict,
)

_WORDS: Final[tuple[Literal["left"], Literal["right"]]] = ("left", "right")
#: Causes that are a moment: where a leaf differs in nothing else, the clock may be behind it.
_TIMES: Final = frozenset(
    {
        *("text-date", "binary-date", "java-properties-date", "javadoc-date", "jaxb-date"),
        *("zip-times", "tar-times", "ar-times", "deb-times", "gzip-header", "git-properties"),
    }
)
#: Causes of leaves that are as they are because of another leaf.
_FOLLOW: Final = frozenset({"follows"})


@dataclass(frozen=True)
class Original:
    """One of the builds that were compared: where its files lie, and what is stated of it."""

    side: Side
    manifest: Manifest
    here: bool

    @property
    def environment(self) -> Environment:
        """Returns where it was built."""
        return self.manifest.environment or Environment()

    @property
    def ran(self) -> tuple[datetime, datetime]:
        """Returns when: its manifest is written when it has ended."""
        length = sum(stage.duration_seconds for stage in self.manifest.stages)
        return self.manifest.created_at - timedelta(seconds=length), self.manifest.created_at


def differing(found: Comparison) -> list[ComparedArtifact]:
    """Returns the artifacts whose bytes differ and of which it is known where."""
    wanted = (Verdict.DIFFER, Verdict.AGREE_NORMALISED)
    return [each for each in found.artifacts if each.verdict in wanted and each.leaves]


def explain_by_building(
    site: Site,
    found: Comparison,
    originals: tuple[Original, Original],
    maker: Maker,
    open_folder: Callable[[str], Line],
) -> Comparison:
    """Returns a comparison with what building again tells of each leaf.

    `open_folder` opens a reader on this machine, given what it is called. Raises Interrupted; a build that
    fails is told in the result.
    """
    subject = differing(found)
    with ExitStack() as stack:
        run = _Run(site, subject, originals, maker, open_folder, stack)
        run.repeat()
        run.change()
    artifacts = [run.told(each) for each in found.artifacts]
    return found.model_copy(update={"artifacts": artifacts, "rebuilds": run.summary()})


@dataclass
class _Known:
    """One build that can be read: when and where it ran, and what it has where that may be a moment."""

    name: str
    line: Line
    digests: Mapping[str, str | None]
    ran: tuple[datetime, datetime]
    timezone: str | None
    values: dict[tuple[str, Key], str] = field(default_factory=dict)


class _Run:
    """All that is built again for one comparison, and what is known by then."""

    def __init__(
        self,
        site: Site,
        subject: list[ComparedArtifact],
        originals: tuple[Original, Original],
        maker: Maker,
        open_folder: Callable[[str], Line],
        stack: ExitStack,
    ) -> None:
        self._site, self._subject, self._originals, self._maker = site, subject, originals, maker
        self._open_folder, self._stack = open_folder, stack
        self._names = _names(originals)
        self._here = originals[LEFT].here, originals[RIGHT].here
        self._builds: list[Rebuild] = []
        self._made: dict[Change, str | None] = {}
        self._hopeless: str | None = None
        self._known = [self._original(side) for side in (LEFT, RIGHT)]
        #: Every later build is held against these: the originals, and each side's first that was made again.
        self._measures = list(self._known)
        self._repeats: tuple[list[str | None], list[str | None]] = ([], [])
        self._forms: dict[tuple[str, Key], dict[str, str | int | None]] = {
            (artifact.name, key_of(leaf)): {each.name: each.name for each in self._known}
            for artifact in subject
            for leaf in artifact.leaves
        }
        for artifact in subject:
            for leaf in artifact.leaves:
                for each, value in zip(self._known, (leaf.left, leaf.right), strict=True):
                    each.values[artifact.name, key_of(leaf)] = value or ""
        self._suspects, self._values, self._not_varied = self._possible()

    # -- what to do ----------------------------------------------------------------------------------

    def repeat(self) -> None:
        """Makes each side's build again, twice alike, as far as it can be made here."""
        count = REPEATS * sum(self._here)
        begun, ended = next(each for each in self._originals if each.here).ran
        self._site.say(f"At least {count} builds, of about {(ended - begun).total_seconds():.0f} s each …")
        for side in (LEFT, RIGHT):
            for number in range(REPEATS) if self._here[side] else ():
                name = f"{self._names[side]}, again ({number + 1} of {REPEATS})"
                self._repeats[side].append(self._build(name, side, frozenset()))
            made = [self._named(name) for name in self._repeats[side] if name is not None]
            for one, two in pairwise([self._known[side], *made]):
                self._look_at_values(one, two)

    def change(self) -> None:
        """Makes builds with something changed, for as long as one of them can tell more."""
        while self._hopeless is None:
            # Thousands of leaves have few patterns among them.
            every = {tuple(forms.values()): self._of(*leaf) for leaf, forms in self._forms.items()}
            change = next_change(every.values(), self._suspects, self._here, self._made.keys())
            if change is None:
                return
            self._made[change] = self._build(told(change, self._names), change.side, change.things)

    def _build(self, name: str, side: int, things: frozenset[str]) -> str | None:
        """Makes one build and holds it against those before; returns its name, or None if it failed."""
        if self._hopeless is not None:
            return None
        values = {**self._values[side], **{thing: self._values[1 - side].get(thing, "") for thing in things}}
        self._site.say(f"Building {name} …")
        made = self._maker.make(values)
        changed = {thing: values[thing] or "reversed" for thing in sorted(things)}
        record = Rebuild(
            name=name,
            side=_WORDS[side],
            changed=changed,
            problem=made.problem,
            duration_seconds=round(made.seconds, 1),
        )
        if made.folder is not None:
            try:
                self._hold(name, side, made, values.get("timezone"), keep=not things)
            except ComparisonIncomplete as exc:
                record = record.model_copy(update={"problem": exc.message})
        if record.problem:
            self._site.say(f"Note: {name}: {record.problem}")
        self._hopeless = record.problem if made.hopeless else None
        self._builds.append(record)
        return None if record.problem else name

    # -- what is known -------------------------------------------------------------------------------

    def _original(self, side: int) -> _Known:
        original = self._originals[side]
        line = original.side.open()
        self._stack.callback(line.close)
        digests = _digests(line, original.side.root)
        for artifact in self._subject:
            if digests.get(artifact.name) != (artifact.left, artifact.right)[side].sha256:
                raise ComparisonIncomplete(
                    f"{artifact.name} changed on {line.name} since it was compared.",
                    remedy="Compare again: `invoke compare --rebuild`.",
                )
        name = f"{_WORDS[side]} original"
        return _Known(name, line, digests, original.ran, original.environment.timezone)

    def _hold(self, name: str, side: int, made: Made, timezone: str | None, *, keep: bool) -> None:
        """Holds a build against those that are known; with `keep` its files and its reader stay."""
        assert made.folder is not None
        line = self._open_folder(name)
        try:
            one = _Known(name, line, _digests(line, str(made.folder)), (made.begun, made.ended), timezone)
            for artifact in self._subject:
                pairs = {each.name: self._pair(one, each, artifact.name) for each in self._measures}
                for leaf in artifact.leaves:
                    forms = self._forms[artifact.name, key_of(leaf)]
                    known = {each.name: forms[each.name] for each in self._measures}
                    forms[name] = form_of(name, key_of(leaf), known, pairs)
            if keep:
                self._keep(one, side)
        except BaseException:
            line.close()
            raise
        if not keep:
            line.close()
            shutil.rmtree(made.folder, ignore_errors=True)

    def _keep(self, one: _Known, side: int) -> None:
        self._known.append(one)
        self._stack.callback(one.line.close)
        if not any(self._repeats[side]):
            self._measures.append(one)

    def _named(self, name: str) -> _Known:
        return next(each for each in self._known if each.name == name)

    def _pair(self, one: _Known, two: _Known, artifact: str) -> Pair:
        digests = one.digests.get(artifact), two.digests.get(artifact)
        if None in digests:
            return UNREADABLE
        if digests[0] == digests[1]:
            return EQUAL
        found = descend(one.line, two.line, artifact)
        return pair_of(found.leaves, found.unreadable)

    def _look_at_values(self, one: _Known, two: _Known) -> None:
        """Looks at what differs between two builds that were alike, where that may be a moment."""
        for artifact in self._subject:
            if not any(leaf.cause in _TIMES for leaf in artifact.leaves):
                continue
            digests = one.digests.get(artifact.name), two.digests.get(artifact.name)
            if None in digests or digests[0] == digests[1]:
                continue
            sides = [ComparedSide(sha256=digest) for digest in digests]
            differs = ComparedArtifact(
                name=artifact.name, verdict=Verdict.DIFFER, left=sides[0], right=sides[1]
            )
            for leaf in explain(differs, one.line, two.line, lambda text: None).leaves:
                if leaf.cause in _TIMES and (artifact.name, key_of(leaf)) in self._forms:
                    one.values.setdefault((artifact.name, key_of(leaf)), leaf.left or "")
                    two.values.setdefault((artifact.name, key_of(leaf)), leaf.right or "")

    def _of(self, artifact: str, key: Key) -> Forms:
        forms = self._forms[artifact, key]
        repeats = [tuple(forms.get(name) if name else None for name in names) for names in self._repeats]
        return Forms(
            (self._known[LEFT].name, self._known[RIGHT].name),
            (repeats[LEFT], repeats[RIGHT]),
            {change: forms.get(name) if name else None for change, name in self._made.items()},
        )

    # -- what comes of it ----------------------------------------------------------------------------

    def told(self, artifact: ComparedArtifact) -> ComparedArtifact:
        """Returns an artifact with what is told of its leaves."""
        if artifact not in self._subject:
            return artifact
        leaves = []
        for leaf in artifact.leaves:
            if leaf.cause in _FOLLOW:  # it is what it is because of what another leaf is
                leaves.append(leaf)
                continue
            forms = self._of(artifact.name, key_of(leaf))
            forms = replace(forms, dated=leaf.cause in _TIMES and self._is_dated(artifact.name, key_of(leaf)))
            leaves.append(leaf.model_copy(update={"rebuilt": rebuilt(leaf, forms, self._names)}))
        return artifact.model_copy(update={"leaves": leaves})

    def _is_dated(self, artifact: str, key: Key) -> bool:
        values = [
            (each, each.values[artifact, key]) for each in self._known if (artifact, key) in each.values
        ]
        return tells_its_time([Told(value, *each.ran, each.timezone) for each, value in values])

    def summary(self) -> Rebuilds:
        """Returns what was built, and what could not be."""
        leaves: list[ComparedLeaf] = [leaf for artifact in self._subject for leaf in artifact.leaves]
        ids = {each.artifact or each.name for each in self._originals[LEFT].manifest.modules}
        notes = list(self._maker.notes)
        notes += [
            f"{self._names[side]} is another machine: nothing was built there, its values were tried here."
            for side in (LEFT, RIGHT)
            if not self._here[side]
        ]
        notes += [
            f"{self._names[side]} had another {THINGS[thing].words.removeprefix('the ')} when it built first."
            for side in (LEFT, RIGHT)
            for thing, value in self._values[side].items()
            if self._here[side] and not self._maker.exact(thing, value)
        ]
        if self._hopeless:
            notes.append(f"Ended early: {self._hopeless}")
        return Rebuilds(
            built="of the whole recipe: packages are made of all modules at once",
            builds=self._builds,
            modules=owners(leaves, ids),
            not_varied=self._not_varied,
            notes=notes,
        )

    def _possible(self) -> tuple[list[str], tuple[dict[str, str], dict[str, str]], list[str]]:
        """Returns which things can be changed, the values that each side has, and why others cannot."""
        stated = [values_of(each.environment) for each in self._originals]
        suspects, not_varied = [], []
        for thing in THINGS:
            if thing in ("clock", "order"):
                continue
            ours, theirs = (side.get(thing) for side in stated)
            if ours is None or theirs is None:
                not_varied.append(
                    f"{THINGS[thing].words}: it is not recorded of both sides, or in an odd way"
                )
            elif ours != theirs:
                why = self._maker.why_not(thing, ours) or self._maker.why_not(thing, theirs)
                if why is None:
                    suspects.append(thing)
                else:
                    not_varied.append(f"{THINGS[thing].words}: {why}")
        not_varied.append("the clock: no build is given another; what tells its own hour is known by that")
        why = self._maker.why_not("order", "")
        if why is None:
            suspects.append("order")
        else:
            not_varied.append(f"{THINGS['order'].words}: {why}")
        environments = [each.environment for each in self._originals]
        others = [name for name in NOT_VARIED if _own(environments[0], name) != _own(environments[1], name)]
        not_varied += [f"{name}: differs, and stays this machine's own" for name in others]
        return suspects, (stated[LEFT], stated[RIGHT]), not_varied


def _own(environment: Environment, name: str) -> object:
    """Returns what a machine has of a property; of PATH, without the folder that each build has in front."""
    value = getattr(environment, name)
    return value.partition(":")[2] if name == "path" and value else value


def _digests(line: Line, root: str) -> dict[str, str | None]:
    (files,) = hash_files([line], [root])
    return {each.path: each.sha256 for each in files}


def _names(originals: tuple[Original, Original]) -> tuple[str, str]:
    names = [each.side.job.assigned_to or _WORDS[at] for at, each in enumerate(originals)]
    return (names[0], names[1]) if names[0] != names[1] else (_WORDS[0], _WORDS[1])
