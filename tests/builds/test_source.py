from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.builds.job_clone import fill_tree, make_job_clone
from pipeline.builds.source import Resolved, Sources
from pipeline.builds.submodules import Submodule, submodules_of
from pipeline.edge.file_lock import file_lock
from pipeline.edge.process import run
from pipeline.edge.procfs import read_stat
from pipeline.errors import BranchNotFound, BuildFailed, CommitNotFound, SourceError, UsageError

ENV = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2025-10-29T12:00:00Z",
    "GIT_AUTHOR_DATE": "2025-10-29T12:00:00Z",
    "GIT_ALLOW_PROTOCOL": "file",
}
COMMIT_TIME = 1761739200


def _git(place: Path, *words: str) -> str:
    return run(["git", "-C", place, *words], env=ENV).text


def _commit(place: Path, name: str, text: str) -> str:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(text)
    _git(place, "add", "--all")
    _git(place, "commit", "--quiet", "--allow-empty", "-m", f"{name}: {text[:20]}")
    return _git(place, "rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with branches main, ExternalNew and release/4.21, and a tag on the first commit."""
    place = tmp_path / "origin"
    place.mkdir()
    _git(place, "init", "--quiet", "-b", "main")
    _commit(place, "pom.xml", "<project/>")
    _git(place, "tag", "v1")
    for branch in ("ExternalNew", "release/4.21"):
        _git(place, "checkout", "--quiet", "-b", branch)
        _commit(place, "README", branch)
    _git(place, "checkout", "--quiet", "ExternalNew")
    return place


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "cache")


def test_a_branch_is_resolved_to_its_commit(origin: Path, sources: Sources) -> None:
    """The answer pins the commit and its time, and is on the branch."""
    tip = _git(origin, "rev-parse", "ExternalNew")
    assert sources.resolve(str(origin), "ExternalNew") == Resolved(
        str(origin), "ExternalNew", tip, COMMIT_TIME
    )


def test_a_new_commit_is_seen(origin: Path, sources: Sources) -> None:
    """The second resolve of a branch that moved gives the new commit."""
    sources.resolve(str(origin), "ExternalNew")
    tip = _commit(origin, "README", "more")
    assert sources.resolve(str(origin), "ExternalNew").commit == tip


def test_a_rewritten_branch_is_followed(origin: Path, sources: Sources) -> None:
    """A force-pushed branch is what the remote says it is."""
    sources.resolve(str(origin), "ExternalNew")
    _git(origin, "reset", "--quiet", "--hard", "main")
    tip = _commit(origin, "README", "rewritten")
    assert sources.resolve(str(origin), "ExternalNew").commit == tip


def test_a_branch_may_take_the_place_of_a_folder_of_branches(origin: Path, sources: Sources) -> None:
    """A branch `release` after `release/4.21` was deleted is fetched, though both cannot be at once."""
    sources.resolve(str(origin), "release/4.21")
    _git(origin, "branch", "-m", "release/4.21", "release")
    assert sources.resolve(str(origin), "release").on_branch


def test_an_unknown_branch_lists_near_names(origin: Path, sources: Sources) -> None:
    """A typing error is answered with the names that look like it."""
    with pytest.raises(BranchNotFound, match="no branch `externalnw`") as caught:
        sources.resolve(str(origin), "externalnw")
    assert caught.value.remedy == "Near names: `ExternalNew`."


@pytest.mark.parametrize("branch", ["-x", "--all", "a..b", "../x", "a b", "a\nb", "a'b\x00", "", "x.lock"])
def test_a_name_that_cannot_be_a_branch_is_refused(origin: Path, sources: Sources, branch: str) -> None:
    """Nothing but a branch's name reaches git."""
    with pytest.raises(UsageError):
        sources.resolve(str(origin), branch)


def test_a_commit_may_lie_before_the_tip(origin: Path, sources: Sources) -> None:
    """A full or abbreviated id of an older commit of the branch is built as given."""
    older = _git(origin, "rev-parse", "ExternalNew~1")
    assert sources.resolve(str(origin), "ExternalNew", older).commit == older
    assert sources.resolve(str(origin), "ExternalNew", older[:10].upper()).commit == older


