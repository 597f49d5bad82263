"""Wrong input ends in a sentence that names what, where and what to do, and in an exit code of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.runtime import make_site
from tests.console.driver import Run


def git(*words: str, cwd: Path) -> str:
    """Runs git as somebody with a name."""
    names = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(["git", *names, *words], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with two branches, of which `side` has a commit of its own."""
    place = tmp_path / "source"
    place.mkdir()
    git("init", "--quiet", "--initial-branch=release", cwd=place)
    git("commit", "--quiet", "--allow-empty", "-m", "one", cwd=place)
    git("switch", "--quiet", "--create", "side", cwd=place)
    git("commit", "--quiet", "--allow-empty", "-m", "two", cwd=place)
    return place


# ------------------------------------------------------------ branches, commits and sources


@pytest.mark.parametrize("on", ["build2", "all"])
def test_a_dry_run_for_another_builder_orders_nothing(run: Run, on: str) -> None:
    """`--dry-run` records nothing, also where the job would only be put into the queue."""
    ended = run("build", "--branch", "ExternalNew", "--on", on, "--dry-run", "--json")
    planned = ended.json.get("jobs", [ended.json])
    assert {each["status"] for each in planned} == {"planned"}
    assert "build2" in {each["builder"] for each in planned}
    assert run("job.list", "--json").json == []


def test_a_recipe_file_is_recorded_by_its_whole_path(run: Run, home: Path) -> None:
    """Whoever runs the job may be in another folder, and on another machine: that is said."""
    (home / "own.json").write_text("{}")
    ended = run("build", "--branch", "ExternalNew", "--on", "build2", "--recipe", "own.json", "--json")
    (job,) = run("job.list", "--json").json
    assert job["options"]["recipe"] == str(home / "own.json")
    assert "read there" in ended.err


def test_a_builder_that_nobody_registered_is_refused_at_once(ask: Run) -> None:
    """An order for it ends before the source is looked at, with the names that there are."""
    ended = ask("build", "--branch", "x", "--source", "/nonexistent", "--on", "build9", "--dry-run")
    assert ended.code == 40
    assert "Use one of: build1, build2" in ended.err


def test_near_names_of_a_branch_are_listed(ask: Run) -> None:
    """A branch that is not there ends with 51 and the names that are nearly the same."""
    ended = ask("build", "--branch", "ExternalNwe")
    assert (ended.code, ended.out) == (51, "")
    assert "Near names: `ExternalNew`" in ended.err


@pytest.mark.parametrize(
    "branch", ["--help", "-x", "../x", "a/../b", "a b", "a\nb", "a..b", "x.lock", "/x", "@{-1}", "a:b", "~"]
)
def test_what_cannot_be_a_branch_is_refused(ask: Run, branch: str) -> None:
    """Options, `../`, blanks, line ends and what git forbids never reach git."""
    ended = ask("build", f"--branch={branch}")
    assert ended.code == 2
    assert repr(branch) in ended.err


@pytest.mark.parametrize("branch", ["it's", 'a"b', "$(reboot)", "`id`", "a;b", "日本", "-".join("xyz")])
def test_odd_branches_that_git_allows_are_looked_for(ask: Run, branch: str) -> None:
    """A quote or a dollar is part of a name, and nothing runs it."""
    ended = ask("build", "--branch", branch, "--dry-run")
    assert ended.code == 51
    assert f"`{branch}`" in ended.err


def test_no_branch_at_all(ask: Run) -> None:
    """Without a branch the command says what to type."""
    ended = ask("build")
    assert ended.code == 2
    assert "invoke build --branch ExternalNew" in ended.err


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("{tmp}/none", 50, "is not a git repository"),
        ("{tmp}", 50, "is not a git repository"),
        ("{tmp}/file", 50, "cannot be used"),
        ("https://127.0.0.1:1/x.git", 50, "cannot be reached"),
        ("ext::sh -c id", 50, "not allowed"),
        ("--upload-pack=touch", 2, "cannot be a repository's address"),
    ],
)
def test_sources_that_cannot_be_used(ask: Run, tmp_path: Path, address: str, code: int, said: str) -> None:
    """A source that is no repository, out of reach or an option in disguise is named with its trouble."""
    (tmp_path / "file").write_text("x")
    ended = ask("build", "--branch", "main", f"--source={address.format(tmp=tmp_path)}")
    assert ended.code == code
    assert said in ended.err


