"""What doctor finds beside the machine itself: who this is, and whether there is a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.builds import preflight
from pipeline.builds.checks import Check
from pipeline.errors import LedgerUnreachable, PreflightFailed
from pipeline.operations.configuration import explain
from pipeline.operations.doctor import examine, remedies
from pipeline.operations.prepare import preflight_memory
from pipeline.operations.settings import resolve
from pipeline.operations.site import Site
from tests.operations.conftest import MakeSite


def unreachable() -> Site:
    """A site that cannot be opened."""
    raise LedgerUnreachable("No answer.", remedy="Mend the network.")


def test_a_registered_machine_is_told_who_it_is(make_site: MakeSite) -> None:
    """Identity and ledger are found; nothing that depends on a source tree is asked."""
    found = {check.name: check for check in examine(lambda: make_site("build1"), say=print)}
    assert found["identity"].message == "this machine is build1"
    assert found["ledger"].ok
    assert {"java", "maven", "disk", "memory", "clock"} <= set(found)
    assert {"reactor", "build-depends"}.isdisjoint(found)


def test_the_sample_asks_for_as_much_as_the_sample_needs(make_site: MakeSite) -> None:
    """With nothing configured, doctor and config speak of the sample's recipe, not of CloudStack's needs."""
    site = make_site("build1")
    found = {check.name: check for check in examine(lambda: site, say=print)}
    rows = explain(site.settings, "", lambda: site, lambda: "").rows
    shown = {row.name: (row.value, row.origin) for row in rows}
    assert found["disk"].message.endswith(", 1 wanted")
    assert shown["build.minimum_disk_gb"] == ("1", "sample.json")
    assert shown["build.skip_tests"] == ("false", "sample.json")


def test_an_unregistered_machine_is_a_finding(make_site: MakeSite) -> None:
    """A name that the registry does not know fails, with the names that it knows."""
    found = {check.name: check for check in examine(lambda: make_site("build9"), say=print)}
    assert not found["identity"].ok
    assert "build1, build2" in found["identity"].message


def test_a_ledger_out_of_reach_is_a_finding() -> None:
    """What is wrong with the ledger is one finding with its remedy, not an error."""
    (check,) = examine(unreachable, say=print)
    assert (check.name, check.ok, check.remedy) == ("ledger", False, "Mend the network.")


def test_one_command_for_all_that_is_missing() -> None:
    """The packages of all failed checks are one line; without any there is none."""
    checks = [
        Check("java", False, "", None, ("openjdk-17-jdk-headless",)),
        Check("maven", False, "", None, ("maven",)),
        Check("git", True, "", None, ("git",)),
    ]
    assert remedies(checks) == "`invoke doctor --install` installs: maven openjdk-17-jdk-headless"
    assert remedies(checks[2:]) is None


def test_what_the_last_build_missed_is_a_finding(make_site: MakeSite) -> None:
    """Packages that only a source tree asks for are named by doctor too, until they are there."""
    site = make_site("build1")
    checks = [Check("build-depends", False, "", None, ("no-such-package", "bash", "sudo-", "-x", "Y"))]
    preflight.remember(checks, preflight_memory(site))
    found = {check.name: check for check in examine(lambda: site, say=print)}
    assert found["last build"].apt_packages == ("no-such-package",)
    preflight.remember([], preflight_memory(site))
    assert "last build" not in {check.name for check in examine(lambda: site, say=print)}


def test_what_the_last_build_missed_is_installed(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor --install` means what the refusal of a build promised, though it sees no source tree."""
    site = make_site("build1")
    checks = [Check("build-depends", False, "", None, ("no-such-package",))]
    preflight.remember(checks, preflight_memory(site))
    monkeypatch.setenv("PATH", str(tmp_path / "without-apt"))
    with pytest.raises(PreflightFailed) as caught:
        examine(lambda: site, install=True, say=print)
    assert (caught.value.remedy or "").endswith(" no-such-package")


def test_settings_are_shown_without_a_ledger() -> None:
    """`config` shows this machine's own settings even if nothing else can be read, and says why."""
    settings = resolve(Path("/machine/.pipeline"), 'builder = "build1"', {})
    shown = explain(settings, "the checkout", unreachable, lambda: "nowhere")
    assert shown.rows[0].origin == "the checkout"
    assert {row.name for row in shown.rows} >= {"home", "builder", "ledger"}
    assert isinstance(shown.problem, LedgerUnreachable)


def test_settings_of_builds_are_shown_with_the_machines_own(make_site: MakeSite) -> None:
    """With a ledger every setting of builds follows, each with its origin."""
    site = make_site("build1")
    shown = explain(site.settings, "$PIPELINE_HOME", lambda: site, lambda: "$SERVER_ID")
    rows = {row.name: row for row in shown.rows}
    assert shown.problem is None
    assert (rows["this machine is"].value, rows["this machine is"].origin) == ("build1", "$SERVER_ID")
    assert rows["build.profiles"].value == '["systemvm", "developer"]'
    assert all(row.origin for row in shown.rows)