def test_a_commit_off_the_branch_is_allowed_and_said(origin: Path, sources: Sources) -> None:
    """It is fetched by its id, and a note says that the branch does not hold it."""
    _git(origin, "config", "uploadpack.allowAnySHA1InWant", "true")
    other = _git(origin, "rev-parse", "release/4.21")
    found = sources.resolve(str(origin), "ExternalNew", other)
    assert (found.commit, found.on_branch) == (other, False)
    assert found.notes == (f"Commit {other[:12]} is not on branch ExternalNew.",)


@pytest.mark.parametrize("commit", ["0" * 40, "abcdef0"])
def test_an_unknown_commit_is_named(origin: Path, sources: Sources, commit: str) -> None:
    """A commit that the source does not have is an error of its own."""
    with pytest.raises(CommitNotFound, match=commit):
        sources.resolve(str(origin), "ExternalNew", commit)


@pytest.mark.parametrize("commit", ["HEAD", "-f", "abc", "x" * 40, "a" * 65])
def test_only_hexadecimal_digits_are_a_commit(origin: Path, sources: Sources, commit: str) -> None:
    """A commit is given by its id, never by an expression that git would evaluate."""
    with pytest.raises(UsageError):
        sources.resolve(str(origin), "ExternalNew", commit)


def test_a_source_that_is_no_repository_is_named(tmp_path: Path, sources: Sources) -> None:
    """A directory of something else, and one that does not exist, are no network errors."""
    (tmp_path / "plain").mkdir()
    for name in ("plain", "absent"):
        with pytest.raises(SourceError, match=f"{name} is not a git repository"):
            sources.resolve(str(tmp_path / name), "main")


def test_an_empty_repository_has_no_branch(tmp_path: Path, sources: Sources) -> None:
    """A repository without commits is answered like any that lacks the branch."""
    _git(tmp_path, "init", "--quiet", "--bare", "empty.git")
    with pytest.raises(BranchNotFound, match="no branch `main`"):
        sources.resolve(str(tmp_path / "empty.git"), "main")


def test_a_source_that_vanished_is_built_from_the_cache(
    origin: Path, sources: Sources, tmp_path: Path
) -> None:
    """Without the remote the cached commit is resolved and checked out; a note says what was missing."""
    tip = sources.resolve(str(origin), "ExternalNew").commit
    origin.rename(tmp_path / "moved")
    found = sources.resolve(str(origin), "ExternalNew")
    assert found.commit == tip
    assert "cached state used" in found.notes[0]
    Sources(tmp_path / "cache").checkout(found, tmp_path / "tree")
    assert (tmp_path / "tree" / "README").read_text() == "ExternalNew"


def test_a_source_that_vanished_before_it_was_cached_is_an_error(
    origin: Path, sources: Sources, tmp_path: Path
) -> None:
    """What is not in the cache is not made up: another branch of a vanished source is refused."""
    sources.resolve(str(origin), "ExternalNew")
    origin.rename(tmp_path / "moved")
    with pytest.raises(SourceError, match="is not a git repository"):
        sources.resolve(str(origin), "release/4.21")


