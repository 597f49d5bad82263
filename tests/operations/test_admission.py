"""Nothing secret is written: refused before the outbox has it, or masked where a report must not be lost."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import SecretRefused
from pipeline.operations import messages, queue
from pipeline.operations.build import Order, build
from pipeline.operations.recover import recover
from pipeline.operations.site import Site
from pipeline.records.builds import BuildConfig
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_attempt import keep
from tests.operations.test_recover import complete, die, start

#: Put together here, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "abcdefghij0123456789ABCDEFGHIJ012345"
PLAIN = "abcdefghij0123456789ABCD"
ORDER = {"kind": "job.create", "id": "job_a", "branch": "b", "commit": COMMIT}
SEND = {"kind": "message.send", "id": "msg_a", "to": "build2", "subject": "s"}
LEASE = {"kind": "lock.acquire", "holder": "h", "ttl_seconds": 30.0, "interval_seconds": 10.0, "names": ["x"]}


def traces(site: Site, secret: str) -> list[str]:
    """Returns the files of a store that hold a text."""
    files = [path for path in site.ledger.store.folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("request_", "field", "rule"),
    [
        ({**SEND, "subject": f"use {TOKEN}"}, "subject", "github_token"),
        ({**SEND, "body": f"use {TOKEN}"}, "body", "github_token"),
        ({**ORDER, "source": f"https://{PLAIN}@host/x.git"}, "source", "url_token"),
        ({**ORDER, "options": {"source": f"https://me:{PLAIN}@host/x"}}, "options.source", "url_credentials"),
        ({**ORDER, "options": {"a": {"db.password": PLAIN}}}, "options.a.db.password", "named_value"),
        ({**ORDER, "requested_by": TOKEN}, "requested_by", "github_token"),
        ({"kind": "job.cancel", "job_id": "job_a", "reason": f"--token {TOKEN}"}, "reason", "github_token"),
        ({"kind": "lock.break", "name": "x", "token": TOKEN}, "token", "github_token"),
        ({"kind": "lock.break", "name": "x", "token": "1.1.x", "reason": TOKEN}, "reason", "github_token"),
        ({**LEASE, "purpose": TOKEN}, "purpose", "github_token"),
        ({"kind": "something.new", "text": TOKEN}, "text", "github_token"),
    ],
)  # fmt: skip
def test_what_somebody_asks_is_refused_before_it_is_kept(
    make_site: MakeSite, request_: dict[str, Any], field: str, rule: str
) -> None:
    """Whatever the field, the refusal names it; neither the outbox nor the error holds the value."""
    one = make_site("build1")
    before = one.state().tip
    with pytest.raises(SecretRefused) as refused:
        one.ask(request_)
    assert (refused.value.field, refused.value.line, refused.value.rule) == (field, 1, rule)
    assert not any(secret in str(refused.value) for secret in (TOKEN, PLAIN))
    with pytest.raises(SecretRefused):
        one.ledger.enqueue(request_)
    assert one.ledger.store.entries() == []
    assert traces(one, TOKEN) == traces(one, PLAIN) == []
    assert one.state().tip == before


def test_a_configuration_is_looked_through(make_site: MakeSite) -> None:
    """A password deep in the configuration of builds is named by its whole path."""
    config = BuildConfig.model_validate({"build": {"environment": {"DB_PASSWORD": "hunter22"}}})
    with pytest.raises(SecretRefused) as refused:
        make_site("build1").ask({"kind": "config.set", "config": config.model_dump(mode="json")})
    assert refused.value.field == "config.build.environment.DB_PASSWORD"


def test_ordinary_requests_pass_as_they_are(make_site: MakeSite) -> None:
    """Ids, commits, digests and the ledger's tokens in a message arrive unchanged."""
    one = make_site("build1")
    token = f"1.17.{'0192f7a41b7c7d0e9f3a5b6c7d8e9f01'}"
    body = f"{COMMIT} is built, token: {token}\n`invoke lock.break builder/build2 --token {token}`"
    (id,) = messages.send(one, ["build2"], "the password is in the vault", body)
    assert messages.show(one, id).body == body


def test_a_report_is_masked_and_not_refused(make_site: MakeSite) -> None:
    """What a build printed ends up in its failure without the secret; the report arrives all the same."""
    one = make_site("build1")
    token = start(one, "job_a")
    failure = {"class": "dependency", "message": f"401 for https://ci:{TOKEN}@repo.example.org/x.pom"}
    one.ask({**complete("job_a", token), "outcome": "failed", "failure": failure})
    job = queue.show(one, "job_a")
    assert job.failure is not None
    assert job.failure.message == "401 for https://ci:*****@repo.example.org/x.pom"
    assert (job.failure.failure_class, job.token) == ("dependency", token)
    assert traces(one, TOKEN) == []


def test_a_report_that_was_kept_is_masked_when_it_is_sent(make_site: MakeSite) -> None:
    """A completion that a dead process left goes the same way as one that is sent at once."""
    one = make_site("build1")
    keep(one, "job_a", start(one, "job_a"))
    die(one)
    back = make_site("build1", "p2")
    assert recover(back).reported == ["job_a"]


def test_an_address_with_a_password_is_not_ordered_elsewhere(make_site: MakeSite) -> None:
    """Another builder would read it in the ledger: refused, and the address is named without the password."""
    order = Order(branch="b", on="build2", source="https://me:sekret@127.0.0.1:1/x.git")
    with pytest.raises(SecretRefused) as refused:
        build(make_site("build1"), order)
    assert refused.value.field == "source"
    assert "https://127.0.0.1:1/x.git" in str(refused.value)
    assert "sekret" not in str(refused.value)
