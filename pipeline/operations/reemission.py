"""Makes files the bytes that a comparison proved equal: of a build that lies here, and of nothing else.

What a comparison says is believed in nothing but how the bytes come about: they are made from the files that
lie here, which have to be those that were reported, and have to come to the digest that it has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pipeline.compare.environment import values_of
from pipeline.compare.rewriting import pieces, rewrite
from pipeline.compare.wire import Line
from pipeline.coordination.pairs import agreeing
from pipeline.coordination.promotion import not_allowed
from pipeline.edge.signatures import Signer
from pipeline.errors import FileFailed, ReemissionRefused
from pipeline.operations.attest import Attested, insist_on_key, promotable, publish, read_own
from pipeline.operations.policy import rules_of
from pipeline.operations.sides import hash_files
from pipeline.operations.site import Site
from pipeline.operations.trust import Trust
from pipeline.records.base import load_json
from pipeline.records.comparison import ComparedArtifact, Comparison, Verdict
from pipeline.records.policy import Policy
from pipeline.records.promotion import PromotedFile
from pipeline.records.rewriting import merged, normalisers_in

#: Opens a reader on this machine.
Open = Callable[[], Line]


@dataclass(frozen=True)
class Normalising:
    """How files are normalised: what comparisons say of it, and what opens a reader on this machine.

    Of several all steps are taken that any of them takes: they are of more than two builds.
    """

    comparisons: Sequence[Comparison]
    open: Open

    @cached_property
    def artifacts(self) -> list[ComparedArtifact]:
        """Returns the artifacts with their steps."""
        return merged(self.comparisons)

    @property
    def normalisers(self) -> list[str]:
        """Returns what a statement calls it."""
        return normalisers_in(self.artifacts)


@dataclass(frozen=True)
class Reported:
    """A build as it was reported: `manifest` are the bytes of its manifest, `files` the digests by name."""

    commit: str
    manifest: bytes
    files: Mapping[str, str]


def attest_normalised(
    site: Site, trust: Trust, signer: Signer, how: Normalising, job_id: str | None = None
) -> Attested:
    """Signs and publishes what a build of this builder's is when normalised as comparisons do it: by default
    the build that was compared. What it made is signed as well, if it was not yet.

    The bytes are made from the files that lie here; no comparison is believed in any. Raises as `attest`, and
    ReemissionRefused.
    """
    how = replace(how, comparisons=agreeing(how.comparisons))
    view = site.state().view
    rules = rules_of(view, trust)
    insist_on_key(rules, site.builder, signer)
    compared = (each for one in how.comparisons for each in (one.left_build, one.right_build) if each)
    of_mine = next((each.job_id for each in compared if each.builder == site.builder), None)
    own = read_own(site, view, job_id or of_mine)
    build = Reported(own.job.commit, own.data, promotable(own.manifest))
    check(how, build, rules.policy)
    files = canonical(how, build, own.folder)
    publish(site, rules, signer, own, build.files, [])
    return publish(site, rules, signer, own, files, how.normalisers)


def check(how: Normalising, build: Reported, policy: Policy) -> None:
    """Holds comparisons to what can be signed or promoted of a build. Raises ReemissionRefused."""
    for each in how.comparisons:
        _check(each, build)
    if not how.normalisers:
        raise _unfit("nothing in it is normalised")
    if refused := not_allowed(policy, how.normalisers):
        raise ReemissionRefused(refused.message, reason=refused.reason, remedy=refused.remedy)


def _check(found: Comparison, build: Reported) -> None:
    if found.scope != "builds" or found.verdict not in (Verdict.AGREE, Verdict.AGREE_NORMALISED):
        raise _unfit(f"its verdict is {found.verdict}, of {found.scope}")
    if any(each is None or each.commit != build.commit for each in (found.left_build, found.right_build)):
        raise _unfit("it is of another commit")
    names = [str(each.name) for each in found.artifacts]
    if sorted(names) != sorted(build.files):
        raise _unfit("it is of other files")
    for each in found.artifacts:
        if each.verdict not in (Verdict.AGREE, Verdict.AGREE_NORMALISED):
            raise _unfit(f"of {each.name} its verdict is {each.verdict}")
        if (each.verdict == Verdict.AGREE_NORMALISED) != bool(each.rewrites):
            raise ReemissionRefused(
                f"The comparison does not say how the bytes of {each.name} come about.",
                reason="rewrites",
                remedy="Compare again, with this version: `invoke compare`.",
            )


def _unfit(why: str) -> ReemissionRefused:
    return ReemissionRefused(
        f"By this comparison nothing is normalised: {why}.",
        reason="comparison",
        remedy="Give what `invoke compare --json` said of this commit, AGREE-NORMALISED.",
    )


def canonical(how: Normalising, build: Reported, folder: Path) -> dict[str, str]:
    """Returns the digests of a build's files as they are when normalised. Nothing is kept.

    Raises ReemissionRefused: `changed` for a file that is not the one that was reported, `other-bytes` where
    it does not come to what was compared, `unreadable` for what no reader writes anew.
    """
    digests = dict(build.files)
    for each in how.artifacts:
        name = str(each.name)
        if each.rewrites:
            with _written(how, build, folder, each) as (_, _, digests[name]):
                pass
    return digests


def emit(how: Normalising, build: Reported, folder: Path, target: Path) -> list[PromotedFile]:
    """Moves a build's files out of a private folder into another one, those that are normalised as they come
    out. Raises as `canonical`, and FileFailed.
    """
    made = []
    for each in sorted(how.artifacts, key=lambda each: str(each.name)):
        name = str(each.name)
        try:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if each.rewrites:
                with _written(how, build, folder, each) as (line, size, digest):
                    _write(target / name, pieces(line, each, size), digest)
            else:
                (folder / name).rename(target / name)
                size, digest = (target / name).stat().st_size, build.files[name]
        except OSError as exc:
            raise FileFailed(f"`{target / name}` cannot be written: {exc.strerror}.") from exc
        made.append(PromotedFile(name=name, size_bytes=size, sha256=digest))
    return made


@contextmanager
def _written(
    how: Normalising, build: Reported, folder: Path, artifact: ComparedArtifact
) -> Iterator[tuple[Line, int, str]]:
    """Yields a reader that has written one artifact anew, and the size and SHA-256 of what it wrote.

    Each has a reader of its own, so that what is unpacked is gone with it.
    """
    name, values = str(artifact.name), values_of(load_json(build.manifest, "manifest.json"))
    line = how.open()
    try:
        _insist(line, folder, name, build.files[name])
        size, digest = rewrite(line, artifact, values)
        again = line.ask({"ask": "again", "files": [name]}).get("digests")
        if again != {name: build.files[name]}:
            raise _changed(name)
        known = artifact.normalised_sha256 is not None or len(how.comparisons) == 1
        if known and digest != artifact.normalised_sha256:
            raise ReemissionRefused(
                f"{name} comes to {digest[:12]} when normalised, and the comparison says"
                f" {(artifact.normalised_sha256 or 'nothing')[:12]}: it is of other bytes.",
                reason="other-bytes",
                remedy="If it is of this very build, its other side or who compared does not tell the truth.",
            )
        yield line, size, digest
    finally:
        line.close()


def _insist(line: Line, folder: Path, name: str, digest: str) -> None:
    """Has the reader open and hash the file: from here on it is these bytes, whatever becomes of the name."""
    ((found,),) = hash_files([line], [str(folder / name)], [name])
    if found.problem is not None or found.sha256 != digest:
        raise _changed(name)


def _changed(name: str) -> ReemissionRefused:
    return ReemissionRefused(
        f"{name} is not the file that was reported.", reason="changed", remedy="Build again."
    )


def _write(place: Path, blocks: Iterator[bytes], expected: str) -> None:
    digest = hashlib.sha256()
    with place.open("xb", buffering=0) as file:
        for block in blocks:
            digest.update(block)
            left = memoryview(block)
            while left:
                left = left[file.write(left) :]
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    if digest.hexdigest() != expected:
        raise ReemissionRefused(f"`{place}` is not what the reader wrote.", reason="other-bytes")
