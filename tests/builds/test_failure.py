from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.builds.failure import Clues, Ending, classify
from pipeline.builds.signatures import KINDS, Kind
from pipeline.records.builds import Failure, FailureClass, ModuleTime

TREE = "/media/build/cloudstack"
MODULES = [
    ModuleTime(name="Apache CloudStack Utils", artifact="cloud-utils"),
    ModuleTime(
        name="Apache CloudStack Plugin - Hypervisor Xen",
        artifact="cloud-plugin-hypervisor-xenserver",
        status="failed",
    ),
    ModuleTime(name="Apache CloudStack Server", artifact="cloud-server", status="skipped"),
]


def _classify(
    log: str,
    stage: Literal["maven", "packages"] = "maven",
    *,
    exit_status: int | None = 2,
    killed_by: int | None = None,
    reason: str | None = None,
    oom_kills: int = 0,
) -> Failure:
    clues = Clues(stage=stage)
    for number, line in enumerate(log.splitlines(), 1):
        clues.feed(number, line)
    ending = Ending(stage, exit_status, killed_by, reason, oom_kills)
    return classify(ending, clues, MODULES, tree=(TREE,))


COMPILE = f"""\
[INFO] Compiling 12 source files with javac [debug release 17] to target/classes
[INFO] -------------------------------------------------------------
[ERROR] COMPILATION ERROR :
[INFO] -------------------------------------------------------------
[ERROR] {TREE}/plugins/hypervisors/xenserver/src/main/java/com/x/Citrix.java:[210,30] cannot find symbol
  symbol:   method _stat(java.lang.String)
  location: variable client of type com.trilead.ssh2.SFTPv3Client
[ERROR] {TREE}/plugins/hypervisors/xenserver/src/main/java/com/x/Other.java:[1,1] another
[INFO] 2 errors
[INFO] BUILD FAILURE
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.13.0:compile (default) \
on project cloud-plugin-hypervisor-xenserver: Compilation failure: Compilation failure:
[ERROR] {TREE}/plugins/hypervisors/xenserver/src/main/java/com/x/Citrix.java:[210,30] cannot find symbol
[ERROR]   symbol:   method _stat(java.lang.String)
[ERROR] -> [Help 1]
"""


def test_the_other_trilead_jar_is_recognised() -> None:
    """XenServer's missing `_stat` names module, first error with symbol and line, and the right jar."""
    failure = _classify(COMPILE)
    assert failure.failure_class == FailureClass.COMPILE
    assert failure.module == "Apache CloudStack Plugin - Hypervisor Xen"
    assert failure.message == (
        "plugins/hypervisors/xenserver/src/main/java/com/x/Citrix.java:[210,30] cannot find symbol "
        "(symbol: method _stat(java.lang.String), location: variable client of type "
        "com.trilead.ssh2.SFTPv3Client)"
    )
    assert failure.line == 5
    assert failure.remedy is not None
    assert "org.jvnet.hudson:trilead-ssh2:build212-hudson-6" in failure.remedy


def test_threads_in_front_of_the_level_change_nothing() -> None:
    """A parallel build's lines bear a thread's name and are read all the same."""
    log = "\n".join(
        f"[mvn-builder-x] {line}" if line.startswith("[") else line for line in COMPILE.splitlines()
    )
    assert _classify(log) == _classify(COMPILE)


def test_a_test_failure_names_the_test() -> None:
    """Of surefire's many lines the summary's first is shown, with the way to run that module's tests."""
    failure = _classify("""\
[ERROR] Tests run: 2, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.042 s <<< FAILURE! -- in org.x.T
[ERROR] org.x.ByteSizeTest.writes -- Time elapsed: 0.019 s <<< FAILURE!
org.junit.ComparisonFailure: expected:<1.5 [k]B> but was:<1.5 [Ki]B>
[INFO] Results:
[ERROR] Failures:
[ERROR]   ByteSizeTest.writes:23 expected:<1.5 [k]B> but was:<1.5 [Ki]B>
[INFO]
[ERROR] Tests run: 8, Failures: 1, Errors: 0, Skipped: 0
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:3.2.5:test (default-test) on \
project cloud-utils: There are test failures.
""")
    assert (failure.failure_class, failure.module) == (FailureClass.TEST, "Apache CloudStack Utils")
    assert (failure.message, failure.line) == (
        "ByteSizeTest.writes:23 expected:<1.5 [k]B> but was:<1.5 [Ki]B>",
        6,
    )
    assert failure.remedy == "Run the module's tests alone: `mvn -pl :cloud-utils -am test`."


