"""Explains an artifact that differs: goes down into it, has it normalised, and names what is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pipeline.compare import normalising
from pipeline.compare.causes import Named, Seen, Shown, cause_of, renamed
from pipeline.compare.descent import Found, Node, descend
from pipeline.compare.evidence import look
from pipeline.compare.normalising import Normalised, Settled, Values
from pipeline.compare.remedies import CAUSES
from pipeline.compare.wire import Line
from pipeline.records.comparison import ComparedArtifact, ComparedCause, ComparedLeaf, Verdict

#: Of one artifact so many differing leaves are kept; more are counted.
MOST_LEAVES: Final = 10_000

_SHOWN: Final = 300
_NOTHING: Final[Mapping[str, str]] = {}


def explain(
    artifact: ComparedArtifact,
    one: Line,
    two: Line,
    say: Callable[[str], None],
    values: tuple[Values, Values] = (_NOTHING, _NOTHING),
    note: Callable[[ComparedArtifact, Found], None] = lambda artifact, found: None,
) -> ComparedArtifact:
    """Returns an artifact that differs with the leaves in which it does; AGREE-NORMALISED where normalisers
    make both sides the same bytes, and the bytes are still those that were hashed at first.

    `values` are what was recorded of where each side was built. `note` is told what is returned, and which
    places were found. Raises ComparisonIncomplete.
    """
    if artifact.verdict != Verdict.DIFFER:
        return artifact
    say(f"Looking into {artifact.name} …")
    lines = one, two
    found = descend(one, two, artifact.name)
    done = Normalised() if found.unreadable else normalising.normalise(lines, found, values)
    leaves = [] if found.unreadable else _Explained(lines, found, done, values).leaves()
    found.unreadable += hash_again(artifact, lines)
    problem = "; ".join(found.unreadable[:3]) or None
    proved = done.sha256 is not None and done.names and not problem
    verdict = Verdict.INCOMPLETE if problem else Verdict.AGREE_NORMALISED if proved else Verdict.DIFFER
    leaves = leaves or found.leaves
    explained = artifact.model_copy(
        update={
            "verdict": verdict,
            "problem": problem,
            "leaves": leaves[:MOST_LEAVES],
            "leaves_omitted": max(0, len(leaves) - MOST_LEAVES),
            "normalisers": list(done.names) if proved else [],
            "normalised_sha256": done.sha256 if proved else None,
            "rewrites": done.rewrites if proved else [],
        }
    )
    note(explained, found)
    return explained


def hash_again(artifact: ComparedArtifact, lines: Sequence[Line]) -> list[str]:
    """Hashes an artifact again; says in words on which side it is not what it was.

    Raises ComparisonIncomplete.
    """
    told = []
    for line, side in zip(lines, (artifact.left, artifact.right), strict=True):
        again = line.ask({"ask": "again", "files": [artifact.name]}).get("digests", {})
        if not isinstance(again, dict) or again.get(artifact.name) != side.sha256:
            told.append(f"{artifact.name} changed on {line.name} while it was compared")
    return told


def causes_of(artifacts: Iterable[ComparedArtifact]) -> list[ComparedCause]:
    """Returns the causes of all leaves, what is behind most of them first."""
    counts: dict[str, int] = {}
    proved: dict[str, bool] = {}
    used: dict[str, set[str]] = {}
    for leaf in (leaf for artifact in artifacts for leaf in artifact.leaves if leaf.cause in CAUSES):
        name = str(leaf.cause)
        counts[name] = counts.get(name, 0) + 1
        proved[name] = proved.get(name, True) and leaf.normalisers is not None
        used.setdefault(name, set()).update(leaf.normalisers or ())
    return [
        ComparedCause(
            name=name,
            text=CAUSES[name].text,
            remedy=CAUSES[name].remedy,
            leaves=count,
            proved=proved[name],
            normalisers=sorted(used[name]),
        )
        for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]


def normalisers_of(artifacts: Iterable[ComparedArtifact]) -> list[str]:
    """Returns the normalisers that made the bytes of any artifact equal."""
    return sorted({name for each in artifacts for name in each.normalisers})


class _Explained:
    """The leaves of one artifact, each with what is known of its cause."""

    def __init__(
        self, lines: tuple[Line, Line], found: Found, done: Normalised, values: tuple[Values, Values]
    ) -> None:
        self._root, self._done, self._values = found.root, done, values
        self._parents = normalising.parents_of(found.root)
        leaves = [node for node in found.root.every() if node.kind is None and not node.same]
        self._shown = look(lines, [node for node in leaves if node.leaves[0].what == "content"])
        packages = [node for node in found.root.every() if node.kind == "deb"]
        right = normalising.follows(lines, [node.path for node in packages])
        self._right = {id(node): names for node, names in zip(packages, right, strict=True)}

    def leaves(self) -> list[ComparedLeaf]:
        """Returns them."""
        return [leaf for node in self._root.every() for leaf in self._of(node)]

    def _of(self, node: Node) -> list[ComparedLeaf]:
        shown = self._shown.get(id(node))
        holder = node if node.kind is not None else self._parents.get(id(node), node)
        kind = normalising.part_of(holder, self._parents)
        settled = self._done.of(holder)
        names: dict[str, str] = {}
        if any(leaf.what == "name" for leaf in node.leaves):
            pairs = renamed(
                [leaf.path[-1] for leaf in node.leaves if leaf.what == "name" and leaf.left is not None],
                [leaf.path[-1] for leaf in node.leaves if leaf.what == "name" and leaf.right is not None],
            )
            names = {**pairs, **{two: one for one, two in pairs.items()}}
        told = []
        for leaf in node.leaves:
            named = self._named(leaf, node, kind, shown, names)
            changed: dict[str, Any] = {}
            if shown is not None and leaf.what == "content":
                changed = _excerpt(shown)
            if named is not None:
                changed["cause"], evidence = named
                if settled is not None:
                    evidence = f"proved: {_words(settled)} make the bytes equal; {evidence}"
                    changed["normalisers"] = list(settled.use)
                changed["evidence"] = _joined(changed.get("evidence"), evidence)
            elif (why := self._done.refused.get(id(node))) is not None:
                changed["evidence"] = _joined(changed.get("evidence"), why)
            told.append(leaf.model_copy(update=changed))
        return told

    def _named(
        self, leaf: ComparedLeaf, node: Node, kind: str, shown: Shown | None, names: Mapping[str, str]
    ) -> Named | None:
        if leaf.what == "name" and leaf.path[-1] in names:
            return "content-hash", f"the other side has {names[leaf.path[-1]]}"
        if kind == "control tar" and node.kind is None and self._follows(node):
            return "follows", "right for each side's own files"
        if kind.endswith("tar") and leaf.what == "end" and node.below:
            return "follows", "the padding goes with what is inside"
        ours, theirs = self._values
        if kind == "class" and leaf.what == "name":
            return self._constant(leaf, node)
        return cause_of(Seen(leaf.path, kind, leaf.what, leaf.left, leaf.right, shown, ours, theirs))

    def _constant(self, leaf: ComparedLeaf, node: Node) -> Named | None:
        """Returns the cause of a constant that one side has, held against that which the other has instead,
        where each side has as many.
        """
        found = [each for each in node.leaves if each.what == "name"]
        left = sorted(each.path[-1] for each in found if each.left is not None)
        right = sorted(each.path[-1] for each in found if each.right is not None)
        if len(left) != len(right):
            return None
        one, two = next(pair for pair in zip(left, right, strict=True) if leaf.path[-1] in pair)
        return cause_of(Seen([*node.shown, "constant"], "class", "value", one, two, None, *self._values))

    def _follows(self, node: Node) -> bool:
        """Says whether a member of a package's control part follows from its files, as far as it differs."""
        package: Node | None = node
        while package is not None and package.kind != "deb":
            package = self._parents.get(id(package))
        right = self._right.get(id(package), frozenset())
        shown = self._shown.get(id(node))
        name = node.shown[-1].removeprefix("./")
        if name == "md5sums":
            return "deb-md5sums" in right
        return (
            name == "control"
            and "deb-installed-size" in right
            and shown is not None
            and shown.every
            and all((line or "").startswith("Installed-Size: ") for pair in shown.pairs for line in pair)
        )


def _words(settled: Settled) -> str:
    return ", ".join(settled.use) or "what was done inside it"


def _joined(one: str | None, two: str) -> str:
    return f"{one}; {two}" if one else two


def _excerpt(shown: Shown) -> dict[str, str | None]:
    """Returns what a leaf shows of its content instead of sizes and digests: the first line that differs."""
    where = f"first at byte {shown.at}" + (f", line {shown.line}" if shown.text and shown.line else "")
    if shown.text and shown.pairs:
        one, two = (None if each is None else each.strip()[:_SHOWN] for each in shown.pairs[0])
        more = f", {len(shown.pairs)} lines" if len(shown.pairs) > 1 else ""
        return {"left": one, "right": two, "evidence": where + more}
    return {"left": shown.bytes[0], "right": shown.bytes[1], "evidence": where}
