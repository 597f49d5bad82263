"""What a comparison says: the verdict, per artifact and over all, and each leaf that differs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from pipeline.records.base import Record, Timestamp
from pipeline.records.builds import Environment
from pipeline.records.names import BranchName, BuilderName, JobId, Oid


def _escaped(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


#: Text out of a file's names and headers. A byte that is no UTF-8 is a surrogate, and `\\xe9` in JSON.
Foreign = Annotated[str, PlainSerializer(_escaped, when_used="json")]


class Verdict(StrEnum):
    """What two sides' artifacts are to each other. Only the first two are agreement."""

    AGREE = "AGREE"
    AGREE_NORMALISED = "AGREE-NORMALISED"
    DIFFER = "DIFFER"
    INCOMPARABLE = "INCOMPARABLE"
    INCOMPLETE = "INCOMPLETE"


class RebuiltLeaf(Record):
    """What builds that were made again tell of one leaf.

    `kind` `random`: two builds that were alike differ; `time-dependent`: by the moment at which each ran;
    `host-dependent`: each side makes its own again; `transient`: all make the same now; `unstable`: one side
    makes its own again and the other does not, or what is known contradicts itself. `makes` names what alone,
    or `together`, gives one side what the other has, or is a `part` of it: what changes it, but not to that.
    `text` says it in words, and `evidence` what was seen.
    """

    kind: Literal["random", "time-dependent", "host-dependent", "transient", "unstable", "unknown"]
    makes: list[str] = Field(default_factory=list)
    how: Literal["alone", "together", "part"] | None = None
    text: str
    evidence: Foreign
    remedy: str | None = None


class ComparedLeaf(Record):
    """One place where two sides differ: the names on the way to it, from the artifact to the entry.

    `what` is the property that differs (`content`, `time`, …) and `count` how many entries of the container
    at `path` differ in it in the same way, when that is told of all of them together; `about` says that they
    were not counted but estimated. `left` and `right` are its values, as far as they can be shown. `cause` is
    None where nothing that is known explains it. `normalisers` made the bytes of its container equal, beside
    what was done inside that, and so prove its cause; None where nothing did. `rebuilt` is there where builds
    were made again.
    """

    path: list[Foreign]
    what: str
    count: int = 1
    about: bool = False
    left: Foreign | None = None
    right: Foreign | None = None
    cause: str | None = None
    evidence: str | None = None
    normalisers: list[str] | None = None
    rebuilt: RebuiltLeaf | None = None


class ComparedSide(Record):
    """One side's artifact: its size in bytes and its SHA-256 as that side stated it; None without one."""

    size_bytes: int | None = None
    sha256: str | None = None


class Rewrite(Record):
    """One container that was written anew: by the normalisers `use`, with what was written inside it before.

    `path` are the steps from the artifact to it, none for the artifact itself. A step is an entry's name, in
    which whatever is no visible ASCII, and `%` and `#`, is `%41` and so on; `#1` behind it is the second
    entry of that name.
    """

    path: list[str]
    use: list[str]


class ComparedDisplay(Record):
    """What is shown of two leaves that stay different, when that is asked for. It decides nothing.

    `path` is the file's. `tool` is what made the `lines`: `text` and `bytes` are this program's own, `javap`
    and `diffoscope` ran as `confined` says. A line begins with `-` for the left, `+` for the
    right; so many were `omitted`. `note` says how to read it, and why no other tool made it;
    `problem` why nothing is shown.
    """

    path: list[Foreign]
    tool: Literal["text", "bytes", "javap", "diffoscope"] | None = None
    lines: list[Foreign] = Field(default_factory=list)
    omitted: int = 0
    note: Foreign | None = None
    problem: Foreign | None = None
    confined: str | None = None


class ComparedArtifact(Record):
    """One artifact on both sides. `problem` says why it cannot be compared, where it cannot.

    `normalisers`, `normalised_sha256` and `rewrites` are there with AGREE-NORMALISED alone: what makes both
    sides the same bytes, the SHA-256 of those bytes, and how each side came to them, the innermost first.
    `told_in` are the jobs of the pair in which the same two contents are told already, of more than two
    builds: there are the leaves, which are counted here.
    `displays` are there where leaves were asked to be shown.
    """

    name: Foreign
    verdict: Verdict
    left: ComparedSide
    right: ComparedSide
    problem: Foreign | None = None
    leaves: list[ComparedLeaf] = Field(default_factory=list)
    leaves_omitted: int = 0
    normalisers: list[str] = Field(default_factory=list)
    normalised_sha256: str | None = None
    rewrites: list[Rewrite] = Field(default_factory=list)
    told_in: list[JobId] = Field(default_factory=list)
    displays: list[ComparedDisplay] = Field(default_factory=list)


class ComparedCause(Record):
    """Why leaves differ, over all artifacts: `leaves` of them. `proved`: normalisers made their bytes equal.

    `name` is what a leaf's `cause` holds. `remedy` is the setting that removes it for good, if there is one.
    """

    name: str
    text: str
    remedy: str | None = None
    leaves: int
    proved: bool = False
    normalisers: list[str] = Field(default_factory=list)


class Difference(Record):
    """One input, or one property of the environment, that differs. None: that side has none.

    `explains` names the causes that it may be behind; of an environment the likeliest comes first.
    """

    name: Foreign
    left: Foreign | None
    right: Foreign | None
    explains: list[str] = Field(default_factory=list)


class ComparedBuild(Record):
    """Whose build one side is."""

    builder: BuilderName
    job_id: JobId
    commit: Oid