def test_credentials_reach_no_message_and_no_file(tmp_path: Path) -> None:
    """A source with a password in its address leaves it nowhere."""
    sources = Sources(tmp_path / "cache")
    with pytest.raises(SourceError) as caught:
        sources.resolve("http://alice:s3cret@127.0.0.1:9/a.git", "main")
    assert "s3cret" not in str(caught.value)
    assert "http://127.0.0.1:9/a.git cannot be reached" in caught.value.message
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.fixture
def guarded() -> Iterator[tuple[str, list[str | None]]]:
    """A web server that wants credentials; its address, and the Authorization headers that it was sent."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(404 if seen[-1] else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}/a.git", seen
        server.shutdown()
        thread.join()


def test_a_source_that_wants_credentials_never_prompts(
    sources: Sources, guarded: tuple[str, list[str | None]]
) -> None:
    """Without credentials the answer says what is wanted, and what helps, at once."""
    address, seen = guarded
    with pytest.raises(SourceError, match="asks for credentials") as caught:
        sources.resolve(f"http://{address}", "main")
    assert caught.value.remedy is not None
    assert seen == [None]


def test_credentials_of_the_address_are_sent_when_the_host_asks(
    sources: Sources, guarded: tuple[str, list[str | None]]
) -> None:
    """The server gets them; the message that it has no such repository does not."""
    address, seen = guarded
    with pytest.raises(SourceError, match="is not a git repository") as caught:
        sources.resolve(f"http://alice:s3cret@{address}", "main")
    assert seen == [None, "Basic YWxpY2U6czNjcmV0"]
    assert "s3cret" not in str(caught.value)


# -- checkout ------------------------------------------------------------------------------------------------


def test_a_checkout_is_clean_pinned_and_on_its_branch(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """Though the branch moves on, the tree is at the resolved commit, on the branch, with its origin."""
    resolved = sources.resolve(str(origin), "ExternalNew")
    _commit(origin, "README", "later")
    sources.resolve(str(origin), "ExternalNew")
    tree = tmp_path / "tree"
    assert sources.checkout(resolved, tree) == []
    assert _git(tree, "rev-parse", "HEAD") == resolved.commit
    assert _git(tree, "rev-parse", "--abbrev-ref", "HEAD") == "ExternalNew"
    assert _git(tree, "status", "--porcelain") == ""
    assert _git(tree, "remote", "get-url", "origin") == str(origin)
    assert _git(tree, "describe", "--tags") == f"v1-1-g{resolved.commit[:7]}"


@pytest.mark.parametrize("branch", ["release/4.21", 'a"b', "ExternalNew"])
@pytest.mark.parametrize("source", [r'/srv/a "\b" #c;', "https://git.example.org/cloudstack.git"])
def test_git_reads_what_was_written_for_it(origin: Path, tmp_path: Path, branch: str, source: str) -> None:
    """Remote and branch are configured as git itself would, whatever their names hold."""
    commit = _git(origin, "rev-parse", "main")
    tree = tmp_path / "tree"
    tree.mkdir()
    make_job_clone(origin / ".git", tree, source, branch, commit)
    fill_tree(origin / ".git", tree, branch, lambda: None)
    assert _git(tree, "config", "--local", "remote.origin.url") == source
    assert _git(tree, "config", "--local", f"branch.{branch}.merge") == f"refs/heads/{branch}"
    assert _git(tree, "rev-parse", "--symbolic-full-name", "@{upstream}") == f"refs/remotes/origin/{branch}"
    assert _git(tree, "rev-parse", "HEAD", "@{upstream}").split() == [commit, commit]
    assert _git(tree, "fsck", "--full", "--strict", "--no-dangling") == ""
    assert _git(tree, "status", "--porcelain", "--branch") == f"## {branch}...origin/{branch}"


@pytest.mark.parametrize("small_bytes", [-1, 1 << 30], ids=["large", "small"])
def test_a_checkout_can_be_cancelled(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    """One that takes its time ends with all that it has started, and looks the same when nobody stops it."""
    tree, clone, pids = tmp_path / "tree", origin / ".git", tmp_path / "pids"
    tree.mkdir()
    make_job_clone(clone, tree, "/x", "main", _git(origin, "rev-parse", "main"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nsleep 60 &\necho $$ $! > {pids}\nwait\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    asked: list[None] = []

    def cancelled() -> str | None:
        asked.append(None)
        return "enough" if pids.exists() and pids.read_text() else None

    with monkeypatch.context() as slow:
        slow.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        with pytest.raises(BuildFailed, match="enough") as caught:
            fill_tree(clone, tree, "main", cancelled, small_bytes=small_bytes)
    assert caught.value.failure_class == "cancelled"
    assert [pid for pid in pids.read_text().split() if _runs(int(pid))] == []
    fill_tree(clone, tree, "main", lambda: None, small_bytes=small_bytes)
    assert _git(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("small_bytes", [-1, 1 << 30], ids=["large", "small"])
@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_come_from_the_umask(origin: Path, tmp_path: Path, small_bytes: int, umask: int) -> None:
    """Whoever checks out, files and folders have the modes that a build packs on every builder."""
    (origin / "sub").mkdir()
    (origin / "sub" / "run").write_text("#!/bin/sh\n")
    (origin / "sub" / "run").chmod(0o755)
    _commit(origin, "sub/text", "x")
    tree, clone = tmp_path / "tree", origin / ".git"
    tree.mkdir()
    make_job_clone(clone, tree, "/x", "ExternalNew", _git(origin, "rev-parse", "ExternalNew"))
    before = os.umask(umask)
    try:
        fill_tree(clone, tree, "ExternalNew", lambda: None, small_bytes=small_bytes)
    finally:
        os.umask(before)
    names = ("sub", "sub/run", "sub/text")
    assert [(tree / name).stat().st_mode & 0o777 for name in names] == [0o755, 0o755, 0o644]


def _runs(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state not in "ZX"


def test_waiting_for_the_cached_clone_can_be_cancelled(
    origin: Path, sources: Sources, tmp_path: Path
) -> None:
    """A checkout that another process holds up ends as cancelled, with nothing at its place."""
    resolved = sources.resolve(str(origin), "main")
    (lock,) = (tmp_path / "cache").rglob("*.lock")
    with file_lock(lock), pytest.raises(BuildFailed, match="by alice") as caught:
        sources.until(lambda: "by alice").checkout(resolved, tmp_path / "tree")
    assert caught.value.failure_class == "cancelled"
    assert list((tmp_path / "tree").iterdir()) == []


def test_a_warm_cache_asks_git_twice(
    origin: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A branch that has not moved is resolved by two git processes; one that has, to its new commit."""
    real = shutil.which("git")
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    first = sources.resolve(str(origin), "ExternalNew")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert sources.resolve(str(origin), "ExternalNew") == first
    asked = log.read_text().split()
    assert [word for word in asked if word != "upload-pack"] == ["ls-remote", "for-each-ref"]
    new = _commit(origin, "README", "later")
    assert sources.resolve(str(origin), "ExternalNew").commit == new


