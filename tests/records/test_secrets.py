"""Promises of masking and refusing: no secret gets through, nothing else is touched, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.builds import Download, Recipe
from pipeline.records.secrets import MASK, Leak, Masker, find, leak_in, mask, mask_record, mask_values

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


#: What somebody may write into a message, and what has to be refused in it.
HEX32 = "0192f7a41b7c7d0e9f3a5b6c7d8e9f01"
OID = "d8e22ab0af7881b17ddd086bcae2a42a74bfc661"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

ORDINARY = [
    OID,
    f"built {OID[:12]} at {OID}",
    f"{SHA256}  cloudstack-ui_4.21.0.0_all.deb",
    f"sha256:{SHA256}",
    f"SHA-256 of the log: {SHA256}",
    "4d5c2f7e-5b0e-4c55-9f0c-2f7b5a1d6e11 and 0192f7a4-1b7c-7d0e-9f3a-5b6c7d8e9f01",
    f"job_{HEX32} attempt 2 under token 1.17.{HEX32}",
    f"token: 1.17.{HEX32}",
    f"Lease `builder/build2` is held by build2 (token 7.204.{HEX32}), renewed 12 s ago.",
    f"Wait, or run `invoke lock.break builder/build2 --token 1.17.{HEX32}`.",
    "invoke lock.break NAME --token TOKEN",
    f"msg_{HEX32}",
    f"20260102T030405Z-job_{HEX32}.1",
    "The password is kept in the vault; ask Bob.",
    "password: see the vault",
    "Password: required",
    "reset the password: it was changed on Monday",
    "wrong password for the repository, so the build ended with 73",
    "[ERROR] Parser.java:[12,3] unexpected token: class",
    "token: identifier",
    "give it with the --password option",
    "set DB_PASSWORD=${DB_PASSWORD} and token=<token> and secret=*****",
    "https://user:password@host/path is no good way to write an address",
    "https://<user>:<password>@git.example.org/x.git",
    "ssh://git@git.example.org/x.git and git@git.example.org:x.git",
    "Authorization: needed for this address",
    "authorization = read-only for everybody",
    "Cookie: none was sent",
    "bearer authentication-is-refused by the host",
    "sk-this-is-the-branch-of-a-slovak-translation-team",
    "the public key begins with -----BEGIN PUBLIC KEY-----\n" + BODY,
    f"the log shows {KEY} and nothing after it\nso the key was cut out before",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl build2",
    "PWD=/build/tree, passwordless sudo, tokens are counted, secretly",
    "Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.8.1:compile",
    "-DskipTests -Dnoredist -Dsystemvm --fail-at-end -T 2",
    "id_rsa was missing, and ~/.m2/settings-security.xml as well",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_what_people_write_anyway_is_not_refused(text: str) -> None:
    """Commits, digests, UUIDs, the ledger's own tokens, and sentences about secrets pass."""
    assert find(text, certain=True) == []
    assert leak_in({"body": text}) is None


PUTTY = f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{BODY}\nPrivate-MAC: 00\n"
REFUSED = [
    *((rule, line) for rule, line, _ in SECRETS),
    ("private_key", f"here it is:\n{KEY}\n{BODY}\n{END}\n"),
    ("private_key", "-----BEGIN OPENSSH PRIVATE" + f" KEY-----\n{BODY}\n"),
    ("private_key", "---- BEGIN SSH2 ENCRYPTED PRIVATE" + f" KEY ----\n{BODY}\n"),
    ("private_key", PUTTY),
    ("named_value", "the password: hunter2"),
    ("named_value", "password: letmein"),
    ("named_value", "root password = correct-horse"),
    ("named_value", f"client_secret={SHA256}"),
    ("named_value", "token: 4d5c2f7e-5b0e-4c55-9f0c-2f7b5a1d6e11"),
    ("named_value", "PASSWORD=hunter2 ./build.sh"),
    ("url_credentials", "jdbc:mysql://root:s3cret@db.example.org/cloud"),
    ("option_value", f"curl --token {TOKEN}"),
    ("cookie", "Cookie: JSESSIONID=0123456789abcdef"),
    ("model_key", "sk-" + "Ab1" * 12),
]


