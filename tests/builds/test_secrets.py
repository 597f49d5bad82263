"""Promises of masking: nothing secret gets through, nothing else is touched, and time stays linear."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds.secrets import MASK, Masker, find, mask

TOKEN = "abcdefghij0123456789ABCDEFGHIJ012345"
#: Each is put together here, so that no scanner takes this file for a leak.
KEY = "-----BEGIN RSA PRIVATE" + " KEY-----"
END = "-----END RSA PRIVATE" + " KEY-----"
BODY = "MIIEpAIBAAKCAQEA7bq3Zl0kq9w1Xy2Qm4vT8nB6cD5eF7gH9iJ0kL1mN2oP3qR4"

SECRETS = [
    ("url_credentials", "git clone https://bob:hunter2@git.example.org/x.git", "hunter2"),
    ("url_token", f"remote: https://{TOKEN}@git.example.org/x", TOKEN),
    ("github_token", "using " + "ghp_" + TOKEN, "ghp_" + TOKEN),
    ("github_token", "github_pat_" + "A1" * 20, "A1" * 20),
    ("gitlab_token", "glpat-" + "x1Y2z3" * 4, "x1Y2z3" * 4),
    ("slack_token", "xoxb-" + "123456789012-abcdef", "123456789012-abcdef"),
    ("slack_webhook", "https://hooks.slack.com/services/" + "T000/B000/XXXXYYYY", "T000/B000/XXXXYYYY"),
    ("aws_key_id", "id " + "AKIA" + "ABCDEFGHIJKLMNOP", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ("named_value", "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    (
        "jwt",
        "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N",
        "dozjgNryP4J3",
    ),
    ("npm_token", "npm_" + TOKEN, TOKEN),
    ("authorization", "> Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l", "YWxhZGRpbjpvcGVuc2VzYW1l"),
    ("bearer", "header 'Bearer " + TOKEN + "'", TOKEN),
    ("named_value", "db.cloud.password=s3cr3t!", "s3cr3t!"),
    ("named_value", '"password" : "two words"', "two words"),
    ("named_value", "DB_PASSWORD='x y z'", "x y z"),
    ("named_value", "-Djavax.net.ssl.keyStorePassword=vmops.com", "vmops.com"),
    ("named_value", "//registry.example.org/:_authToken=abc123def", "abc123def"),
    ("named_value", "api-key: 12345abc", "12345abc"),
    ("option_value", "mysql --user root --password letmein", "letmein"),
    ("xml_element", "<password>{COQLCE6DU6GtcS5P=}</password>", "COQLCE6DU6GtcS5P="),
]


@pytest.mark.parametrize(
    ("rule", "line", "secret"), SECRETS, ids=[f"{one[0]}-{n}" for n, one in enumerate(SECRETS)]
)
def test_a_secret_is_found_by_its_rule_and_masked(rule: str, line: str, secret: str) -> None:
    """Every kind of secret is named by its rule and does not survive, whatever stands around it."""
    assert rule in {found.rule for found in find(line)}
    assert secret not in mask(f"[INFO] {line} and more\n")


def test_a_private_key_is_masked_over_all_its_lines() -> None:
    """Every line between the marks goes; the lines before and after stay."""
    text = f"before\n{KEY}\n{BODY}\n{BODY}\n{END}\nafter\n"
    masked = mask(text)
    assert BODY not in masked
    assert masked.startswith(f"before\n{KEY}\n{MASK}\n")
    assert masked.endswith(f"{END}\nafter\n")


def test_a_private_key_on_one_line_is_masked() -> None:
    """A key whose line breaks are written out as backslash n is masked as well."""
    assert BODY not in mask(f'"key": "{KEY}\\n{BODY}\\n{END}"')


def test_a_key_that_never_ends_does_not_hide_the_rest() -> None:
    """Only lines that look like a key go; a lone first line of one leaves the log readable."""
    rest = [f"[INFO] line {number}" for number in range(40)]
    masked = mask("\n".join([KEY, BODY, *rest]))
    assert BODY not in masked
    assert "[INFO] line 39" in masked


def test_skipped_lines_still_lead_into_a_key() -> None:
    """A reader that does not show the first lines of a key knows that it is inside one."""
    masker = Masker()
    for line in (b"x", KEY.encode(), BODY.encode()):
        masker.skip(line)
    assert masker.in_key
    assert BODY not in masker.mask_line(BODY + "\n")


@pytest.mark.parametrize(
    "line",
    [
        "[INFO] Apache CloudStack Plugin - User Authenticator LDAP ........ SUCCESS [  2.1 s]",
        "[INFO] Building jar: /b/user-authenticators/md5/target/cloud-plugin-user-authenticator-md5.jar",
        "install -D client/utilities/bin/cloud-set-guest-password debian/bin/cloudstack-set-guest-password",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  cloudstack-ui_4.21_all.deb",
        "HEAD is now at d8e22ab0af7881b17ddd086bcae2a42a74bfc661",
        "Downloading from central: https://repo.example.org/maven2/org/a/b/1.0/b-1.0.pom",
        "PWD=/build/tree and OLDPWD=/build",
        "password=${db.cloud.password} token: null secret=***** apikey=<your key>",
        "[WARNING] PasswordResetElement.java:[12,3] uses deprecated API",
        "ssh://git@git.example.org/x.git git@git.example.org:x.git",
        "compiling TokenBucket.java: 12 warnings",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
)
def test_what_a_build_prints_anyway_is_left_alone(line: str) -> None:
    """Module names, digests, commits, paths and placeholders are no secrets."""
    assert mask(line) == line
    assert find(line) == []


@given(st.text(max_size=400))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    """What is masked holds no secret any more, for any text at all."""
    once = mask(text)
    assert mask(once) == once


@given(
    st.text(alphabet=st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20),
    st.sampled_from(["password=", "x.secret: ", "--token ", "ghp_", "Authorization: Bearer "]),
    st.text(alphabet="abcdefghijkmnopqrstuvwxyz23456789", min_size=24, max_size=60),
)
def test_a_planted_secret_never_survives(before: str, name: str, secret: str) -> None:
    """Whatever stands before it on its line, a named secret is masked."""
    assert secret not in mask(f"{before} {name}{secret}\n")


def test_a_finding_names_the_place_and_not_the_value() -> None:
    """Line, column and length lead to the secret; the value is in no field."""
    (found,) = find("one\ntwo password=hunter22 three")
    assert (found.rule, found.line, found.column, found.length) == ("named_value", 2, 14, 8)
    assert "hunter22" not in repr(found)


ADVERSARIAL = [
    "a", "-", "password", "password=", "eyJ", "eyJ.eyJ.", "://", "://a:", "--a-", "bearer ", KEY,
    "-----BEGIN ", "token: ", "ghp_", "authorization: ", "secret_", "<secret>", "x" * 40 + "@",
]  # fmt: skip


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_adversarial_text_is_masked_in_linear_time(piece: str) -> None:
    """Four times the text takes about four times as long, and never the sixteenfold of a quadratic rule."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            mask(text)
            best = min(best, time.process_time() - begun)
        return best

    small, large = seconds(32_768), seconds(131_072)
    assert large < 10 * max(small, 0.002)
