"""What this machine believes: the root key that it is told, the policy that it signed, the numbers seen.

None of it comes from the ledger. A folder of this machine holds the newest policy and the newest list of
revoked keys, each beside its signature, and `seen.json`: the highest number of each kind of statement, with
its SHA-256. What is older, or is another under the same number, is refused from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from pipeline.coordination.counting import Rules
from pipeline.edge.disk import flush_folder
from pipeline.edge.file_lock import file_lock
from pipeline.edge.plain_file import read_plain
from pipeline.edge.signatures import Verifier
from pipeline.errors import FileFailed, Outdated, PolicyInvalid, RecordInvalid, SignatureInvalid
from pipeline.operations import journal
from pipeline.records.base import Record, dump, load
from pipeline.records.keys import read_public_key
from pipeline.records.policy import Policy, Revocations
from pipeline.records.promotion import Promotion
from pipeline.records.statements import Kind, Statement, read_statement, sha256_of

S = TypeVar("S", bound=Statement)

POLICY, REVOCATIONS, DRAFT = "policy.json", "revocations.json", "draft.json"
_ROOT = "root"
_LARGEST_BYTES = 4 << 20


class Mark(Record):
    """The highest number that was seen of something, and which statement had it."""

    number: int
    sha256: str


class SeenNumbers(Record):
    """`seen.json` in the policy's folder."""

    policy: Mark | None = None
    revocations: Mark | None = None
    promotions: dict[str, Mark] = Field(default_factory=dict)


@dataclass(frozen=True)
class Signed:
    """A statement's bytes and its signature, as they are stored; None where there is no signature."""

    data: bytes
    signature: bytes | None

    @property
    def sha256(self) -> str:
        return sha256_of(self.data)


@dataclass(frozen=True)
class Trust:
    """This machine's root key, and the folder of what was signed by it."""

    folder: Path
    root_key: str | None
    verifier: Verifier

    # ------------------------------------------------------------ policy

    def policy(self) -> tuple[Policy, Signed]:
        """Returns the policy in force here. Raises PolicyInvalid, Outdated."""
        place = self.folder / POLICY
        found = read_signed(place)
        if found is None:
            raise PolicyInvalid(
                f"This machine has no policy: `{place}` is not there.",
                reason="no-policy",
                remedy="The operator makes one with `invoke policy.init` and `invoke policy.sign`; other"
                " machines get copies of `policy.json` and `policy.json.sig`.",
            )
        policy = self.read_policy(found, str(place))
        self.note("policy", policy.number, found.sha256)
        return policy, found

    def read_policy(self, found: Signed, place: str) -> Policy:
        """Reads a policy that the root has signed. Raises PolicyInvalid for any other."""
        return self._of_root(Policy, found, Kind.POLICY, place)

    def read_revocations(self, found: Signed, place: str) -> Revocations:
        """Reads a list of revoked keys that the root has signed. Raises PolicyInvalid for any other."""
        return self._of_root(Revocations, found, Kind.REVOCATIONS, place)

    def _of_root(self, model: type[S], found: Signed, kind: Kind, place: str) -> S:
        try:
            self.verifier.verify(found.data, found.signature, kind, {_ROOT: [self.root()]})
            return read_statement(model, found.data, place)
        except SignatureInvalid as exc:
            raise PolicyInvalid(
                f"`{place}` is not the root's: {exc.message}",
                reason=exc.reason,
                remedy="Only what the key of the setting `root_key` signed is believed. Ask the operator.",
            ) from exc
        except RecordInvalid as exc:
            raise PolicyInvalid(exc.message, reason="unreadable") from exc

    def root(self) -> str:
        """Returns the root's public key. Raises PolicyInvalid where none is set, or none that can be used."""
        if self.root_key is None:
            raise PolicyInvalid(
                "This machine knows no root key, so it believes no policy.",
                reason="no-root",
                remedy='Set `root_key = "ssh-ed25519 AAAA…"` in config.toml to what the operator told you.',
            )
        try:
            return read_public_key(self.root_key).text
        except ValueError as exc:
            raise PolicyInvalid(f"The setting `root_key` is no key: {exc}.", reason="no-root") from exc

    # ------------------------------------------------------------ rules

    def rules(self, offered: dict[str, Signed], policy: tuple[Policy, Signed] | None = None) -> Rules:
        """Returns what is in force: the policy, and the newest list of revoked keys.

        The list is one of those offered, by place, or what was seen last. What is offered and not signed by
        the root is passed over.

        Raises PolicyInvalid, and Outdated where a newer list was seen than is at hand.
        """
        known, signed = policy or self.policy()
        newest: tuple[Revocations, Signed] | None = None
        kept = read_signed(self.folder / REVOCATIONS)
        for place, each in [*offered.items(), *([("seen", kept)] if kept else [])]:
            try:
                said = self.read_revocations(each, place)
            except PolicyInvalid:
                continue
            if said.ledger == known.ledger and (newest is None or said.number > newest[0].number):
                newest = said, each
        number = newest[0].number if newest else 0
        if number < known.revocations:
            raise Outdated(
                f"The policy knows of revocations number {known.revocations}; here is number {number}.",
                reason="revocations",
                remedy="Get `revocations.json` and its signature from the operator, or read the ledger.",
            )
        if newest is None:
            self.note_absent("revocations")
            return Rules(known, signed.sha256)
        self.note("revocations", number, newest[1].sha256)
        self.keep(REVOCATIONS, newest[1])
        return Rules(known, signed.sha256, newest[0])

    # ------------------------------------------------------------ numbers

    def seen(self) -> SeenNumbers:
        """Returns the highest numbers. Raises PolicyInvalid for a file that cannot be read."""
        place = self.folder / "seen.json"
        try:
            return load(SeenNumbers, read_plain(place, limit=_LARGEST_BYTES), str(place))
        except FileNotFoundError:
            return SeenNumbers()
        except (OSError, RecordInvalid) as exc:
            why = exc.problem if isinstance(exc, RecordInvalid) else exc.strerror
            raise PolicyInvalid(
                f"`{place}`, which holds the highest numbers that were seen, cannot be read: {why}.",
                reason="seen",
                remedy="Restore it. Without it this machine could be shown what is outdated.",
            ) from exc

    def note(self, what: str, number: int, sha256: str) -> None:
        """Remembers a number; durable. `what` is `policy`, `revocations` or a branch after `promotions/`.

        Raises Outdated: `older` for one below the highest seen, `forked` for another under the same number.
        """
        with locked(self.folder / "seen.lock"):
            seen = self.seen()
            mark = self._mark(seen, what)
            if mark is not None and number < mark.number:
                raise Outdated(
                    f"This {_words(what)} has number {number}; this machine has seen number {mark.number}.",
                    reason="older",
                    remedy="Somebody shows what was replaced since. Get the newest.",
                )
            if mark is not None and number == mark.number and sha256 != mark.sha256:
                raise Outdated(
                    f"This machine has seen another {_words(what)} under number {number}:"
                    f" {mark.sha256[:12]}, and this is {sha256[:12]}.",
                    reason="forked",
                    remedy="Two were signed under one number, so one signer's key may be in other hands.",
                )
            if mark is None or number > mark.number:
                self._write_seen(seen, what, Mark(number=number, sha256=sha256))

    def note_absent(self, what: str) -> None:
        """Raises Outdated where something is not there that was seen before."""
        mark = self._mark(self.seen(), what)
        if mark is not None:
            raise Outdated(
                f"There is no {_words(what)} at hand, but this machine has seen number {mark.number}.",
                reason="older",
            )

    def _mark(self, seen: SeenNumbers, what: str) -> Mark | None:
        if what.startswith("promotions/"):
            return seen.promotions.get(what.partition("/")[2])
        return seen.policy if what == "policy" else seen.revocations

    def _write_seen(self, seen: SeenNumbers, what: str, mark: Mark) -> None:
        if what.startswith("promotions/"):
            changed: dict[str, object] = {"promotions": {**seen.promotions, what.partition("/")[2]: mark}}
        else:
            changed = {what: mark}
        write_durably(self.folder / "seen.json", dump(seen.model_copy(update=changed)))

    # ------------------------------------------------------------ files

    def keep(self, name: str, found: Signed) -> None:
        """Puts a signed statement into the folder, unless it is there already: both of its files, or neither.

        Both are written beside, the signature first, and renamed in that order. A statement beside without a
        signature beside is therefore whole, and its signature is in place: `read_signed` takes it.
        """
        place = self.folder / name
        if found.signature is None or read_signed(place) == found:
            return
        with locked(self.folder / "seen.lock"):
            beside = place.with_name(f"{name}.new")
            if beside.exists() and not _sig(beside).exists():
                _rename(beside, place)  # left by who was killed in between
            write_durably(_sig(beside), found.signature)
            write_durably(beside, found.data)
            _rename(_sig(beside), _sig(place))
            _rename(beside, place)


