"""Promoted sets on disk: put together in private, moved into place whole, verified with files alone.

    <promoted>/<branch>/<number>/files/…          the packages
                                 promotion.json   the entry; beside each statement lies its signature, `.sig`
                                 policy.json, revocations.json, attestations/<builder>.json
    <promoted>/<branch>/current -> <number>       the pointer

Guarantee: what lies below `files` are the bytes that were hashed when it was decided, and no others
(`tests/operations/test_promote.py`).
Non-guarantee: offline, nothing shows that there is no newer entry than the one that lies there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from pipeline.builds.artifacts import process_mark, slug
from pipeline.coordination.counting import Case, Excluded, Rules, count
from pipeline.edge.disk import flush_folder
from pipeline.edge.plain_file import open_plain
from pipeline.errors import (
    FileFailed,
    Outdated,
    PromotionInvalid,
    RecordInvalid,
    ReemissionRefused,
)
from pipeline.operations.attest import look
from pipeline.operations.reemission import Normalising, Reported, emit
from pipeline.operations.trust import (
    POLICY,
    REVOCATIONS,
    Signed,
    Trust,
    read_entry,
    read_signed,
    write_durably,
)
from pipeline.records.decisions import Refusal
from pipeline.records.policy import Policy
from pipeline.records.promotion import PromotedFile, Promotion
from pipeline.records.rewriting import is_one_way, names_of

FILES, ENTRY, ATTESTATIONS, CURRENT = "files", "promotion.json", "attestations", "current"
#: Where files lie in a private folder that are still to be normalised.
_BUILT = "built"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Verified:
    """What a promoted set was found to be. `excluded` are statements beside it that do not count."""

    entry: Promotion
    builders: list[str]
    keys: str
    policy_number: int
    revocations: int
    excluded: list[Excluded] = field(default_factory=list)


def branch_folder(promoted: Path, branch: str) -> Path:
    """Returns the folder of a branch's promoted sets."""
    return promoted / slug(branch)


def set_folder(promoted: Path, branch: str, number: int) -> Path:
    """Returns the folder of one promoted set."""
    return branch_folder(promoted, branch) / f"{number:06d}"


# ---------------------------------------------------------------- putting together


@contextmanager
def private_folder(promoted: Path, branch: str) -> Iterator[Path]:
    """Yields a new folder that nobody else may look into; it is removed if it is still there at the end."""
    place = branch_folder(promoted, branch) / f".private-{process_mark()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
    except OSError as exc:
        raise FileFailed(f"`{place}` cannot be made: {exc.strerror}.") from exc
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def copy_in(source: Path, names: Iterable[str], private: Path, below: str = FILES) -> list[PromotedFile]:
    """Copies files into a private folder and hashes what it writes: from here on these are the bytes.

    Raises FileFailed for what is missing, a link, or no regular file.
    """
    made = []
    for name in sorted(names):
        target = private / below / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            size, digest = _copy(source / name, target)
        except OSError as exc:
            raise FileFailed(
                f"`{source / name}` cannot be copied: {exc.strerror}.",
                remedy="Give the folder that has it: `--folder`.",
            ) from exc
        made.append(PromotedFile(name=name, size_bytes=size, sha256=digest))
    _flush_folders(private / below, made)
    return made


def normalise_in(how: Normalising, build: Reported, source: Path, private: Path) -> list[PromotedFile]:
    """Copies a build's files into a private folder as they are when normalised: from the copy, not from what
    lies there by then. Raises as `copy_in` and `emit`.
    """
    copied = copy_in(source, build.files, private, _BUILT)
    if wrong := [each.name for each in copied if each.sha256 != build.files[each.name]]:
        raise ReemissionRefused(f"{wrong[0]} is not the file that was reported.", reason="changed")
    made = emit(how, build, private / _BUILT, private / FILES)
    shutil.rmtree(private / _BUILT)
    _flush_folders(private / FILES, made)
    return made


def _flush_folders(root: Path, made: Iterable[PromotedFile]) -> None:
    """Makes the names of files survive a power loss."""
    for folder in sorted({(root / each.name).parent for each in made} | {root}):
        flush_folder(folder)


