"""What build tools say when they fail, and what helps: data for `failure`. Add a line here, not code there.

`KINDS` are looked for in every line that is not Maven's INFO. `hint` is a text that such a line surely
holds: searching for it costs a tenth of the pattern, and nearly every line of a log holds none. `rank`
decides which of several is the cause: lower first, then the earlier line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.records.builds import FailureClass as Class


@dataclass(frozen=True)
class Kind:
    """One kind of telling line. `{0}` in the remedy is the pattern's first group."""

    name: str
    failure_class: Class | None
    hint: str
    pattern: re.Pattern[str]
    remedy: str | None = None
    rank: int = 50


REMEDIES = {
    "disk": "Free disk space: `invoke artifacts.prune --keep 3` shows what can go, `df -h` what is full.",
    "memory": "Give the machine more memory, or the build less: -Xmx in `maven_opts`, fewer threads in "
    "`parallel_builds`.",
    "killed": "Kernel and operators kill like this: `dmesg | grep -i 'out of memory'` tells which it was.",
    "crashed": "The program itself crashed: look for hs_err_pid*.log in the job's tree.",
    "test": "Run the module's tests alone: `mvn -pl :{0} -am test`.",
    "check": "Correct what the check names; it runs before anything is compiled.",
}

_MIRROR = (
    "See whether the repository that has it can be reached from here (`invoke doctor`); if not, declare a "
    "substitute in the recipe."
)


def _kind(
    name: str, of: Class | None, hint: str, pattern: str, remedy: str | None = None, rank: int = 50
) -> Kind:
    return Kind(name, of, hint, re.compile(pattern), remedy, rank)