@pytest.mark.parametrize(
    ("artifact", "in_remedy"),
    [
        ("org.jenkins-ci:trilead-ssh2:jar:build-217-jenkins-27", "build212-hudson-6"),
        ("org.opensaml:opensaml:jar:2.6.6", "cs.opensaml.version=2.6.4"),
        ("invalid.example:nowhere:jar:1.0.0", "substitute in the recipe"),
    ],
)
def test_a_dependency_that_does_not_resolve_is_named(artifact: str, in_remedy: str) -> None:
    """Message: coordinates but not the repository's address. Known ones have their remedy."""
    failure = _classify(f"""\
[WARNING] Could not transfer metadata g:a/maven-metadata.xml from/to x (https://mirror.example/maven2)
[ERROR] Failed to execute goal on project cloud-utils: Could not resolve dependencies for project \
org.apache.cloudstack:cloud-utils:jar:4.21: Could not find artifact {artifact} in central \
(https://mirror.example/maven2) -> [Help 1]
""")
    assert (failure.failure_class, failure.line) == (FailureClass.DEPENDENCY, 2)
    assert failure.message.endswith(f"Could not find artifact {artifact} in central")
    assert failure.remedy is not None
    assert in_remedy in failure.remedy


@pytest.mark.parametrize(
    "line",
    [
        "[ERROR] Plugin org.x:y:1 or one of its dependencies could not be resolved: Could not find org.x:y",
        "[ERROR] [FATAL] Non-resolvable parent POM for org.x:y:1: Could not transfer artifact org.x:z:pom:1",
        "[ERROR] No plugin found for prefix 'nonsense' in the current project",
    ],
)
def test_what_stops_planning_is_a_dependency(line: str) -> None:
    """Before any module starts Maven names no project; the class is known all the same."""
    assert _classify(line).failure_class == FailureClass.DEPENDENCY


def test_checks_are_told_from_compile_errors_by_their_plugin() -> None:
    """A checkstyle violation is a fault of the tree, and its remedy says so."""
    failure = _classify(
        "[ERROR] Failed to execute goal org.apache.maven.plugins:maven-checkstyle-plugin:3.1.0:check (x) "
        "on project cloud-utils: You have 3 Checkstyle violations. -> [Help 1]"
    )
    assert (failure.failure_class, failure.module) == (FailureClass.COMPILE, "Apache CloudStack Utils")
    assert failure.message.endswith("You have 3 Checkstyle violations.")


def test_any_other_goal_is_quoted() -> None:
    """A plugin that is not known is named with what it said; the class is honestly unknown."""
    failure = _classify(
        "[ERROR] Failed to execute goal pl.project13.maven:git-commit-id-plugin:4.9.10:revision (x) on "
        "project cloud-server: Could not complete Mojo execution... Error: Missing unknown "
        + "a" * 40
        + " -> [Help 1]"
    )
    assert (failure.failure_class, failure.module) == (FailureClass.UNKNOWN, "Apache CloudStack Server")
    assert failure.remedy is not None
    assert "maven.gitcommitid.skip=true" in failure.remedy


def test_the_first_of_several_failed_goals_counts() -> None:
    """With --fail-at-end several goals fail; the first is shown."""
    goal = "[ERROR] Failed to execute goal g:maven-compiler-plugin:1:compile (d) on project {}: no"
    failure = _classify("\n".join(goal.format(name) for name in ("cloud-server", "cloud-utils")))
    assert (failure.module, failure.line) == ("Apache CloudStack Server", 1)


# -- what comes from outside, and what explains everything ---------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected", "in_message"),
    [
        ("cancelled: interrupted by SIGINT", FailureClass.CANCELLED, "Cancelled: interrupted by SIGINT."),
        ("cancelled: cancelled by build2: no.", FailureClass.CANCELLED, "Cancelled by build2: no."),
        ("timeout", FailureClass.TIMEOUT, "longer than its timeout"),
        ("disk: 0.4 GiB are left, 1.0 are needed.", FailureClass.DISK, "0.4 GiB are left"),
        ("memory: 100 MiB are left, 256 are needed.", FailureClass.TOOLCHAIN, "100 MiB are left"),
        ("the watchdog was killed", FailureClass.LOST, "the watchdog was killed"),
    ],
)
def test_an_order_from_outside_is_the_cause(reason: str, expected: FailureClass, in_message: str) -> None:
    """Whatever the log says, a build that was ended failed for that reason."""
    failure = _classify(COMPILE, reason=reason, killed_by=15, exit_status=None)
    assert failure.failure_class == expected
    assert in_message in failure.message


def test_the_kernels_memory_killer_is_recognised_by_its_count() -> None:
    """SIGKILL while the kernel's count went up is a want of memory, with a remedy."""
    failure = _classify("", killed_by=9, exit_status=None, oom_kills=1)
    assert failure.failure_class == FailureClass.TOOLCHAIN
    assert "out-of-memory" in failure.message
    assert failure.remedy is not None
    assert "-Xmx" in failure.remedy