def _words(what: str) -> str:
    if what.startswith("promotions/"):
        return f"promotion of {what.partition('/')[2]}"
    return "list of revoked keys" if what == "revocations" else "policy"


def read_signed(place: Path) -> Signed | None:
    """Returns a statement's file and its signature; None where there is no such file. Raises FileFailed."""
    beside = place.with_name(f"{place.name}.new")
    try:
        half = beside.exists() and not _sig(beside).exists()  # see `Trust.keep`
        data = read_plain(beside if half else place, limit=_LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise FileFailed(f"`{place}` cannot be read: {exc.strerror}.") from exc
    try:
        return Signed(data, read_plain(_sig(place), limit=_LARGEST_BYTES))
    except FileNotFoundError:
        return Signed(data, None)
    except OSError as exc:
        raise FileFailed(f"`{place}.sig` cannot be read: {exc.strerror}.") from exc


def _sig(place: Path) -> Path:
    return place.with_name(f"{place.name}.sig")


def _rename(place: Path, target: Path) -> None:
    """Renames a file that was written durably; durable as well. Raises FileFailed."""
    try:
        place.replace(target)
        flush_folder(target.parent)
    except OSError as exc:
        raise FileFailed(f"`{target}` cannot be written: {exc.strerror}.") from exc


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Holds a lock file. Raises FileFailed where it cannot be made, as on a full disk."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(place))
        except OSError as exc:
            raise FileFailed(f"`{place}` cannot be locked: {exc.strerror}.") from exc
        yield


def write_durably(place: Path, data: bytes) -> None:
    """Writes a file that is there whole or as it was before, also after a power loss. Raises FileFailed."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        journal.write_durably(place, data)
    except OSError as exc:
        raise FileFailed(f"`{place}` cannot be written: {exc.strerror}.") from exc


def read_entry(trust: Trust, rules: Rules, found: Signed, place: str) -> Promotion:
    """Reads an entry that a promoter of the policy signed, by a key that is not revoked.

    Raises SignatureInvalid, RecordInvalid.
    """
    signed = trust.verifier.verify(found.data, found.signature, Kind.PROMOTION, rules.policy.promoter_keys)
    if signed.key in rules.revoked:
        raise SignatureInvalid(f"`{place}` is signed with a revoked key, {signed.key}.", reason="revoked-key")
    entry = read_statement(Promotion, found.data, place)
    if entry.promoter != signed.name:
        raise SignatureInvalid(
            f"`{place}`: {signed.name} signed in {entry.promoter}'s name.", reason="other-key"
        )
    return entry