KINDS = (
    _kind("disk", Class.DISK, " left on device", r"No space left on device"),
    _kind("disk", Class.DISK, "quota exceeded", r"Disk quota exceeded"),
    _kind("disk", Class.DISK, "ENOSPC", r"\bENOSPC\b"),
    _kind("memory", Class.TOOLCHAIN, "OutOfMemoryError", r"\bOutOfMemoryError\b", rank=10),
    _kind("memory", Class.TOOLCHAIN, " allocate memory", r"[Cc]annot allocate memory", rank=10),
    _kind("memory", Class.TOOLCHAIN, " out of memory", r"JavaScript heap out of memory", rank=10),
    _kind("memory", Class.TOOLCHAIN, "insufficient memory", r"insufficient memory for the Java", rank=10),
    _kind(
        "killed",
        None,
        "*** [",
        r"\Amake(?:\[\d+\])?: \*\*\* \[[^\]]*\] (Killed|Terminated|Hangup|Interrupt|Aborted|Bus error"
        r"|Segmentation fault|Illegal instruction)",
    ),
    _kind(
        "build-dependencies",
        Class.TOOLCHAIN,
        "Unmet build dep",
        r"Unmet build dependencies: (.*)",
        "Install {0} (`invoke doctor --install`). Where a name no longer exists (python2 and "
        "python-setuptools on Ubuntu 24.04), build dummies of these names with equivs, or pass -d to "
        "dpkg-buildpackage.",
        rank=5,
    ),
    _kind(
        "openssl",
        Class.TOOLCHAIN,
        "0308010C",
        r"error:0308010C",
        "webpack 4 wants old hashes: NODE_OPTIONS has to hold --openssl-legacy-provider.",
        rank=10,
    ),
    _kind(
        "openssl",
        Class.TOOLCHAIN,
        "ERR_OSSL",
        r"ERR_OSSL_EVP_UNSUPPORTED",
        "webpack 4 wants old hashes: NODE_OPTIONS has to hold --openssl-legacy-provider.",
        rank=10,
    ),
    _kind(
        "node-gyp",
        Class.TOOLCHAIN,
        "gyp ",
        r"\bgyp (?:ERR!|error|info it worked)|\bnode-gyp rebuild",
        "A Node module could not be compiled: use Node 18 with a Python up to 3.10, or the substitute "
        '`npm_install_arguments: ["--ignore-scripts"]`.',
        rank=12,
    ),
    _kind(
        "npm-network",
        Class.DEPENDENCY,
        "npm ",
        r"\bnpm (?:ERR!|error) code (E404|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ENETUNREACH"
        r"|ERR_SOCKET_TIMEOUT|EINTEGRITY|ETARGET|ENOVERSIONS|ERESOLVE|E401|E403|E5\d\d)",
        "npm could not get a package ({0}): see whether its registry can be reached (`npm ping`).",
        rank=15,
    ),
    _kind(
        "npm-engine",
        Class.TOOLCHAIN,
        "npm ",
        r"\bnpm (?:ERR!|error) code EBADENGINE",
        "Install the Node that the UI asks for in ui/package.json.",
        rank=15,
    ),
    _kind("npm", Class.PACKAGE, "npm ", r"\bnpm (?:ERR!|error) (?:code|errno) (\S+)", rank=45),
    _kind(
        "refused-download",
        Class.DEPENDENCY,
        " is not pinned",
        r"(\S+) is not pinned by the recipe",
        "Pin {0} in the recipe (`substitutes.downloads`), or set `refuse_unpinned` to false.",
        rank=15,
    ),
    _kind(
        "download",
        Class.DEPENDENCY,
        "wget: ",
        r"\Awget: .*(?:unable|failed|refused|error).*",
        _MIRROR,
        rank=20,
    ),
    _kind(
        "missing-tool",
        Class.TOOLCHAIN,
        "not found",
        r"(?:\A|/)(?:sh|bash|dash|env)(?:\[\d+\])?: (?:line )?(?:\d+: )?(?:exec: )?‘?([\w./+-]+)’?:"
        r" (?:command )?not found",
        "Install {0} (`invoke doctor --install`).",
        rank=20,
    ),
    _kind(
        "missing-tool",
        Class.TOOLCHAIN,
        "No such file",
        r"\A(?:make(?:\[\d+\])?|(?:/usr)?(?:/bin/)?env): ‘?([\w./+-]+)’?: No such file or directory",
        "Install {0} (`invoke doctor --install`).",
        rank=20,
    ),
    _kind(
        "missing-tool",
        Class.TOOLCHAIN,
        "Cannot run program",
        r'Cannot run program "([^"]+)"',
        "Install {0} (`invoke doctor --install`).",
        rank=20,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "release",
        r"invalid target release: (\S+)|release version (\S+) not supported",
        "The tree asks for a newer JDK: install it, or set `java.version`.",
        rank=10,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "class file major",
        r"Unsupported class file major version",
        "A library is newer than this JDK: install the JDK that `java.version` names.",
        rank=10,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "of the Java Runtime",
        r"compiled by a more recent version of the Java Runtime",
        "A library is newer than this JDK: install the JDK that `java.version` names.",
        rank=10,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "ompiler is provided",
        r"No compiler is provided in this environment",
        "This is a JRE: install a JDK (openjdk-17-jdk-headless).",
        rank=10,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "Detected JDK",
        r"Detected JDK version (\S+) .*is not in the allowed range (\S*[\])])",
        "The tree asks for a JDK in the range {1}: set `java.version`, and install that JDK.",
        rank=10,
    ),
    _kind(
        "maven",
        Class.TOOLCHAIN,
        "aven ",
        r"requires Maven version (\S+)|Detected Maven Version: \S+ is not in the allowed range (\S*[\])])",
        "Put a Maven {0}{1} first on PATH; `invoke config` shows which one is used.",
        rank=10,
    ),
    _kind(
        "maven",
        Class.TOOLCHAIN,
        "MavenSession.",
        r"org\.apache\.maven\.execution\.MavenSession\.getContainer\(\)\W* is null",
        "This plugin does not run with Maven 4: put a Maven 3.9 first on PATH.",
        rank=10,
    ),
    _kind(
        "java",
        Class.TOOLCHAIN,
        "JAVA_HOME",
        r"JAVA_HOME (?:environment variable )?is (?:not defined correctly|not set|set to an invalid)",
        "Set `java.home` to a JDK, or leave it empty to have one found.",
        rank=10,
    ),
    _kind(
        "dependency",
        Class.DEPENDENCY,
        "Could not ",
        r"Could not (?:resolve dependencies|find artifact|transfer artifact)",
        _MIRROR,
        rank=25,
    ),
    _kind(
        "dependency",
        Class.DEPENDENCY,
        "Non-resolvable",
        r"Non-resolvable (?:parent|import) POM",
        _MIRROR,
        rank=25,
    ),
    _kind(
        "dependency", Class.DEPENDENCY, "could not be resolved", r"could not be resolved", _MIRROR, rank=25
    ),
    _kind("dependency", Class.DEPENDENCY, "No plugin found", r"No plugin found for prefix", _MIRROR, rank=25),
    _kind("pom", Class.COMPILE, "POM", r"Non-parseable POM (\S+)|Malformed POM (\S+)", rank=26),
    _kind(
        "debhelper",
        Class.PACKAGE,
        ": error: ",
        r"\A(dh\w*|dpkg-[\w-]+): error: (?!debian/rules )(.*)",
        rank=30,
    ),
    _kind("file", Class.PACKAGE, ": cannot ", r"\A(cp|install|mv|ln|mkdir|rm|chmod): cannot .*", rank=30),
    _kind(
        "webpack",
        Class.PACKAGE,
        "ERROR ",
        r"\A ?ERROR  ?(?:Failed to compile|Build failed|Error:|in )",
        rank=30,
    ),
    _kind("python", Class.PACKAGE, "Error: ", r"\A(?:ModuleNotFound|Import|Syntax)Error: .*", rank=35),
    _kind(
        "make",
        Class.PACKAGE,
        "*** [",
        r"\Amake(?:\[\d+\])?: \*\*\* \[(?:(\S+?):(\d+): )?([^\]]+)\] Error (\d+)",
        rank=60,
    ),
)

