from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.credentials import Access, masked, split_credentials
from pipeline.edge.git import environment, git, git_long, source_error
from pipeline.errors import BuildFailed, CommandFailed, SourceError, UsageError


def _settings(env: dict[str, str]) -> dict[str, str]:
    count = int(env["GIT_CONFIG_COUNT"])
    return {env[f"GIT_CONFIG_KEY_{i}"]: env[f"GIT_CONFIG_VALUE_{i}"] for i in range(count)}


TOKEN = "abcdefghij0123456789"


@pytest.mark.parametrize(
    ("given_address", "address", "user", "password"),
    [
        ("https://host/a.git", "https://host/a.git", None, None),
        ("https://alice:s3cret@host:8443/a.git", "https://host:8443/a.git", "alice", "s3cret"),
        ("https://alice@host/a.git", "https://host/a.git", "alice", None),
        (f"https://{TOKEN}@host/a.git", "https://host/a.git", TOKEN, ""),
        ("https://alice:@host/a.git", "https://host/a.git", "alice", ""),
        ("https://a%40b:p%3Aw@host/a.git", "https://host/a.git", "a@b", "p:w"),
        ("ssh://git:pw@host/a.git", "ssh://git@host/a.git", None, None),
        ("ssh://git@host/a.git", "ssh://git@host/a.git", None, None),
        ("git@host:team/a.git", "git@host:team/a.git", None, None),
        ("file:///srv/a.git", "file:///srv/a.git", None, None),
        ("/srv/a/../b.git", "/srv/b.git", None, None),
    ],
)
def test_credentials_are_taken_out_of_addresses(
    given_address: str, address: str, user: str | None, password: str | None
) -> None:
    """The address that is recorded has none; what it held is told to git if the host asks for it."""
    access = split_credentials(given_address)
    assert access == Access(address, user, password)
    assert not password or password not in repr(access)
    answered = answer(access)
    if password is not None:
        assert answered == {"username": user, "password": password}
    else:
        assert answered is None


def answer(access: Access, more: dict[str, str] | None = None) -> dict[str, str] | None:
    """Returns what git finds out for another repository of the same host; None if it knows nothing."""
    asked = f"url={access.host}/other.git\n\n"
    words = ["git", "credential", "fill"]
    done = subprocess.run(
        words, env=environment(access) | (more or {}), input=asked, capture_output=True, text=True
    )
    if done.returncode != 0:
        return None
    rows = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {name: rows[name] for name in ("username", "password")}


def test_the_users_own_helpers_are_not_told(tmp_path: Path) -> None:
    """A password from an address does not end up in the user's store; a name alone is looked up there."""
    store, config = tmp_path / "store", tmp_path / "config"
    store.write_text("https://alice:kept@host\n")
    config.write_text(f"[credential]\n\thelper = store --file={store}\n")
    own = {"GIT_CONFIG_GLOBAL": str(config)}
    given_one = split_credentials("https://alice:s3cret@host/a.git")
    assert answer(given_one, own) == {"username": "alice", "password": "s3cret"}
    approved = "url=https://alice:s3cret@host/a.git\n\n"
    words = ["git", "credential", "approve"]
    subprocess.run(words, env=environment(given_one) | own, input=approved, check=True, text=True)
    assert store.read_text() == "https://alice:kept@host\n"
    named = answer(split_credentials("https://alice@host/a.git"), own)
    assert named == {"username": "alice", "password": "kept"}


def test_what_a_shell_would_take_for_something_else_arrives_whole() -> None:
    """Quotes, dollars, per cents and backslashes of a password are told as they are."""
    odd = "a'b\"c$HOME`id`%s\\n;&|"
    access = Access("https://host/a.git", "me", odd)
    assert answer(access) == {"username": "me", "password": odd}


def test_credentials_count_for_their_host_alone() -> None:
    """Another host, another port and another scheme are told nothing."""
    access = split_credentials("https://alice:s3cret@host:8443/a.git")
    for other in ("https://host/a.git", "http://host:8443/a.git", "https://other:8443/a.git"):
        done = subprocess.run(
            ["git", "credential", "fill"],
            env=environment(access),
            input=f"url={other}\n\n",
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("credentials", ["a:b%0Ac", "a%0d:b", "a%00:b"])
def test_credentials_with_a_line_end_are_refused(credentials: str) -> None:
    """They would be more than one line of what git's helpers speak."""
    with pytest.raises(UsageError) as refused:
        split_credentials(f"https://{credentials}@host/a.git")
    assert credentials not in str(refused.value)


def test_no_variable_that_git_lfs_logs_has_the_password() -> None:
    """Git LFS writes every variable that begins with GIT_ into its error logs."""
    env = environment(split_credentials("https://alice:s3cret@host/a.git"))
    assert [name for name, value in env.items() if "s3cret" in value] == ["PIPELINE_GIT_PASSWORD"]


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "--upload-pack=x", "https://h/a\nb", "a\x00b"])
def test_an_address_that_could_be_an_option_is_refused(address: str) -> None:
    """Nothing that git would take for an option reaches its command line."""
    with pytest.raises(UsageError):
        split_credentials(address)