def _copy(source: Path, target: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open_plain(source) as reading, target.open("xb", buffering=0) as writing:
        while block := reading.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            view = memoryview(block)
            while view:
                view = view[writing.write(view) :]
        os.fchmod(writing.fileno(), 0o644)
        os.fsync(writing.fileno())
    return size, digest.hexdigest()


def hash_again(private: Path, files: Iterable[PromotedFile]) -> None:
    """Holds a private copy to what it was when it was made. Raises PromotionInvalid."""
    _insist_on_files(private, list(files))


def write_statements(private: Path, statements: Mapping[str, Signed]) -> None:
    """Writes what a set is verified by beside its files: name -> statement."""
    for name, signed in statements.items():
        write_durably(private / name, signed.data)
        write_durably(private / f"{name}.sig", signed.signature or b"")


def prepared_folder(promoted: Path, branch: str, sha256: str) -> Path:
    """Returns where a set lies whose entry is on its way into the ledger, by the entry's SHA-256."""
    return branch_folder(promoted, branch) / f".prepared-{sha256[:32]}"


def prepare(private: Path, prepared: Path) -> None:
    """Gives a complete set the name under which it waits for its entry, and keeps it after a power loss."""
    private.rename(prepared)
    for folder in (prepared.parent, prepared.parent.parent):
        flush_folder(folder)


def all_prepared(promoted: Path, branch: str) -> list[Path]:
    """Returns the sets that lie prepared, by name."""
    return sorted(branch_folder(promoted, branch).glob(".prepared-*"))


def move_into_place(prepared: Path, promoted: Path, entry: Promotion) -> Path:
    """Makes a prepared set the branch's current one: its folder first, then the pointer. Can be repeated.

    The pointer never goes back: where a set of a higher number lies here already, it stays.
    """
    target = set_folder(promoted, entry.branch, entry.number)
    try:
        if prepared.is_dir():
            prepared.chmod(0o755)
            prepared.rename(target)
            flush_folder(target.parent)
        if any(each.name.isdigit() and int(each.name) > entry.number for each in target.parent.iterdir()):
            return target
        pointer = target.parent / CURRENT
        beside = target.parent / f".current-{process_mark()}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.name)
        beside.replace(pointer)
        flush_folder(target.parent)
    except OSError as exc:
        raise FileFailed(
            f"The promoted set cannot be moved to `{target}`: {exc.strerror}.",
            remedy="It is promoted in the ledger; `invoke promote` again moves it.",
        ) from exc
    return target


# ---------------------------------------------------------------- verifying


def verify_set(folder: Path, trust: Trust) -> Verified:
    """Verifies a promoted set with its files, a policy and the root key, and with nothing else.

    Raises PolicyInvalid, SignatureInvalid, PromotionInvalid, and Outdated for what is older than this machine
    has seen.
    """
    rules = _rules(folder, trust)
    found = read_signed(folder / ENTRY)
    if found is None:
        raise PromotionInvalid(f"`{folder}` is no promoted set: it has no `{ENTRY}`.", reason="no-entry")
    try:
        entry = read_entry(trust, rules, found, str(folder / ENTRY))
    except RecordInvalid as exc:
        raise PromotionInvalid(exc.message, reason="unreadable") from exc
    _insist_on_policy(entry, rules)
    _insist_on_files(folder, entry.artifacts)
    try:
        # That they were committed to beforehand only the ledger shows: here it is the promoter's word.
        attestations = [
            replace(look(trust, rules, signed, place), witnessed=entry.witnessed)
            for place, signed in _beside(folder)
            if signed.sha256 in {each.attestation for each in entry.counted}
        ]
    except RecordInvalid as exc:
        raise PromotionInvalid(exc.message, reason="unreadable") from exc
    case = Case(
        rules,
        entry.ledger,
        entry.branch,
        entry.commit,
        entry.digests,
        attestations,
        normalisers=entry.normalisers,
    )
    tally = count(case)
    if isinstance(tally, Refusal):
        raise PromotionInvalid(f"`{folder}`: {tally.message}", reason=tally.reason, remedy=tally.remedy)
    trust.note(f"promotions/{entry.branch}", entry.number, found.sha256)
    number = rules.revocations.number if rules.revocations else 0
    names = [each.builder for each in tally.counted]
    return Verified(entry, names, tally.keys, rules.policy.number, number, tally.excluded)


def _rules(folder: Path, trust: Trust) -> Rules:
    """Returns what is in force: the newer of this machine's policy and of the set's, both the root's."""
    offered = read_signed(folder / POLICY)
    theirs = (trust.read_policy(offered, str(folder / POLICY)), offered) if offered else None
    ours = trust.policy() if read_signed(trust.folder / POLICY) else None
    pair = max((each for each in (ours, theirs) if each), key=lambda each: each[0].number, default=None)
    if pair is None:
        raise PromotionInvalid(f"Neither `{folder}` nor this machine has a policy.", reason="no-policy")
    if ours and theirs and ours[0].ledger != theirs[0].ledger:
        raise PromotionInvalid(
            "The set is of another ledger than this machine's policy.", reason="other-ledger"
        )
    policy: tuple[Policy, Signed] = pair
    trust.note("policy", policy[0].number, policy[1].sha256)
    revocations = read_signed(folder / REVOCATIONS)
    return trust.rules({"the set": revocations} if revocations else {}, policy)


def _insist_on_policy(entry: Promotion, rules: Rules) -> None:
    """Refuses an entry that was made under other rules, or that stretches these."""
    policy = rules.policy
    if entry.policy != rules.sha256:
        raise Outdated(
            f"It was promoted under policy {entry.policy_number}; number {policy.number} is in force.",
            reason="policy",
            remedy="The operator promotes it again under the policy that is in force.",
        )
    revoked = rules.revocations.number if rules.revocations else 0
    if entry.revocations > revoked:
        raise Outdated(
            f"It was promoted with revocations number {entry.revocations}; number {revoked} is at hand.",
            reason="revocations",
        )
    stretched: dict[str, set[str]] = {
        "dismissed": set(entry.dismissed) - {each.sha256 for each in policy.dismissed},
        "normalisers": set(names_of(entry.normalisers)) - set(policy.normalisers),
        "checks": set[str](policy.checks) - set[str](entry.checks),
    }
    for name, left in stretched.items():
        if left:
            raise PromotionInvalid(
                f"The policy does not allow what the entry says of `{name}`: {min(left)}.", reason=name
            )
    if not is_one_way(entry.normalisers):
        raise PromotionInvalid("The entry does not say how its files were normalised.", reason="rewrites")


def _insist_on_files(folder: Path, wanted: list[PromotedFile]) -> None:
    """Reads every byte. Raises PromotionInvalid for a file that is missing, other, one too many, or none."""
    root = folder / FILES
    listed = {each.name: each for each in wanted}
    found = set()
    for at, folders, names in os.walk(root, onerror=_raise):
        for name in [*names, *(each for each in folders if (Path(at) / each).is_symlink())]:
            found.add((Path(at) / name).relative_to(root).as_posix())
    for name in sorted(found ^ set(listed)):
        what = "is not there" if name in listed else "is not in the entry"
        raise PromotionInvalid(f"`{root / name}` {what}.", reason="missing" if name in listed else "extra")
    for name, each in sorted(listed.items()):
        try:
            with open_plain(root / name) as file:
                size = os.fstat(file.fileno()).st_size
                digest = _digest(file)
        except OSError as exc:
            raise PromotionInvalid(
                f"`{root / name}` cannot be read: {exc.strerror}.", reason="unreadable"
            ) from exc
        if (size, digest) != (each.size_bytes, each.sha256):
            raise PromotionInvalid(
                f"`{root / name}` has other bytes than were promoted: {digest[:12]}, not {each.sha256[:12]}.",
                reason="other-bytes",
            )


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise PromotionInvalid(f"`{error.filename}` cannot be read: {error.strerror}.", reason="unreadable")


def _beside(folder: Path) -> Iterator[tuple[str, Signed]]:
    """Yields the attestations that lie in a set."""
    place = folder / ATTESTATIONS
    try:
        names = sorted(each.name for each in place.iterdir())
    except OSError as exc:
        raise PromotionInvalid(f"`{place}` cannot be read: {exc.strerror}.", reason="unreadable") from exc
    for name in names:
        if name.endswith(".json") and stat.S_ISREG((place / name).lstat().st_mode):
            signed = read_signed(place / name)
            if signed is not None:
                yield str(place / name), signed