#: Remedies that follow from the text of the error itself, more exact than those of its kind.
SIGNATURES = (
    (
        r"SFTPv3Client[\s\S]*_stat|_stat[\s\S]*SFTPv3Client",
        "The trilead-ssh2 jar lacks SFTPv3Client._stat: use org.jvnet.hudson:trilead-ssh2:build212-hudson-6 "
        "as the substitute for org.jenkins-ci:trilead-ssh2, not com.trilead:trilead-ssh2.",
    ),
    (
        r"org\.jenkins-ci:trilead-ssh2",
        "It is not on Maven Central: declare org.jvnet.hudson:trilead-ssh2:build212-hudson-6 as its "
        "substitute in the recipe.",
    ),
    (
        r"org\.opensaml:opensaml",
        "2.6.6 is not on Maven Central: the substitute property cs.opensaml.version=2.6.4 is.",
    ),
    (
        r"(?:python-setuptools|python2|python \(>= 2)",
        "Ubuntu 24.04 has neither python2 nor python-setuptools: build dummies of both names with equivs, or "
        "pass -d to dpkg-buildpackage (the pipeline does).",
    ),
    (
        r"systemvm\.template|md5sum\.txt|templateConfig\.sh",
        "engine/schema downloads the template's checksums: pin them in the recipe "
        "(`project.systemvm.template.location`).",
    ),
    (
        r"git-commit-id-plugin|Missing unknown [0-9a-f]{40}",
        "The plugin cannot read this repository: set the property maven.gitcommitid.skip=true.",
    ),
    (
        r"terminated without (?:properly )?saying",
        "The tests' own JVM died: see *.dumpstream in the module, and whether memory ran out.",
    ),
    (
        r"Unknown host|Name or service not known|Temporary failure in name resolution|Network is unreachable"
        r"|Connection (?:refused|timed out)",
        "The network does not reach the repository: check it with `invoke doctor`, then run the build again.",
    ),
)
