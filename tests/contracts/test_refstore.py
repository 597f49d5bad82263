"""One suite over every implementation of the ref-store port."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_objects import EMPTY_TREE, FILE_MODE, Object, TreeEntry, make, make_commit, make_tree
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.edge.process import run
from pipeline.edge.ref_store import BEAT_BYTES, RefStore, Unread
from pipeline.errors import LedgerUnreachable
from tests.contracts.web import serve_git

Client = Callable[[str], RefStore]


@pytest.fixture(params=["memory", "path", "file", "push", "ssh", "https"])
def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """A maker of clients, each with local objects of its own, over one empty remote.

    `push` is a path that git reaches by its own push, as it does every remote of another machine.
    """
    if request.param == "memory":
        remote = MemoryRemote()
        yield lambda name: MemoryRefs(remote)
        return
    bare = tmp_path / "remote.git"
    make_bare(bare)
    address = str(bare)
    if request.param == "file":
        address = f"file://{bare}"
    elif request.param == "push":
        address = f"file://localhost{bare}"
    elif request.param == "ssh":
        sshd = request.getfixturevalue("sshd")
        monkeypatch.setenv("GIT_SSH_COMMAND", sshd.ssh_command())
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(request.getfixturevalue("sockets")))
        address = sshd.url(bare)
    elif request.param == "https":
        address, certificate = request.getfixturevalue("web")
        monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
        address += str(bare)
        run(["git", "--git-dir", bare, "config", "http.receivepack", "true"])
    yield lambda name: GitRefs(tmp_path / f"{name}.git", address)


@pytest.fixture(scope="session")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a short name for shared SSH connections, which are ended with it."""
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        yield Path(folder)
        for place in Path(folder).glob("*/*"):
            run(["ssh", "-o", f"ControlPath={place}", "-O", "exit", "none"], check=False)


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An HTTPS server on loopback that runs `git http-backend`, and its certificate."""
    folder = tmp_path_factory.mktemp("web")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    run([*words, "-keyout", key, "-out", certificate])
    with serve_git(key, certificate) as address:
        yield address, certificate


def commit(refs: RefStore, parent: str | None, text: str) -> str:
    """Writes a commit with one file."""
    blob = make("blob", text.encode())
    tree = make_tree({"file": TreeEntry(FILE_MODE, blob.oid)})
    made = make_commit(tree.oid, [parent] if parent else [], "a <a@b.invalid>", 1, f"{text}\n")
    refs.write([blob, tree, made])
    return made.oid


def test_branch_that_does_not_exist(client: Client) -> None:
    """An empty remote has no tip, and says so without an error."""
    assert client("a").tip() is None
    assert client("a").fetch() is None


def test_first_commit_is_made_once(client: Client) -> None:
    """Of two that create the branch one lands and the other is stale."""
    one, two = client("a"), client("b")
    first, second = commit(one, None, "first"), commit(two, None, "second")
    assert one.push(first, None).kind == "landed"
    assert two.push(second, None).kind == "stale"
    assert two.fetch() == first


def test_push_is_a_compare_and_swap(client: Client) -> None:
    """Of two children of one tip exactly one lands."""
    one, two = client("a"), client("b")
    root = commit(one, None, "root")
    one.push(root, None)
    two.fetch()
    left, right = commit(one, root, "left"), commit(two, root, "right")
    assert two.push(right, root).kind == "landed"
    assert one.push(left, root).kind == "stale"
    assert one.tip() == right


def test_pushing_the_same_commit_again(client: Client) -> None:
    """A push that is repeated while its commit is the tip counts as landed, and later as stale."""
    one = client("a")
    root = commit(one, None, "root")
    one.push(root, None)
    child = commit(one, root, "child")
    assert one.push(child, root).kind == "landed"
    assert one.push(child, root).kind == "landed"
    grandchild = commit(one, child, "grandchild")
    assert one.push(grandchild, child).kind == "landed"
    assert one.push(child, root).kind == "stale"


def test_fetch_brings_what_the_tip_reaches(client: Client) -> None:
    """After a fetch the tip's commit, tree and file can be read locally."""
    one, two = client("a"), client("b")
    root = commit(one, None, "root")
    one.push(root, None)
    assert two.read(root) is None
    assert two.fetch() == root
    found = two.read(root)
    assert isinstance(found, Object)
    assert found.kind == "commit"
    assert two.read(make("blob", b"root").oid) == make("blob", b"root")


def test_ancestry(client: Client) -> None:
    """`contains` and `since` tell the chain between two commits."""
    one = client("a")
    chain = [commit(one, None, "0")]
    one.push(chain[0], None)
    for number in range(1, 4):
        chain.append(commit(one, chain[-1], str(number)))
        one.push(chain[-1], chain[-2])
    aside = commit(one, chain[0], "aside")
    two = client("b")
    two.fetch()
    assert two.contains(chain[3], chain[1]) is True
    assert one.contains(chain[3], aside) is False
    assert set(two.since(chain[3], chain[1]) or []) == {chain[2], chain[3]}
    assert set(two.since(chain[3], None) or []) == set(chain)


def test_unknown_object(client: Client) -> None:
    """An object that nobody made is None, and the empty tree is always known."""
    refs = client("a")
    assert refs.read("1" * 40) is None
    assert refs.read(EMPTY_TREE.oid) == EMPTY_TREE