@pytest.mark.parametrize(("rule", "text"), REFUSED, ids=[f"{one[0]}-{n}" for n, one in enumerate(REFUSED)])
def test_a_secret_that_somebody_writes_is_refused(rule: str, text: str) -> None:
    """Every kind of secret is certain enough to be refused, and named by its rule."""
    assert rule in {found.rule for found in find(f"Hello,\n{text}", certain=True)}


def test_what_is_refused_is_masked_too() -> None:
    """Whatever would be refused in a message is masked in a log: the certain are among the likely."""
    for _, text in REFUSED:
        places = set(find(text))
        assert {(found.line, found.rule) for found in find(text, certain=True)} <= {
            (found.line, found.rule) for found in places
        }
        assert find(mask(text), certain=True) == []


def test_a_leak_names_field_line_and_rule_and_shows_no_value() -> None:
    """The place is a dotted path, the line counts from 1, and what is shown ends where the secret begins."""
    leak = leak_in({"to": "build2", "body": "one\nurl=https://ci:hunter22@git.example.org/x.git and more"})
    assert leak == Leak("body", 2, "url_credentials", f"url=https://ci:{MASK}")
    nested = leak_in({"options": {"properties": ["a", "x.password=hunter22"]}})
    assert nested == Leak("options.properties.1", 1, "named_value", f"x.password={MASK}")


@pytest.mark.parametrize("name", ["password", "db.cloud.password", "API_KEY", "clientSecret", "env.PWD"])
def test_a_value_is_secret_by_its_name(name: str) -> None:
    """In structured values the name stands apart from the value; a fencing token or a placeholder is none."""
    assert leak_in({"options": {name: "hunter22"}}) == Leak(f"options.{name}", 1, "named_value", MASK)
    assert mask_values({name: ["x", "y"], "other": {name: "hunter22"}})["other"] == {name: MASK}
    for harmless in ("", "${X}", f"1.17.{HEX32}", True, None):
        assert leak_in({name: harmless}) is None
        assert mask_values({name: harmless}) == {name: harmless}


def test_a_name_can_hold_a_secret() -> None:
    """A key of a mapping is text as well, and is not shown."""
    leak = leak_in({"options": {"ghp_" + TOKEN: "x"}})
    assert leak == Leak("options", 1, "github_token", MASK)


def test_a_record_is_masked_as_a_whole() -> None:
    """Every text of a record goes through the rules, by its name on the wire, and the rest stays."""
    url = "https://ci:hunter22@repo.example.org/x.tar.gz"
    recipe = Recipe(
        source="/s", branch="b", commit=OID, source_date_epoch=7, properties={"a.password": "b c"}
    )
    masked = mask_record(recipe)
    assert masked == recipe.model_copy(update={"properties": {"a.password": MASK}})
    download = Download(url=url, tool="wget", status="passed", sha256=SHA256)
    assert mask_record(download) == download.model_copy(update={"url": url.replace("hunter22", MASK)})


WORDS = st.text(max_size=20) | st.sampled_from([line for _, line, _ in SECRETS])
NAMES = st.sampled_from(["a", "note", "password", "x.secret", "api-key", "token"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_masked_values_hold_no_leak(value: object) -> None:
    """Whatever JSON it is, with secrets in it or under their names: once masked, nothing of it is refused."""
    assert leak_in([mask_values(value)]) is None


IDS = st.one_of(
    st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.uuids().map(str),
    st.uuids().map(lambda each: f"{each.int % 9}.{each.int % 7919}.{each.hex}"),
)


@given(IDS)
def test_no_id_is_ever_refused(text: str) -> None:
    """Any commit id, SHA-256, UUID and fencing token passes, alone and in a sentence."""
    for line in (text, f"built {text}, see job_{text}", f"manifest/{text}.json"):
        assert find(line, certain=True) == []


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
