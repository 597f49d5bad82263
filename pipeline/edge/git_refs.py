"""The ref store over real git: local path, file://, ssh and https.

A transaction's only git process is the push; objects are read and written in process, in the clone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.edge.bare import is_due, maintain_bare
from pipeline.edge.git_clone import GitClone
from pipeline.edge.git_objects import RENEW, Object, TreeView, parse_commit
from pipeline.edge.git_remote import GitRemote, moved
from pipeline.edge.receive import push_request, read_report
from pipeline.edge.ref_store import BEAT_BYTES, Pushed, Unread, beat_objects
from pipeline.errors import CommandTimedOut, LedgerError, LedgerTooLarge, LedgerUnreachable
from pipeline.records import paths

#: So many commits back an ancestor is looked for in process before git is asked.
_NEAR = 32


class GitRefs:
    """One branch of a remote repository, through a bare clone of our own."""

    def __init__(
        self, clone: Path, remote: str, branch: str = paths.DEFAULT_BRANCH, *, timeout: float = 60.0
    ) -> None:
        """Names the clone's folder (made on first use), the remote's address and the branch.

        `timeout` bounds each git command, in seconds. Raises LedgerError for an option in disguise.
        """
        self.ref = paths.branch_ref(branch)
        self.remote = GitRemote(remote, timeout)
        self.clone = GitClone(clone, self.remote, self.ref)
        self._landed: str | None = None

    def read(self, oid: str) -> Object | None:
        return self.clone.read(oid)

    def write(self, objects: Iterable[Object]) -> None:
        self.clone.write(objects)

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return self.remote.leash.within(seconds)

    def abandon(self) -> None:
        self.remote.leash.pull()

    # ------------------------------------------------------------ the branch

    def tip(self) -> str | None:
        return self.beats("")[0]

    def fetch(self) -> str | None:
        return self._bring("")[0]

    def push(self, commit: str, expected: str | None) -> Pushed:
        # A lease on the wrong parent would let a non-fast-forward through, and `:ref` deletes the branch.
        assert commit
        known = self.read(commit)
        assert known is not None
        assert expected is None or f"\nparent {expected}\n".encode() in known.data
        self.remote.insist_on_one_address(self.clone.folder)
        pushed = self._push_here(self.remote.here, commit, expected) if self.remote.here else None
        if pushed is None:
            pushed = self._push([f"--force-with-lease={self.ref}:{expected or ''}"], f"{commit}:{self.ref}")
        if pushed.kind == "landed":
            self._landed = commit
        return pushed

    def _push_here(self, place: Path, commit: str, expected: str | None) -> Pushed | None:
        """Pushes to a repository of this machine. None: not for want of trying; git knows more about it."""
        if not self.clone.written or self.clone.written[-1].oid != commit:
            return None
        request = push_request(self.ref, expected, commit, self.clone.written)
        try:
            done = self.remote.receive(place, request)
        except CommandTimedOut as exc:
            return Pushed("unknown", self.remote.no_answer(exc))
        report = read_report(done.stdout, self.ref)
        if report.verdict == "ok" or report.before == commit:
            return Pushed("landed")
        if not report.verdict:
            return Pushed("unknown", self.remote.meaning(done))
        if report.before != expected or moved(report.verdict + done.errors):
            return Pushed("stale")
        if "missing necessary objects" in report.verdict:
            return None
        return Pushed("refused", self.remote.meaning(done, report.verdict))

    def contains(self, tip: str, commit: str) -> bool | None:
        if tip == commit:
            return True
        if self._is_just_above(tip, commit):
            return True
        known = self.read(commit) is not None
        done = self.clone.git(["merge-base", "--is-ancestor", commit, tip], check=False) if known else None
        if done is not None and done.returncode == 0:
            return True
        return None if self.clone.cut() else False

    def _is_just_above(self, tip: str, commit: str) -> bool:
        """Finds a commit a few first parents below, as after a lost race, without a git process."""
        oid = tip
        for _ in range(_NEAR):
            if not self.clone.has(oid):
                return False
            known = self.read(oid)
            parents = parse_commit(known.data).parents if known else ()
            if commit in parents:
                return True
            if not parents:
                return False
            oid = parents[0]
        return False

    def since(self, tip: str, base: str | None) -> list[str] | None:
        if base is not None and self.read(base) is None:
            return None
        done = self.clone.git(["rev-list", tip, *([f"^{base}"] if base else [])], check=False)
        oids = done.text.split()
        # Git shows a shallow clone's oldest commits as if they had no parents.
        if done.returncode != 0 or not self.clone.cut().isdisjoint(oids):
            return None
        self.clone.read_packed(oids)
        return oids

    # ------------------------------------------------------------ heartbeats

    def beat(self, ref: str, data: bytes, after: bytes | None) -> Pushed:
        objects = beat_objects(data)
        self.write(objects)
        expected = "" if after is None else beat_objects(after)[-1].oid
        return self._push([f"--force-with-lease={ref}:{expected}"], f"{objects[-1].oid}:{ref}")

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        self.clone.ensure()
        patterns = [self.ref, *([f"{prefix}*"] if prefix else [])]
        refs = self._listed(patterns)
        tip = refs.pop(self.ref, None)
        return tip, {ref: oid for ref, oid in refs.items() if prefix and ref.startswith(prefix)}

    def survey(self, prefix: str) -> tuple[str | None, dict[str, bytes]]:
        tip, there = self._bring(prefix)
        return tip, self._contents(there)

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        if not refs:
            return {}
        there = {ref: oid for ref, oid in self._listed(refs).items() if ref in refs}
        missing = [ref for ref, oid in there.items() if not self._is_here(oid)]
        if missing:
            self.clone.fetch(missing)
        return self._contents({ref: oid for ref, oid in there.items() if self._is_here(oid)})

    def try_push(self, refspecs: list[str], *options: str) -> str | None:
        """Pushes any refs of objects known locally; returns None when taken, otherwise the remote's reason.

        For probes of what a host allows. Raises LedgerUnreachable where the remote gives no verdict.
        """
        words = ["push", "--porcelain", "--no-verify", *options, self.remote.address, *refspecs]
        done = self.remote.talk(self.clone.folder, words)
        if done.returncode == 0:
            return None
        verdicts = [line.split("\t") for line in done.text.splitlines() if line.startswith("!")]
        if not verdicts:
            said = self.remote.meaning(done)
            if isinstance(said, LedgerUnreachable):
                raise said
            return said.message
        return verdicts[0][-1].strip()

    def maintain(self) -> None:
        folders = (self.clone.folder, Path(self.remote.address.removeprefix("file://")))
        due = [folder for folder in folders if folder.is_absolute() and is_due(folder)]
        if due:
            self.fetch()  # so that a ref is on the tip, and what it reaches is kept
        for folder in due:
            maintain_bare(folder, self.remote.timeout)

    # ------------------------------------------------------------ below

    def _bring(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        """Reads the branch and the refs below `prefix`, and brings what is not here: two commands at most."""
        for again in range(4):
            tip, there = self.beats(prefix)
            wanted = {self.ref: tip, **there} if tip else there
            lacking = [ref for ref, oid in wanted.items() if oid and not self.clone.has(oid)]
            if not lacking:
                break
            if self._landed:
                self.clone.note(self._landed)
            self.clone.fetch(lacking)
            # A ref that moved between the two commands is read again.
            if all(self._is_here(wanted[ref] or "") for ref in lacking):
                break
            if again == 2:
                self.clone.check_objects()
        else:
            raise LedgerError(f"{self.remote} does not give what its {lacking[0]} is at.", remedy=RENEW)
        if tip is not None:
            self.clone.note(tip)
        return tip, there

    def _is_here(self, oid: str) -> bool:
        try:
            return self.read(oid) is not None
        except LedgerTooLarge:
            return True

    def _contents(self, there: Mapping[str, str]) -> dict[str, bytes]:
        """Returns the content of heartbeats that are here; what is no heartbeat is left out."""
        found: dict[str, bytes] = {}
        for ref, oid in there.items():
            try:
                known = self._read_beat(oid)
                if known is not None and known.kind == "commit":
                    data = TreeView(self._read_beat, parse_commit(known.data).tree).read("heartbeat.json")
                    if data is not None:
                        found[ref] = data
            except LedgerTooLarge as exc:
                found[ref] = Unread.of(ref, oid, exc.size_bytes)
        return found

    def _read_beat(self, oid: str) -> Object | None:
        return self.clone.read(oid, BEAT_BYTES)

    def _listed(self, patterns: Collection[str]) -> dict[str, str]:
        """Returns the remote's refs that match, with what they point at."""
        done = self.remote.ask(self.clone.folder, ["ls-remote", self.remote.address, *patterns])
        return {ref: oid for oid, _, ref in (line.partition("\t") for line in done.text.splitlines())}

    def _push(self, options: list[str], refspec: str) -> Pushed:
        self.remote.insist_on_one_address(self.clone.folder)
        words = ["push", "--porcelain", "--no-verify", *options, self.remote.address, refspec]
        try:
            done = self.remote.talk(self.clone.folder, words)
        except CommandTimedOut as exc:
            return Pushed("unknown", self.remote.no_answer(exc))
        if done.returncode == 0:
            return Pushed("landed")
        status = next((line for line in done.text.splitlines() if line.startswith("!")), "")
        if not status or "[remote failure]" in status:
            # Whatever else was said: without the remote's own verdict the push may still be applied.
            return Pushed("unknown", self.remote.meaning(done))
        if "[rejected]" in status or moved(status + done.errors):
            return Pushed("stale")
        return Pushed("refused", self.remote.meaning(done, status))