def test_a_password_in_an_address_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error nor a setting shows the password of a source or of the ledger."""
    ended = run("build", "--branch", "main", "--source", "https://me:sekret@127.0.0.1:1/x.git")
    assert ended.code == 50
    assert "sekret" not in ended.err
    monkeypatch.setenv("PIPELINE_LEDGER", "https://me:sekret@127.0.0.1:1/x.git")
    monkeypatch.setenv("SERVER_ID", "build1")
    for words in (["config"], ["config", "--json"], ["status", "--json"], ["doctor"]):
        ended = run(*words)
        assert ended.code in (21, 60)
        assert "sekret" not in ended.out + ended.err


def test_a_source_that_vanished_is_built_from_the_cache(ask: Run, source: Path) -> None:
    """Once fetched, a source that is gone is said, and its last known commit is used."""
    words = ["build", "--branch", "release", "--source", str(source), "--dry-run"]
    first = ask(*words)
    source.rename(source.with_name("gone"))
    ended = ask(*words)
    assert "Not asked for news, cached state used" in ended.err
    assert ended.code == first.code


def test_a_commit_off_its_branch_is_allowed_and_said(ask: Run, source: Path) -> None:
    """A commit that the branch does not have can be built; the build says so."""
    commit = git("rev-parse", "side", cwd=source)
    words = ["build", "--branch", "release", "--source", str(source), "--dry-run", "--commit", commit]
    assert f"Commit {commit[:12]} is not on branch release" in ask(*words).err


@pytest.mark.parametrize(
    ("commit", "code"),
    [("zz", 2), ("12345", 2), ("HEAD", 2), ("--all", 2), ("0" * 40, 52), ("abcdef1234", 52)],
)
def test_what_is_no_commit_is_refused(ask: Run, source: Path, commit: str, code: int) -> None:
    """A word that cannot be a commit, and a commit that is nowhere, are told apart."""
    ended = ask("build", "--branch", "release", "--source", str(source), f"--commit={commit}", "--dry-run")
    assert ended.code == code


# ------------------------------------------------------------ options and arguments


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "--branch", "x", "--priority", "high"], "--priority is 'high'"),
        (["build", "--branch", "x", "--priority", "0"], "0 is no priority"),
        (["build", "--branch", "x", "--timeout", "1.5"], "--timeout is '1.5'"),
        (["build", "--branch", "x", "--timeout", "-3"], "-3 minutes is no timeout"),
        (["build", "--branch", "x", "--wait", "soon"], "--wait is 'soon'"),
        (["job.log", "job_a", "--follow", "--json"], "A log that is followed is no JSON value"),
        (["build", "--branch", "x", "--timeout", "0"], "0 minutes is no timeout"),
        (["build", "--branch", "x", "--wait", "-1"], "-1 seconds cannot be waited"),
        (["build", "--branch", "x", "--on", "../x"], "'../x' cannot be the name of a builder"),
        (["build", "--brnach", "x"], "No idea what '--brnach' is"),
        (["biuld"], "No idea what 'biuld' is"),
        (["job.show"], "required positional arguments: 'id'"),
        (["job.show", "../x"], "'../x' cannot be the name of a job"),
        (["job.log", "a b"], "'a b' cannot be the name of a job"),
        (["lock.break", "../x", "--token", "1"], "'../x' cannot be the name of a lock"),
        (["message.list", "--limit", "0"], "0 messages cannot be listed"),
        (["ledger.log", "--limit", "-1"], "-1 commits cannot be shown"),
        (["artifacts.prune", "--keep", "-1"], "Cannot keep -1 builds"),
        (["message.send", "--to", ",", "--subject", "s"], "Nobody is named"),
        (["message.send", "--to", "build2", "--subject", "a\nb"], "a subject of one line"),
        (["message.send", "--to", "build2", "--subject", "s", "--type", "gossip"], "of type 'gossip'"),
        (["message.send", "--to", "build2", "--subject", "s", "--file", "none"], "`none` cannot be read"),
        (["message.ack", ","], "Which message?"),
        (["sm", "2", " "], "The message is empty"),
        (["sm", "9", "text"], "'9' names no builder"),
        (["ledger.init", "--builders", "Build 1"], "'Build 1' cannot be the name of a builder"),
        (["sm", "2", "\udcff"], "is not UTF-8 text"),
    ],
)
def test_wrong_arguments_end_with_2(ask: Run, words: list[str], said: str) -> None:
    """What can be seen without the ledger ends with exit code 2 and names the argument."""
    ended = ask(*words)
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert said in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ["job.show", "nope"],
        ["job.log", "nope"],
        ["job.log", "nope", "--follow"],
        ["job.cancel", "nope"],
        ["job.retry", "nope"],
        ["lock.break", "nope", "--token", "1.1.x"],
        ["message.show", "nope"],
        ["message.ack", "nope"],
        ["artifacts.verify", "--id", "nope"],
    ],
)
def test_what_is_not_there_ends_with_41(ask: Run, words: list[str]) -> None:
    """A job, lock, message or set of artifacts that nobody knows is named."""
    ended = ask(*words)
    assert ended.code == 41
    assert "nope" in ended.err


def test_a_log_is_one_json_value(run: Run, home: Path) -> None:
    """`job.log --json` is an object with the whole log, whatever its lines hold."""
    site = make_site()
    order = {"kind": "job.start", "id": "job_a", "branch": "b", "commit": "a" * 40, "holder": site.holder()}
    token = site.ask(order)["token"]
    report = {"kind": "job.complete", "builder": "build1", "job_id": "job_a", "token": token}
    site.ledger.transact({**report, "outcome": "succeeded"}, payloads={"log": "\x1b[2J \xdf\n".encode()})
    assert run("job.log", "job_a", "--json").json == {"job_id": "job_a", "log": "\x1b[2J \xdf\n"}


def test_errors_are_json_too(ask: Run) -> None:
    """With --json an error is one object on stdout, beside the words on stderr."""
    ended = ask("build", "--branch", "ExternalNwe", "--json")
    error = ended.json["error"]
    assert (error["name"], error["exit_code"]) == ("BranchNotFound", 51)
    assert "ExternalNwe" in error["message"]
    assert "ExternalNew" in error["remedy"]
    assert ended.err


def test_a_file_without_end_is_no_message(ask: Run) -> None:
    """A text from a file is read up to a limit, and one that is longer is refused, not cut."""
    ended = ask("message.send", "build2", "hello", "--file", "/dev/zero")
    assert ended.code == 2
    assert "`/dev/zero` holds more than 1,000,000 bytes" in ended.err


# ------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = = 1", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8 (byte 0)"),
        (b'ledgr = "x"', "sets `ledgr`, which does not exist"),
        (b"ledger = 5", "`ledger` is 5"),
        (b'ledger = ""', "`ledger` is ''"),
        (b'ledger = "-x"', "which is an option"),
        (b'ledger_branch = "../x"', "'../x' cannot be the name of a branch"),
        (b'heartbeat_seconds = "often"', "`heartbeat_seconds` is 'often'"),
        (b"report_seconds = -1", "`report_seconds` is -1"),
    ],
)
def test_a_config_file_with_garbage(run: Run, home: Path, content: bytes, said: str) -> None:
    """The file, the setting and what was expected are named, with exit code 10."""
    place = home / ".pipeline" / "config.toml"
    place.parent.mkdir()
    place.write_bytes(content)
    ended = run("status")
    assert ended.code == 10
    assert str(place) in ended.err
    assert said in ended.err
    assert "Remedy: " in ended.err


def test_a_byte_order_mark_does_no_harm(run: Run, home: Path) -> None:
    """An editor's byte-order mark at the start of the configuration is passed over."""
    place = home / ".pipeline" / "config.toml"
    place.parent.mkdir()
    place.write_bytes(b'\xef\xbb\xbfbuilder = "build2"')
    assert run("status", "--json").json["here"] == "build2"