@given(
    st.text(
        alphabet=st.characters(exclude_characters="/@ \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85", codec="ascii"),
        min_size=1,
    )
)
def test_masked_text_holds_no_credentials(secret: str) -> None:
    """Whatever stands before the @ of an address is taken out of messages."""
    text = masked(f"fatal: unable to access 'https://{secret}@host/a.git/': no")
    assert text == "fatal: unable to access 'https://host/a.git/': no"


def test_local_commands_ignore_every_setting_but_their_own() -> None:
    """A checkout is the same whoever makes it: no system, user or hook settings."""
    env = environment()
    assert (env["GIT_CONFIG_NOSYSTEM"], env["GIT_CONFIG_GLOBAL"], env["LC_ALL"]) == ("1", "/dev/null", "C")
    assert _settings(env)["core.hooksPath"] == "/dev/null"


def test_remote_commands_never_prompt() -> None:
    """Neither a terminal nor an askpass program nor ssh asks for anything."""
    env = environment(Access("ssh://git@host/a.git"))
    assert (env["GIT_TERMINAL_PROMPT"], env["GIT_ASKPASS"]) == ("0", "")
    assert "BatchMode=yes" in env["GIT_SSH_COMMAND"]
    assert "ext" not in env["GIT_ALLOW_PROTOCOL"]
    assert "file" not in env["GIT_ALLOW_PROTOCOL"].split(":")


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("fatal: '/x' does not appear to be a git repository", "is not a git repository"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "asks for credentials"),
        ("git@h: Permission denied (publickey).", "asks for credentials"),
        ("fatal: unable to access 'https://u:pw@h/a/': Could not resolve host: h", "cannot be reached"),
        ("fatal: detected dubious ownership in repository at '/x'", "belongs to another user"),
        ("fatal: transport 'ext' not allowed", "kind that is not allowed"),
        ("error: unable to write file: No space left on device", "the disk is full"),
        ("Host key verification failed.", "does not know"),
        (
            "Host key for h has changed and you asked for strict checking.\nHost key verification failed.",
            "another SSH host key than before: Host key for h has changed",
        ),
        (
            "sh: 1: ssh: not found\nfatal: Could not read from remote repository.",
            "SSH, which is not installed",
        ),
        ("fatal: unable to access 'https://h/': SSL certificate problem: self-signed", "does not trust"),
        ("fatal: unable to access 'https://h/': server certificate verification failed.", "does not trust"),
        ("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", "broke off in the middle"),
        (
            "remote: fatal: unable to read 2bd5a0a98a36cc08ada88b804d3be047e6aa5b8a\nfatal: early EOF",
            "lacks objects",
        ),
        ("fatal: something new", "cannot be used"),
        ("", "git said nothing"),
    ],
)
def test_what_git_says_is_told_in_words(said: str, meaning: str) -> None:
    """A failure names the source and what is wrong with it, and shows no credentials."""
    failed = CommandFailed("", stderr_tail=said)
    error = source_error(Access("https://h/a"), failed)
    assert isinstance(error, SourceError)
    assert "https://h/a" in error.message
    assert meaning in error.message
    assert error.failure_class == ("disk" if meaning == "the disk is full" else "source")
    assert "pw" not in str(error)


def test_a_program_in_place_of_a_repository_is_not_run(tmp_path: Path) -> None:
    """git's `ext::` transport, which runs its argument, is refused."""
    proof = tmp_path / "proof"
    access = split_credentials(f"ext::touch {proof}")
    with pytest.raises(CommandFailed):
        git("ls-remote", "--heads", "--", access.address, access=access)
    assert not proof.exists()


def test_a_long_command_says_its_last_words(tmp_path: Path) -> None:
    """The error of a supervised git holds its status and what it printed last."""
    with pytest.raises(CommandFailed, match="not a git repository") as caught:
        git_long("log", cwd=tmp_path)
    assert caught.value.returncode == 128


def test_a_long_command_can_be_cancelled(tmp_path: Path) -> None:
    """A build that is cancelled while git fetches ends as cancelled."""
    with pytest.raises(BuildFailed, match="by alice") as caught:
        git_long("-c", "alias.wait=!sleep 60", "wait", cwd=tmp_path, cancelled=lambda: "by alice")
    assert caught.value.failure_class == "cancelled"


def test_a_long_command_has_a_limit(tmp_path: Path) -> None:
    """A git that hangs is ended and named."""
    with pytest.raises(CommandFailed, match=r"gave no answer within 0.2 s"):
        git_long("-c", "alias.wait=!sleep 60", "wait", cwd=tmp_path, timeout=0.2)