def test_a_lost_commit_of_the_cache_is_fetched_again(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """A cached branch whose commit is gone from the clone is not taken for known."""
    resolved = sources.resolve(str(origin), "ExternalNew")
    for pack in sources.clone_of(resolved).glob("objects/pack/*"):
        pack.unlink()
    assert sources.resolve(str(origin), "ExternalNew") == resolved
    sources.checkout(resolved, tmp_path / "tree")
    assert (tmp_path / "tree" / "README").exists()


def test_a_later_tag_does_not_change_the_tree(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """Tags that the commit cannot reach are left out: builds record tags."""
    resolved = sources.resolve(str(origin), "ExternalNew")
    _commit(origin, "README", "later")
    _git(origin, "tag", "v2")
    sources.resolve(str(origin), "ExternalNew")
    sources.checkout(resolved, tmp_path / "tree")
    assert _git(tmp_path / "tree", "tag").split() == ["v1"]


def test_a_checkout_takes_no_second_copy(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """Its objects are the cache's own files, and it outlives the cache."""
    resolved = sources.resolve(str(origin), "ExternalNew")
    sources.checkout(resolved, tmp_path / "tree")
    packs = list((tmp_path / "tree" / ".git" / "objects" / "pack").glob("*.pack"))
    assert packs
    assert all(pack.stat().st_nlink == 2 for pack in packs)
    shutil.rmtree(tmp_path / "cache")
    assert _git(tmp_path / "tree", "fsck", "--full") == ""


def test_no_hook_is_run(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """A template's or a configured post-checkout hook stays asleep."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/proof\n")
    (hooks / "post-checkout").chmod(0o755)
    (tmp_path / "config").write_text(f"[core]\n\thooksPath = {hooks}\n")
    code = (
        "import sys; from pathlib import Path; from pipeline.builds.source import Sources\n"
        "s = Sources(Path(sys.argv[1]))\n"
        "s.checkout(s.resolve(sys.argv[2], 'ExternalNew'), Path(sys.argv[3]))"
    )
    words = [sys.executable, "-c", code, tmp_path / "cache", origin, tmp_path / "tree"]
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": str(tmp_path / "config"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    run(words, env=env)
    assert (tmp_path / "tree" / "README").exists()
    assert not (tmp_path / "proof").exists()


def test_a_tree_that_is_not_empty_is_left_alone(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """A checkout never goes over files that are there."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "mine").touch()
    with pytest.raises(SourceError, match="not empty"):
        sources.checkout(sources.resolve(str(origin), "ExternalNew"), tmp_path / "tree")


def test_a_shallow_source_can_be_built(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """A source that is itself a shallow clone is fetched, and said to be one."""
    _git(tmp_path, "clone", "--quiet", "--depth=1", "--branch=ExternalNew", f"file://{origin}", "shallow")
    resolved = sources.resolve(str(tmp_path / "shallow"), "ExternalNew")
    assert "shallow" in resolved.notes[0]
    sources.checkout(resolved, tmp_path / "tree")
    assert _git(tmp_path / "tree", "status", "--porcelain") == ""


def test_a_source_that_lacks_old_objects_is_fetched_without_history(
    origin: Path, sources: Sources, tmp_path: Path
) -> None:
    """Of a repository whose history is damaged but whose tip is whole, the tip is built."""
    blob = _git(origin, "rev-parse", "main:pom.xml")
    (origin / "pom.xml").write_text("<project>2</project>")
    _git(origin, "commit", "--quiet", "-am", "without the old file")
    (origin / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    resolved = sources.resolve(str(origin), "ExternalNew")
    assert "shallow" in resolved.notes[0]
    sources.checkout(resolved, tmp_path / "tree")
    assert (tmp_path / "tree" / "pom.xml").read_text() == "<project>2</project>"


# -- a cache that was left in a bad state --------------------------------------------------------------------


def test_what_a_killed_fetch_left_is_cleared(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """Locks, half a pack and half a clone of a killed process do not stop the next one."""
    sources.resolve(str(origin), "ExternalNew")
    (clone,) = (tmp_path / "cache" / "sources").glob("*.git")
    (clone / "packed-refs.lock").touch()
    (clone / "shallow.lock").touch()
    (clone / "refs" / "heads" / "ExternalNew.lock").touch()
    (clone / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    (clone.parent / f"{clone.stem}.tmp-x").mkdir()
    tip = _commit(origin, "README", "more")
    assert sources.resolve(str(origin), "ExternalNew").commit == tip
    assert sorted(path.name for path in clone.parent.iterdir()) == [clone.name, f"{clone.stem}.lock"]
    assert not list(clone.rglob("tmp_*"))


#: Resolves while git is slowed down; prints a line when the fetch has begun.
SLOW = """
import os, sys
from pathlib import Path
from pipeline.builds.source import Sources
Sources(Path(sys.argv[1]), say=lambda text: print(text, flush=True)).resolve(sys.argv[2], "ExternalNew")
"""


def test_the_cache_survives_a_kill_of_its_first_clone(origin: Path, tmp_path: Path) -> None:
    """`kill -9` in the first fetch leaves a cache that the next process completes."""
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/packing\nsleep 30\n")
    slow.chmod(0o755)
    (tmp_path / "config").write_text(f"[uploadpack]\n\tpackObjectsHook = {slow}\n")
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "GIT_CONFIG_GLOBAL": str(tmp_path / "config"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, tmp_path / "cache", origin],
        env=env,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"fetching" in process.stdout.readline()
    limit = time.monotonic() + 10
    while not (tmp_path / "packing").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.communicate()
    resolved = Sources(tmp_path / "cache").resolve(str(origin), "ExternalNew")
    Sources(tmp_path / "cache").checkout(resolved, tmp_path / "tree")
    assert _git(tmp_path / "tree", "fsck", "--full") == ""


def test_two_at_once_share_one_clone(origin: Path, tmp_path: Path) -> None:
    """Processes and threads that resolve the same source at once all get it, and one clone is made."""
    found: list[Resolved] = []

    def work() -> None:
        found.append(Sources(tmp_path / "cache").resolve(str(origin), "ExternalNew"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({resolved.commit for resolved in found}) == 1
    assert len(found) == 4
    assert len(list((tmp_path / "cache" / "sources").glob("*.git"))) == 1


# -- submodules and large files ------------------------------------------------------------------------------


@pytest.fixture
def with_submodule(origin: Path, tmp_path: Path) -> Path:
    library = tmp_path / "library"
    library.mkdir()
    _git(library, "init", "--quiet", "-b", "main")
    _commit(library, "lib.txt", "one")
    _git(origin, "submodule", "--quiet", "add", "../library", "deps/library")
    _git(origin, "commit", "--quiet", "-m", "submodule")
    _commit(library, "lib.txt", "two")
    return library


def test_submodules_are_checked_out_at_their_pin(
    origin: Path, with_submodule: Path, sources: Sources, tmp_path: Path
) -> None:
    """A submodule with a relative address is there, at the pinned commit, though it has moved on."""
    resolved = sources.resolve(str(origin), "ExternalNew")
    sources.checkout(resolved, tmp_path / "tree")
    assert (tmp_path / "tree" / "deps" / "library" / "lib.txt").read_text() == "one"
    assert _git(tmp_path / "tree", "status", "--porcelain") == ""


def test_submodules_need_no_network_once_cached(
    origin: Path, with_submodule: Path, sources: Sources, tmp_path: Path
) -> None:
    """The second checkout works with source and submodule gone."""
    sources.checkout(sources.resolve(str(origin), "ExternalNew"), tmp_path / "first")
    origin.rename(tmp_path / "moved")
    with_submodule.rename(tmp_path / "moved too")
    sources.checkout(sources.resolve(str(origin), "ExternalNew"), tmp_path / "second")
    assert (tmp_path / "second" / "deps" / "library" / "lib.txt").read_text() == "one"


def test_relative_addresses_are_meant_from_the_source(origin: Path, with_submodule: Path) -> None:
    """`../library` beside an https, an ssh and a scp-like source is its neighbour there."""
    pin = _git(origin, "rev-parse", "HEAD:deps/library")
    for source, address in (
        ("https://host/team/cloudstack.git", "https://host/team/library"),
        ("ssh://git@host:22/team/cloudstack", "ssh://git@host:22/team/library"),
        ("git@host:team/cloudstack.git", "git@host:team/library"),
        ("/srv/cloudstack", "/srv/library"),
    ):
        assert submodules_of(origin, source) == [Submodule("deps/library", address, pin)]


def test_a_submodule_cannot_name_a_directory_of_this_machine(origin: Path, with_submodule: Path) -> None:
    """A tree from the network does not copy what lies on the builder's disk."""
    (origin / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = deps/library\n\turl = {with_submodule}\n')
    with pytest.raises(SourceError, match="directory of this machine"):
        submodules_of(origin, "https://host/team/cloudstack.git")


def test_large_files_are_fetched_and_kept(origin: Path, sources: Sources, tmp_path: Path) -> None:
    """A file in Git LFS is whole in the tree, and the second checkout needs no remote for it."""
    if run(["git", "lfs", "version"], check=False).returncode != 0:
        pytest.skip("git-lfs is not installed")
    _git(origin, "lfs", "install", "--local")
    (origin / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (origin / "big.bin").write_bytes(b"\0" * 100_000)
    _git(origin, "add", "--all")
    _git(origin, "commit", "--quiet", "-m", "a large file")
    resolved = sources.resolve(str(origin), "ExternalNew")
    assert sources.checkout(resolved, tmp_path / "first") == ["1 files fetched from Git LFS."]
    assert (tmp_path / "first" / "big.bin").read_bytes() == b"\0" * 100_000
    origin.rename(tmp_path / "moved")
    assert sources.checkout(sources.resolve(str(origin), "ExternalNew"), tmp_path / "second") == []
    assert (tmp_path / "second" / "big.bin").stat().st_size == 100_000