@pytest.mark.parametrize(
    ("killed_by", "exit_status", "log", "name"),
    [
        (9, None, "", "SIGKILL"),
        (None, 137, "", "SIGKILL"),
        (None, 2, "make[1]: *** [debian/rules:17: override_dh_auto_build] Killed", "SIGKILL"),
        (
            None,
            2,
            "make[1]: *** [debian/rules:17: override_dh_auto_build] Segmentation fault (core dumped)",
            "SIGSEGV",
        ),
        (15, None, "", "SIGTERM"),
        (None, 143, "", "SIGTERM"),
    ],
)
def test_a_signal_is_said_by_name(
    killed_by: int | None, exit_status: int | None, log: str, name: str
) -> None:
    """Maven killed alone: the build failed, and the signal is named."""
    failure = _classify(log, killed_by=killed_by, exit_status=exit_status)
    assert failure.message.startswith(f"Maven was ended by {name}")


def test_a_full_disk_explains_what_follows() -> None:
    """Compile errors after `No space left on device` are fallout."""
    failure = _classify("javac: error writing x: No space left on device\n" + COMPILE)
    assert (failure.failure_class, failure.line) == (FailureClass.DISK, 1)


def test_an_old_memory_error_is_not_the_cause() -> None:
    """A test that provokes OutOfMemoryError long before the failure is not what failed."""
    failure = _classify("java.lang.OutOfMemoryError: provoked\n" + "\n" * 1000 + COMPILE)
    assert failure.failure_class == FailureClass.COMPILE


# -- packaging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "expected", "in_message", "in_remedy"),
    [
        (
            "dpkg-checkbuilddeps: error: Unmet build dependencies: python | python2 python-setuptools",
            FailureClass.TOOLCHAIN,
            "python-setuptools",
            "equivs",
        ),
        ("sh: 1: genisoimage: not found", FailureClass.TOOLCHAIN, "genisoimage", "Install genisoimage"),
        ("/bin/sh: 1: mvn: not found", FailureClass.TOOLCHAIN, "mvn", "Install mvn"),
        ("make[1]: mvn: No such file or directory", FailureClass.TOOLCHAIN, "mvn", "Install mvn"),
        ("npm ERR! code ENOTFOUND", FailureClass.DEPENDENCY, "ENOTFOUND", "registry"),
        ("npm error code E404", FailureClass.DEPENDENCY, "E404", "registry"),
        ("npm ERR! gyp ERR! stack Error: `make` failed", FailureClass.TOOLCHAIN, "gyp", "--ignore-scripts"),
        (
            "Error: error:0308010C:digital envelope routines",
            FailureClass.TOOLCHAIN,
            "0308010C",
            "openssl-legacy",
        ),
        ("npm ERR! code ELIFECYCLE", FailureClass.PACKAGE, "ELIFECYCLE", None),
        (
            "cp: cannot stat 'engine/schema/dist/x': No such file",
            FailureClass.PACKAGE,
            "engine/schema/dist",
            None,
        ),
        ("dh_install: error: missing files, aborting", FailureClass.PACKAGE, "missing files", None),
        ("dpkg-deb: error: parsing file 'x'", FailureClass.PACKAGE, "parsing file", None),
        (
            "wget: https://x.example/y is not pinned by the recipe, and it refuses",
            FailureClass.DEPENDENCY,
            "wget",
            "Pin",
        ),
        (
            "FATAL ERROR: Reached heap limit - JavaScript heap out of memory",
            FailureClass.TOOLCHAIN,
            "heap",
            "memory",
        ),
        ("tar: x: Cannot write: No space left on device", FailureClass.DISK, "No space left", "Free disk"),
        (
            "make[1]: *** [debian/rules:28: override_dh_auto_install] Error 1",
            FailureClass.PACKAGE,
            "override_dh_auto_install",
            None,
        ),
        ("nothing that is known", FailureClass.UNKNOWN, "exit status 2", None),
    ],
)
def test_packaging_failures(log: str, expected: FailureClass, in_message: str, in_remedy: str | None) -> None:
    """Each has its class, its line in the message, its remedy where one is known; fallout does not count."""
    fallout = "\nmake: *** [debian/rules:10: binary] Error 2\ndpkg-buildpackage: error: debian/rules binary"
    failure = _classify(log + fallout * (expected is not FailureClass.UNKNOWN), "packages")
    assert failure.failure_class == expected
    assert in_message in failure.message
    assert failure.module is None
    if in_remedy is not None:
        assert failure.remedy is not None
        assert in_remedy in failure.remedy


_PLUGINS = "org.apache.maven.plugins:maven"
_GOAL = "[ERROR] Failed to execute goal {} on project cloud-server: "


