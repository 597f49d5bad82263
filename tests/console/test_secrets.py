"""A secret on a command line: refused with exit code 44, named by its place, and written nowhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.console.driver import Run
from tests.console.test_bad_input import git

#: Put together here, so that no scanner takes this file for a leak.
TOKEN = "glpat-" + "x1Y2z3" * 4
PLAIN = "abcdefghij0123456789"
KEY = "-----BEGIN RSA PRIVATE" + " KEY-----"
BODY = "MIIEpAIBAAKCAQEA7bq3Zl0kq9w1Xy2Qm4vT8nB6cD5eF7gH9iJ0kL1mN2oP3qR4"


def written(home: Path, secret: str) -> list[str]:
    """Returns where a secret is found: files below a home, and repositories with an object that has it."""
    files = [path for path in home.rglob("*") if path.is_file()]
    found = [str(path) for path in files if secret.encode() in path.read_bytes()]
    for repository in {path.parent for path in files if path.name == "HEAD"}:
        words = ["git", "cat-file", "--batch", "--batch-all-objects"]
        objects = subprocess.run(words, cwd=repository, check=True, capture_output=True).stdout
        assert objects
        found += [str(repository)] if secret.encode() in objects else []
    return found


@pytest.mark.parametrize(
    ("words", "field", "rule"),
    [
        (["sm", "2", f"the key is {TOKEN}"], "subject", "gitlab_token"),
        (["message.send", "build2", "hello", "--body", f"x\ny {TOKEN}"], "body", "gitlab_token"),
        (["job.cancel", "job_a", "--reason", f"token={PLAIN}"], "reason", "named_value"),
        (["lock.break", "x", "--token", "1.1.x", "--reason", TOKEN], "reason", "gitlab_token"),
    ],
)
def test_a_secret_on_the_command_line(run: Run, home: Path, words: list[str], field: str, rule: str) -> None:
    """Each task that writes refuses it and names the place and the rule; no value is shown or kept."""
    assert run("sm", "2", "hello").code == 0
    tip = git("rev-parse", "ledger", cwd=home / ".pipeline/ledger.git")
    ended = run(*words)
    assert (ended.code, ended.out) == (44, "")
    assert f"Error: `{field}`, line " in ended.err
    assert f"(rule `{rule}`): " in ended.err
    assert "*****" in ended.err
    assert "Remedy: " in ended.err
    assert not any(secret in ended.err for secret in (TOKEN, PLAIN))
    assert written(home, "hello") != []
    assert written(home, TOKEN) == written(home, PLAIN) == []
    assert git("rev-parse", "ledger", cwd=home / ".pipeline/ledger.git") == tip


def test_a_private_key_from_a_file(run: Run, home: Path, tmp_path: Path) -> None:
    """A key that is sent as a file is refused by the line where its body begins."""
    (tmp_path / "id_rsa").write_text(f"here:\n{KEY}\n{BODY}\n{BODY}\n")
    ended = run("message.send", "all", "my key", "--file", str(tmp_path / "id_rsa"))
    assert ended.code == 44
    assert "`body`, line 3: this looks like a password or a key (rule `private_key`): *****" in ended.err
    assert written(home, BODY) == []


def test_a_refusal_is_json_too(run: Run) -> None:
    """A program is told field, line and rule apart."""
    ended = run("job.cancel", "job_a", "--reason", f"token={PLAIN}", "--json")
    error = ended.json["error"]
    assert (error["name"], error["exit_code"], error["reason"]) == ("SecretRefused", 44, "secret")
    assert (error["field"], error["line"], error["rule"]) == ("reason", 1, "named_value")
    assert PLAIN not in ended.out + ended.err


def test_a_source_with_a_password_for_another_builder(run: Run, home: Path) -> None:
    """The order is refused: the other builder would have to read the password in the ledger."""
    ended = run("build", "--branch", "b", "--on", "build2", "--source", "https://me:sekret@127.0.0.1:1/x.git")
    assert ended.code == 44
    assert "sekret" not in ended.err
    assert written(home, "sekret") == []