def test_beats_move_without_history(client: Client) -> None:
    """A heartbeat ref takes new content again and again, and is read with the tip in one call."""
    one, two = client("a"), client("b")
    root = commit(one, None, "root")
    one.push(root, None)
    ref = "refs/pipeline/heartbeat/build1"
    assert one.beat(ref, b"first\n", None).kind == "landed"
    tip, before = two.beats("refs/pipeline/heartbeat/")
    assert one.beat(ref, b"second\n", b"first\n").kind == "landed"
    _, after = two.beats("refs/pipeline/heartbeat/")
    assert tip == root
    assert list(before) == list(after) == [ref]
    assert before != after
    assert two.beat_data([ref]) == {ref: b"second\n"}


def test_a_beat_moves_only_what_it_knows(client: Client) -> None:
    """A heartbeat that was overtaken by another, or is the second first one, is stale and changes nothing."""
    one, two = client("a"), client("b")
    ref = "refs/pipeline/heartbeat/build1"
    assert one.beat(ref, b"first\n", None).kind == "landed"
    assert two.beat(ref, b"other\n", None).kind == "stale"
    assert one.beat(ref, b"second\n", b"first\n").kind == "landed"
    assert two.beat(ref, b"third\n", b"first\n").kind == "stale"
    assert two.beat_data([ref]) == {ref: b"second\n"}


def test_a_survey_is_one_read_of_branch_and_beats(client: Client) -> None:
    """It brings the branch's commit and the heartbeats' content, again when either has moved."""
    one, two = client("a"), client("b")
    prefix, ref, other = "refs/pipeline/heartbeat/", "refs/pipeline/heartbeat/x", "refs/pipeline/other/x"
    assert two.survey(prefix) == (None, {})
    root = commit(one, None, "root")
    one.push(root, None)
    one.beat(ref, b"first\n", None)
    one.beat(other, b"elsewhere\n", None)
    assert two.survey(prefix) == (root, {ref: b"first\n"})
    child = commit(one, root, "child")
    one.push(child, root)
    assert two.survey(prefix) == (child, {ref: b"first\n"})
    assert two.read(make("blob", b"child").oid) == make("blob", b"child")
    one.beat(ref, b"second\n", b"first\n")
    assert two.survey(prefix) == (child, {ref: b"second\n"})


def test_hook_refusal_is_told_apart(tmp_path: Path) -> None:
    """A hook's no is a refusal with the hook's words, not a lost race."""
    bare = tmp_path / "remote.git"
    make_bare(bare)
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no pushes on Sunday' >&2\nexit 1\n")
    hook.chmod(0o755)
    refs = GitRefs(tmp_path / "a.git", str(bare))
    pushed = refs.push(commit(refs, None, "root"), None)
    assert pushed.kind == "refused"
    assert type(pushed.error).__name__ == "LedgerRefused"


def test_ref_lock_left_behind_is_told_apart(tmp_path: Path) -> None:
    """A lock file that a crash left on the remote is named as what it is."""
    bare = tmp_path / "remote.git"
    make_bare(bare)
    lock = bare / "refs/heads/ledger.lock"
    lock.touch()
    refs = GitRefs(tmp_path / "a.git", str(bare))
    pushed = refs.push(commit(refs, None, "root"), None)
    assert pushed.kind == "refused"
    assert type(pushed.error).__name__ == "LedgerRefLocked"
    assert "/refs/heads/ledger.lock'" in str(pushed.error)


def test_remote_that_vanished(tmp_path: Path) -> None:
    """A remote that is not there is unreachable to a reader, and an unknown outcome to a writer."""
    bare = tmp_path / "remote.git"
    make_bare(bare)
    refs = GitRefs(tmp_path / "a.git", str(bare))
    root = commit(refs, None, "root")
    run(["mv", bare, tmp_path / "away.git"])
    assert refs.push(root, None).kind == "unknown"
    with pytest.raises(LedgerUnreachable, match="does not answer"):
        refs.tip()


def test_history_cannot_be_rewritten_on_remotes_that_we_make(tmp_path: Path) -> None:
    """A repository made by us refuses a forced push and a deletion of its branch."""
    bare = tmp_path / "remote.git"
    make_bare(bare)
    refs = GitRefs(tmp_path / "a.git", str(bare))
    root = commit(refs, None, "root")
    refs.push(root, None)
    other = commit(refs, None, "other")
    forced = run(
        ["git", "--git-dir", tmp_path / "a.git", "push", str(bare), f"+{other}:{refs.ref}"], check=False
    )
    deleted = run(["git", "--git-dir", tmp_path / "a.git", "push", str(bare), f":{refs.ref}"], check=False)
    assert forced.returncode != 0
    assert deleted.returncode != 0
    assert refs.tip() == root


def test_a_beat_that_is_too_large_is_not_read(client: Client) -> None:
    """Of what somebody pushed to a heartbeat ref only the size is looked at; the others are read as ever."""
    one, two = client("a"), client("b")
    prefix, ref, other = "refs/pipeline/heartbeat/", "refs/pipeline/heartbeat/x", "refs/pipeline/heartbeat/y"
    large = bytes(BEAT_BYTES + 1)
    assert one.beat(ref, large, None).kind == "landed"
    one.beat(other, b"small\n", None)
    _, found = two.survey(prefix)
    assert isinstance(found[ref], Unread)
    assert b"holds 1,048,577 bytes, and a heartbeat has 1,048,576 at the most" in found[ref]
    assert found[other] == b"small\n"
    assert two.beat_data([ref, other]) == found
    assert one.beat(ref, large + b"x", large).kind == "landed"
    assert two.beat_data([ref])[ref] != found[ref]