class ComparedGroup(Record):
    """Builders whose packages are the same, byte for byte. No group is the right one."""

    builders: list[BuilderName]


class ComparedPair(Record):
    """Two of more than two builds, told as the whole tells of the two that tell most."""

    verdict: Verdict
    independent: bool
    left: Foreign
    right: Foreign
    left_build: ComparedBuild
    right_build: ComparedBuild
    artifacts: list[ComparedArtifact]
    problems: list[Foreign] = Field(default_factory=list)
    inputs: list[Difference] = Field(default_factory=list)
    environment: list[Difference] = Field(default_factory=list)
    causes: list[ComparedCause] = Field(default_factory=list)
    normalisers: list[str] = Field(default_factory=list)


class Rebuild(Record):
    """One build that was made again: of a side, with what was `changed` set to the value that is told.

    `problem` says why it failed, or was not made; then it tells nothing.
    """

    name: Foreign
    side: Literal["left", "right"]
    changed: dict[str, Foreign] = Field(default_factory=dict)
    problem: Foreign | None = None
    duration_seconds: float = 0.0


class Rebuilds(Record):
    """The builds that were made again to tell what differing leaves depend on, in the order of their making.

    `built` says in words what each of them built, `modules` which modules own what differs, as far as the
    names of files tell. `not_varied` says of each thing that differs, or may, why no build had it as the
    other side has it.
    """

    built: str
    builds: list[Rebuild]
    modules: list[str] = Field(default_factory=list)
    not_varied: list[Foreign] = Field(default_factory=list)
    notes: list[Foreign] = Field(default_factory=list)


class Wire(Record):
    """What travelled between here and the readers of both sides, with all that carries it.

    `handshake_bytes` make the connections, `program_bytes` send the readers and bring their first answer;
    `bytes` are those of all questions and answers after, and `round_trips` how often one was waited for.
    After `connect_seconds` both readers had answered for the first time.
    """

    bytes: int
    round_trips: int
    handshake_bytes: int = 0
    program_bytes: int = 0
    connect_seconds: float = 0.0


class Comparison(Record):
    """The whole of a comparison. `scope` `files` says nothing about builds: no inputs are known.

    `independent` is false where nothing shows that two different machines made the two sides. `inputs` that
    differ make the whole INCOMPARABLE; what is recorded of the `environment` may differ. Of more than two
    builds it is about the two that tell most, `pairs` are all other two, and `groups` those that are equal.
    `rebuilds` is there where builds were made again.
    """

    verdict: Verdict
    scope: Literal["builds", "files"]
    independent: bool
    left: Foreign
    right: Foreign
    artifacts: list[ComparedArtifact]
    problems: list[Foreign] = Field(default_factory=list)
    left_build: ComparedBuild | None = None
    right_build: ComparedBuild | None = None
    inputs: list[Difference] = Field(default_factory=list)
    environment: list[Difference] = Field(default_factory=list)
    causes: list[ComparedCause] = Field(default_factory=list)
    normalisers: list[str] = Field(default_factory=list)
    groups: list[ComparedGroup] = Field(default_factory=list)
    pairs: list[ComparedPair] = Field(default_factory=list)
    wire: Wire
    duration_seconds: float
    rebuilds: Rebuilds | None = None

    def each_pair(self) -> list[Comparison]:
        """Returns this as comparisons of two builds each, the most telling first."""
        alone = self.model_copy(update={"pairs": [], "groups": []})
        told = [{name: getattr(pair, name) for name in type(pair).model_fields} for pair in self.pairs]
        return [alone, *(alone.model_copy(update=each) for each in told)]


class StatedEnvironment(Record):
    """What a builder has stated of its environment; None for one that has stated nothing yet."""

    builder: BuilderName
    fingerprint: str | None
    environment: Environment | None


class PropertyOfBuilders(Record):
    """One property that is not the same on all builders: its value by builder, None where it is not stated.

    `drift`: builders that are set up alike have the same.
    """

    name: Foreign
    values: dict[BuilderName, Foreign | None]
    drift: bool


class EnvironmentComparison(Record):
    """What builders state of their environments before any build. `alike`: the fingerprints are the same."""

    alike: bool
    builders: list[StatedEnvironment]
    differences: list[PropertyOfBuilders]


class ComparedJob(Record):
    """One of the builds that were compared."""

    builder: BuilderName
    job_id: JobId


class ComparisonSummary(Record):
    """What the ledger keeps of a comparison of builds; the leaves are in a file on the builder that compared.

    `artifacts` counts artifacts by verdict, `causes` leaves by cause; `inputs` names inputs that differ.
    """

    branch: BranchName
    commit: Oid
    builds: list[ComparedJob] = Field(min_length=2, max_length=20)
    verdict: Verdict
    independent: bool
    artifacts: dict[Verdict, int] = Field(default_factory=dict)
    groups: list[ComparedGroup] = Field(default_factory=list, max_length=20)
    inputs: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=10)
    causes: dict[Annotated[str, Field(max_length=60)], int] = Field(default_factory=dict, max_length=20)


class KeptComparison(ComparisonSummary):
    """A comparison as the ledger keeps it: `id` is the operation that recorded it, `by` who compared."""

    id: str
    by: BuilderName
    at: Timestamp


class Comparisons(Record):
    """`coordination/comparisons.json`: the newest comparisons of builds, in commit order."""

    comparisons: list[KeptComparison] = Field(default_factory=list)
