"""Checks of what a source tree needs: declared and undeclared tools, the UI's modules, Maven's artifacts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.builds import debcontrol, maven_settings, poms, resolution, toolchain
from pipeline.builds.checks import Check, Subject
from pipeline.builds.debcontrol import Clause
from pipeline.builds.poms import Reactor, Repository
from pipeline.builds.resolution import Resolution
from pipeline.errors import ConfigInvalid

#: How many artifacts a message names.
_SHOWN: Final = 6

#: Programs that a build may call without declaring them, and the package of each.
TOOLS: Final = {
    "wget": "wget",
    "curl": "curl",
    "jq": "jq",
    "npm": "npm",
    "git": "git",
    "bzip2": "bzip2",
    "genisoimage": "genisoimage",
    "lsb_release": "lsb-release",
    "dch": "devscripts",
    "rsync": "rsync",
    "unzip": "unzip",
    "zip": "zip",
    "xz": "xz-utils",
}
#: Packages that a build declares and does without: all 8 DEBs were made without any of them. The packaging
#: is started with `-d`, so that they need not even be pretended.
NOT_NEEDED: Final = frozenset(
    [
        "python",
        "python2",
        "python-setuptools",
        "python-mysql.connector",
        "python3-mysql.connector",
        "mysql-connector-python-py3",
        "dh-systemd",
    ]
)
#: Declared packages for which a program that is there in another way will do as well.
_PROGRAM_FOR: Final = {"nodejs": "node", "maven": "mvn", "maven3": "mvn", "python3": "python3", "npm": "npm"}
#: Modules of npm that have no binary for these Nodes and are compiled by the node-gyp of the lock file.
_COMPILED_FROM_NODE: Final = {"deasync": 18}
_GYP_FAILS_FROM_NODE: Final = 20
_GYP_FAILS_FROM_PYTHON: Final = (3, 11)


def _needs_node(subject: Subject) -> bool:
    return (
        subject.recipe.packages and subject.tree.has("ui/package.json") and _mentions(_rules(subject), "npm")
    )


def check_node(subject: Subject) -> Iterator[Check]:
    """Node and npm, where the tree has a UI that the packaging builds."""
    if not _needs_node(subject):
        return
    own = subject.recipe.substitutes.node_version
    node = own or subject.found.toolchain.node
    if node is None:
        yield Check("node", False, "the UI needs Node", "Install nodejs and npm.", ("nodejs", "npm"))
    elif subject.found.toolchain.npm is None:
        yield Check("node", False, "the UI needs npm", "Install npm.", ("npm",))
    else:
        yield Check("node", True, f"Node {node}, npm {subject.found.toolchain.npm}")


def check_build_depends(subject: Subject) -> Iterator[Check]:
    """What debian/control says the build needs."""
    if not subject.recipe.packages:
        return
    control = subject.tree.read("debian/control")
    if control is None or not subject.tree.has("debian/rules"):
        remedy = "Build with --no-packages, or another branch."
        yield Check("build-depends", False, "the tree has no debian/control and debian/rules", remedy)
        return
    clauses = debcontrol.build_depends(control.decode(errors="replace"), subject.architecture)
    unmet = [one for one in clauses if not _is_met(one, subject)]
    waived = [one for one in unmet if {alt.package for alt in one.alternatives} <= NOT_NEEDED]
    needed = [one for one in unmet if one not in waived]
    if needed:
        packages = tuple(one.alternatives[0].package for one in needed if one.alternatives)
        message = "unmet: " + "; ".join(one.text for one in needed)
        yield Check("build-depends", False, message, f"Install {' '.join(packages)}.", packages)
    else:
        note = f"; declared, but not needed: {'; '.join(one.text for one in waived)}" if waived else ""
        yield Check("build-depends", True, f"{len(clauses) - len(waived)} met{note}")


def _is_met(clause: Clause, subject: Subject) -> bool:
    if subject.installed.satisfies(clause):
        return True
    names = [alternative.package for alternative in clause.alternatives]
    if subject.recipe.substitutes.node_version and "nodejs" in names:
        return True
    if any(re.search(r"openjdk|jdk|java\d+-sdk|zulu", name) for name in names):
        return bool(subject.found.toolchain.java)
    return any(_PROGRAM_FOR.get(name) in subject.found.programs for name in names)


def check_tools(subject: Subject) -> Iterator[Check]:
    """Programs that debian/rules calls without declaring them."""
    rules = _rules(subject) if subject.recipe.packages else ""
    called = [name for name in TOOLS if _mentions(rules, name)]
    # A stand-in takes their place, and refuses what they would be needed for.
    stood_in = {"wget", "curl"} if subject.recipe.substitutes.refuse_unpinned else set()
    missing = [
        name
        for name in called
        if name not in stood_in and shutil.which(name, path=subject.found.path) is None
    ]
    if missing:
        packages = tuple(TOOLS[name] for name in missing)
        message = f"debian/rules calls {', '.join(missing)}"
        yield Check("tools", False, message, f"Install {' '.join(packages)}.", packages)
    elif called:
        yield Check("tools", True, ", ".join(called))


def _rules(subject: Subject) -> str:
    data = subject.tree.read("debian/rules")
    lines = (data or b"").decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _mentions(text: str, program: str) -> bool:
    """Says whether a text calls a program: the word where a shell would take it for a command."""
    before = r"(?:^\s*[@-]*|[;|&(`]\s*|\$\(shell\s+)(?:/usr/bin/)?"
    return re.search(rf"{before}{re.escape(program)}(?=[\s;|&)`]|$)", text, re.MULTILINE) is not None


def check_npm_modules(subject: Subject) -> Iterator[Check]:
    """A Node and a Python with which the UI's native modules can be built."""
    if not _needs_node(subject) or "--ignore-scripts" in subject.recipe.substitutes.npm_install_arguments:
        return
    node = toolchain.major(subject.recipe.substitutes.node_version or subject.found.toolchain.node)
    compiled = [
        f"{name} {version}"
        for name, version in locked_modules(subject.tree.read("ui/package-lock.json") or b"").items()
        if node is not None and node >= _COMPILED_FROM_NODE.get(name, 10_000)
    ]
    python = tuple(int(part) for part in re.findall(r"\d+", subject.found.toolchain.python or "")[:2])
    reasons = [
        *([f"Node {node}"] if node is not None and node >= _GYP_FAILS_FROM_NODE else []),
        *([f"Python {subject.found.toolchain.python}"] if python >= _GYP_FAILS_FROM_PYTHON else []),
    ]
    if compiled and reasons:
        message = (
            f"{', '.join(compiled)} has no binary for Node {node}, and cannot be compiled with "
            f"{' and '.join(reasons)}: the build would fail in `npm install`, after Maven"
        )
        remedy = (
            'Set `substitutes.npm_install_arguments` to ["--ignore-scripts"] (as the recipe '
            "cloudstack-mirrored does), or use Node 18 with a Python before 3.11."
        )
        yield Check("npm-modules", False, message, remedy)