@pytest.mark.parametrize("name", ["../x", "Build1", "", " "])
def test_a_name_that_no_builder_can_have(run: Run, home: Path, name: str) -> None:
    """An identity file with nonsense in it is named; no other name is taken instead."""
    (home / ".build_server_id").write_text(name)
    ended = run("status")
    assert ended.code == 11
    assert ".build_server_id" in ended.err


def test_no_identity(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared ledger a machine that nobody named refuses to work, and says where to write its name."""
    place = tmp_path / "ledger.git"
    git("init", "--quiet", "--bare", str(place), cwd=tmp_path)
    monkeypatch.setenv("PIPELINE_LEDGER", str(place))
    assert run("ledger.init").code == 0
    ended = run("status")
    assert ended.code == 11
    assert "config.toml" in ended.err
    assert "/etc/build_server_id" in ended.err


def test_a_name_that_the_registry_does_not_know(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder of no registry can look, and is told."""
    monkeypatch.setenv("SERVER_ID", "build9")
    ended = run("status")
    assert ended.code == 0
    assert "build9, which the registry does not know" in ended.err


@pytest.mark.parametrize("task", ["status", "build", "doctor", "ledger.init"])
def test_a_home_that_cannot_be_written(
    run: Run, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home in a place where nothing can be made is named, with what to set."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PIPELINE_HOME", str(tmp_path / "file" / "home"))
    ended = run(task, *(["--branch", "x"] if task == "build" else []))
    assert ended.code == (60 if task == "doctor" else 33)
    assert "PIPELINE_HOME" in ended.out + ended.err


# ------------------------------------------------------------ the ledger's address


@pytest.fixture
def addresses(tmp_path: Path, source: Path) -> dict[str, Path]:
    """Places that a ledger setting can name by mistake."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("x")
    git("init", "--quiet", "--bare", str(tmp_path / "empty.git"), cwd=tmp_path)
    git("clone", "--quiet", "--bare", str(source), str(tmp_path / "other.git"), cwd=tmp_path)
    names = {"directory": "directory", "file": "file", "empty": "empty.git", "other": "other.git"}
    return {kind: tmp_path / name for kind, name in names.items()} | {"nothing": tmp_path / "nothing"}


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("directory", 10, "no git repository"),
        ("file", 10, "which is a file"),
        ("nothing", 21, "does not appear to be a git repository"),
        ("empty", 27, "invoke ledger.init"),
        ("other", 28, "holds something else: it has no branch `ledger`, but `release`, `side`"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_ledger_setting_that_is_something_else(
    run: Run,
    addresses: dict[str, Path],
    kind: str,
    code: int,
    said: str,
    named: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind of wrong place has words and a code of its own, whether the machine has a name or not."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(addresses[kind]))
    if named:
        monkeypatch.setenv("SERVER_ID", "build1")
    ended = run("status")
    assert ended.code == code
    assert said in ended.err
    assert str(addresses[kind]) in ended.err


def test_a_host_is_probed_before_there_is_a_ledger(
    run: Run, addresses: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor --remote` says what an empty repository's host does, and that `ledger.init` comes next."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(addresses["empty"]))
    monkeypatch.setenv("SERVER_ID", "build1")
    ended = run("doctor", "--remote", "--json")
    found = {check["name"]: check for check in ended.json}
    assert ended.code == 60
    assert "invoke ledger.init" in found["ledger"]["remedy"]
    assert found["remote: leases"]["ok"]
    assert git("for-each-ref", cwd=addresses["empty"]) == ""


def test_init_refuses_a_repository_of_something_else(
    run: Run, addresses: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ledger.init` changes nothing in a repository that has branches."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(addresses["other"]))
    before = git("for-each-ref", cwd=addresses["other"])
    ended = run("ledger.init")
    assert ended.code == 28
    assert "is not empty" in ended.err
    assert git("for-each-ref", cwd=addresses["other"]) == before


def test_init_twice_changes_nothing(
    run: Run, addresses: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second `ledger.init` says that there is a ledger already, of whom, and prints the same commit."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(addresses["empty"]))
    first = run("ledger.init", "--builders", "build1, build2,build1")
    again = run("ledger.init", "--builders", "build7")
    assert (first.code, again.code) == (0, 0)
    assert first.out == again.out
    assert "a ledger already, of build1, build2; nothing was changed" in again.err


def test_a_branch_that_holds_something_else(
    run: Run, addresses: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch with other content is refused by name, and nothing is pushed to it."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(addresses["other"]))
    monkeypatch.setenv("PIPELINE_LEDGER_BRANCH", "release")
    for name in ("", "build1"):
        monkeypatch.setenv("SERVER_ID", name)
        ended = run("status")
        assert ended.code == 28
        assert "coordination/ledger.json" in ended.err


# ------------------------------------------------------------ anything at all

odd = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zs", "Po"]), max_size=10),
    st.sampled_from(["--", "-", "--json", "..", "/", "%s", "{}", "\x1b[2J", "0" * 200, "$HOME", "\x00"]),
)

#: Tasks, and how many words each is given.
ASKING = [
    ("job.show", 1),
    ("job.cancel", 1),
    ("job.retry", 1),
    ("job.log", 1),
    ("message.ack", 1),
    ("message.show", 1),
    ("message.send --subject x --to", 1),
    ("sm", 2),
    ("lock.break", 1),
    ("lock.break x --token", 1),
    ("build --branch", 1),
    ("build --branch ExternalNew --commit", 1),
    ("artifacts.verify --id", 1),
]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_odd_words_never_end_in_a_traceback(ask: Run, data: st.DataObject) -> None:
    """Whatever is given as an id, a name, a token or a text, the command ends in words."""
    task, count = data.draw(st.sampled_from(ASKING))
    words = [data.draw(odd) for _ in range(count)]
    ask(*task.split(" "), *words)


@pytest.mark.parametrize("other", ["--left=/tmp", "--list", "--environment", "--timings", "--watch"])
def test_only_a_comparison_of_builds_is_built_again(ask: Run, other: str) -> None:
    """Two folders, a list or builders as they are have no builds that could be made again."""
    ended = ask("compare", "--rebuild", other)
    assert ended.code == 2
    assert "exclude each other" in ended.err
    assert "--rebuild" in ended.err
