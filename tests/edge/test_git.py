from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.git import Access, environment, git, git_long, masked, source_error, split_credentials
from pipeline.errors import BuildFailed, CommandFailed, SourceError, UsageError


def _settings(env: dict[str, str]) -> dict[str, str]:
    count = int(env["GIT_CONFIG_COUNT"])
    return {env[f"GIT_CONFIG_KEY_{i}"]: env[f"GIT_CONFIG_VALUE_{i}"] for i in range(count)}


@pytest.mark.parametrize(
    ("given_address", "address", "secret"),
    [
        ("https://host/a.git", "https://host/a.git", None),
        ("https://alice:s3cret@host:8443/a.git", "https://host:8443/a.git", "alice:s3cret"),
        ("https://token@host/a.git", "https://host/a.git", "token:"),
        ("https://a%40b:p%3Aw@host/a.git", "https://host/a.git", "a@b:p:w"),
        ("ssh://git:pw@host/a.git", "ssh://git@host/a.git", None),
        ("ssh://git@host/a.git", "ssh://git@host/a.git", None),
        ("git@host:team/a.git", "git@host:team/a.git", None),
        ("file:///srv/a.git", "file:///srv/a.git", None),
        ("/srv/a/../b.git", "/srv/b.git", None),
    ],
)
def test_credentials_are_taken_out_of_addresses(given_address: str, address: str, secret: str | None) -> None:
    """The address that is recorded has none; what it held goes to git as a header."""
    access = split_credentials(given_address)
    assert access.address == address
    if secret is None:
        assert access.header is None
    else:
        assert access.header == "Authorization: Basic " + base64.b64encode(secret.encode()).decode()
        assert _settings(environment(access))[f"http.{address}.extraHeader"] == access.header
    assert secret is None or secret not in repr(access)


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