def locked_modules(lock: bytes) -> dict[str, str]:
    """Returns name and version of every module of a package-lock.json that has to be compiled at times."""
    try:
        parsed: Any = json.loads(lock) if lock else {}
    except (ValueError, RecursionError):
        return {}
    rows = parsed.get("packages") or parsed.get("dependencies") if isinstance(parsed, dict) else None
    found = {}
    for path, facts in rows.items() if isinstance(rows, dict) else ():
        name = path.rpartition("node_modules/")[2]
        if name in _COMPILED_FROM_NODE and isinstance(facts, dict):
            found[name] = str(facts.get("version", "?"))
    return found


def check_dependencies(subject: Subject) -> Iterator[Check]:
    """Artifacts that neither this machine nor a repository has: Maven would stop at them, at last."""
    recipe = subject.recipe
    properties = {**recipe.properties, **recipe.substitutes.properties}
    reactor = poms.read_reactor(subject.tree, recipe.profiles, properties)
    if not reactor.modules:
        message = "; ".join(reactor.unreadable) or "there is no pom.xml"
        yield Check("reactor", False, message, "Is this the branch that you meant?")
        return
    yield Check("reactor", True, f"{len(reactor.modules)} modules")
    repositories, problem = _repositories(subject, reactor)
    if problem is not None:
        yield problem
        return
    found = resolution.resolve(
        reactor.dependencies,
        repositories,
        subject.local,
        {jar.coordinates for jar in recipe.substitutes.jars},
        memory=subject.memory,
        head=subject.head,
    )
    yield _dependency_check(found, len(reactor.dependencies), mirrored=recipe.substitutes.mirror_central)


def _repositories(subject: Subject, reactor: Reactor) -> tuple[list[Repository], Check | None]:
    """Returns the repositories that Maven would ask, or a failed check if their address is not known."""
    home = Path(subject.found.toolchain.maven_home)
    try:
        central = maven_settings.find_mirror(subject.environ, subject.machine_settings, home)
    except ConfigInvalid as exc:
        return [], Check("dependencies", False, exc.message, exc.remedy)
    repository = Repository(central.id, central.url)
    if subject.recipe.substitutes.mirror_central or central.of_all:
        return [repository], None
    return [*reactor.repositories, repository], None


def _dependency_check(found: Resolution, count: int, *, mirrored: bool) -> Check:
    """Puts into words what resolution found."""
    if found.missing:
        shown = [f"{one.coordinates} ({one.declared_in})" for one in found.missing[:_SHOWN]]
        more = len(found.missing) - len(shown)
        message = f"in no repository: {', '.join(shown)}{f' and {more} more' if more else ''}"
        remedy = "Substitute them (`--recipe cloudstack-mirrored` does for CloudStack)."
        return Check("dependencies", False, message, remedy)
    if found.silent:
        names = ", ".join(one.id for one in found.silent)
        message = f"no answer from the repositories that Maven will ask ({names})"
        remedy = "Check the network and its proxy, or name a mirror in ~/.m2/settings.xml."
        if not mirrored:
            remedy = (
                "Set `substitutes.mirror_central` (`--recipe cloudstack-mirrored` does), or open the way."
            )
        return Check("dependencies", False, message, remedy)
    left = f", {len(found.unchecked)} could not be looked up" if found.unchecked else ""
    return Check("dependencies", True, f"{count} artifacts{left}")