@pytest.mark.parametrize(
    ("log", "in_message", "in_remedy"),
    [
        (
            _GOAL.format(f"{_PLUGINS}-clean-plugin:4.0.0-beta-2:clean (default-cli)")
            + f"The plugin {_PLUGINS}-clean-plugin:4.0.0-beta-2 requires Maven version 4.0.0",
            "requires Maven version 4.0.0",
            "Put a Maven 4.0.0 first on PATH",
        ),
        (
            _GOAL.format(f"{_PLUGINS}-enforcer-plugin:3.4.1:enforce (default)")
            + "\n[ERROR] Rule 0: org.apache.maven.enforcer.rules.version.RequireMavenVersion failed"
            "\n[ERROR] Detected Maven Version: 3.8.7 is not in the allowed range [3.9,).",
            "Detected Maven Version: 3.8.7",
            "Put a Maven [3.9,) first on PATH",
        ),
        (
            _GOAL.format(f"{_PLUGINS}-enforcer-plugin:3.4.1:enforce (default)")
            + "\n[ERROR] Detected JDK version 17.0.15 (JAVA_HOME=/x) is not in the allowed range [21,).",
            "Detected JDK version 17.0.15",
            "a JDK in the range [21,)",
        ),
        (
            _GOAL.format("org.codehaus.mojo:exec-maven-plugin:3.1.1:exec (package)")
            + 'failed: Cannot invoke "org.codehaus.plexus.PlexusContainer.lookup(String)" because the return '
            'value of "org.apache.maven.execution.MavenSession.getContainer()" is null -> [Help 1]',
            "exec-maven-plugin:3.1.1",
            "does not run with Maven 4",
        ),
    ],
)
def test_a_maven_or_a_jdk_that_the_tree_refuses(log: str, in_message: str, in_remedy: str) -> None:
    """A version that a plugin or a rule of the tree refuses is the toolchain's, and the remedy names one."""
    failure = _classify(log)
    assert failure.failure_class == FailureClass.TOOLCHAIN
    assert failure.module == "Apache CloudStack Server"
    assert in_message in failure.message
    assert failure.remedy is not None
    assert in_remedy in failure.remedy


def test_what_maven_warned_of_is_not_the_packagings_failure() -> None:
    """Clues of the stage that came through are not held against the next one."""
    clues = Clues()
    clues.feed(1, "[ERROR] Could not find artifact that is optional")
    clues.feed(2, "sh: 1: tput: not found")
    clues.stage = "packages"
    clues.feed(3, "make[1]: *** [debian/rules:28: override_dh_auto_install] Error 1")
    failure = classify(Ending("packages", 2), clues, MODULES)
    assert (failure.failure_class, failure.line) == (FailureClass.PACKAGE, 3)


def test_without_any_clue_mavens_first_error_is_quoted() -> None:
    """An error that is not known is shown as it is."""
    failure = _classify("[INFO] x\n[ERROR] Unable to parse command line options: -Z\n[ERROR] again")
    assert (failure.failure_class, failure.message, failure.line) == (
        FailureClass.UNKNOWN,
        "Unable to parse command line options: -Z",
        2,
    )


# -- anything may come ---------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *COMPILE.splitlines(),
        *(kind.hint for kind in KINDS),
        "[ERROR] Failures:",
        "[ERROR] ",
        "[INFO] x",
        "make: *** [",
    ]
)


@given(
    st.lists(PIECES | st.text() | st.tuples(PIECES, st.text()).map("".join), max_size=40),
    st.sampled_from(["maven", "packages"]),
    st.none() | st.integers(0, 255),
    st.none() | st.integers(1, 80),
    st.none() | st.text(),
)
def test_any_log_has_an_answer(
    lines: list[str],
    stage: Literal["maven", "packages"],
    exit_status: int | None,
    killed_by: int | None,
    reason: str | None,
) -> None:
    """Whatever is printed, there is one class, and one message of one line and bounded length."""
    clues = Clues(stage=stage)
    for number, line in enumerate(lines, 1):
        clues.feed(number, line)
    failure = classify(Ending(stage, exit_status, killed_by, reason, 0), clues, MODULES, tree=(TREE,))
    assert failure.failure_class in set(FailureClass)
    assert "\n" not in failure.message
    assert len(failure.message) <= 500
    assert failure.line is None or 1 <= failure.line <= len(lines)


@given(st.lists(st.text(), max_size=200))
def test_clues_take_constant_memory(lines: list[str]) -> None:
    """However long the log, at most one clue is kept of each kind and stage."""
    clues = Clues()
    for number, line in enumerate([*lines, *COMPILE.splitlines() * 30], 1):
        clues.feed(number, line)
    assert len(clues.first) <= len(KINDS) + 2
    assert len(clues.goals) <= 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_hint_hides_no_match(kind: Kind) -> None:
    """The hint is only a quicker way to say that the pattern cannot match."""

    @given(st.from_regex(kind.pattern))
    @settings(max_examples=15)
    def check(text: str) -> None:
        assert kind.hint in text

    check()
