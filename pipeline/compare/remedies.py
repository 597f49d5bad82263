"""The causes that are known, and the setting that removes each for good. A table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Cause(NamedTuple):
    """Why leaves differ, in words, and what to do about it; None where there is no one setting."""

    text: str
    remedy: str | None


_OUTPUT_TIMESTAMP = (
    "-Dproject.build.outputTimestamp=<commit time>; jar ≥ 3.2.0, assembly ≥ 3.2.0, war ≥ 3.3.1, "
    "shade ≥ 3.5.3, remote-resources ≥ 3.3.0; with older plugins times are set afterwards. "
    "Elsewhere: zip -X, jar --date, SOURCE_DATE_EPOCH"
)
_EPOCH = "SOURCE_DATE_EPOCH=<commit time>"

CAUSES: Final[Mapping[str, Cause]] = {
    "zip-times": Cause("times of the entries of zip files or jars", _OUTPUT_TIMESTAMP),
    "tar-times": Cause("times of the entries of tars", "tar --mtime=@$SOURCE_DATE_EPOCH --clamp-mtime"),
    "ar-times": Cause("times of a package's or archive's members", f"{_EPOCH}; ar D for archives"),
    "deb-times": Cause(
        "times of the files of a package", f"{_EPOCH}, from which dpkg-deb takes the latest time of a file"
    ),
    "gzip-header": Cause("time, name or system in a gzip's header", "gzip -n"),
    "compression": Cause(
        "the same content, compressed in another way",
        "one compressor, version and level on both sides: dpkg-deb -Z -z, gzip -9n, xz -T1 -6",
    ),
    "entry-order": Cause(
        "the same entries in another order", "tar --sort=name, sorted lists for zip and jar, LC_ALL=C"
    ),
    "set-order": Cause(
        "the same lines or words in another order",
        "sort before writing; PYTHONHASHSEED=0 for Python, LinkedHashMap or TreeMap in Java",
    ),
    "zip-tool": Cause(
        "another program wrote the zip file", "one version of the program on both sides; zip -X"
    ),
    "java-properties-date": Cause(
        "the date that java.util.Properties writes",
        "SOURCE_DATE_EPOCH with a recent JDK (-Djava.properties.date=…); outputTimestamp for Maven's own",
    ),
    "git-properties": Cause(
        "git.properties holds host, user or time of the build",
        "-Dmaven.gitcommitid.skip=true, or only values of the commit",
    ),
    "jaxb-date": Cause(
        "the date that JAXB writes",
        "xjc -no-header / <noFileHeader>true, or the episode's date set afterwards",
    ),
    "javadoc-date": Cause("the date that javadoc writes", "javadoc -notimestamp"),
    "text-date": Cause("a date or time in a text", f"{_EPOCH}, or no date at all"),
    "binary-date": Cause("a date or time in what is no text", f"{_EPOCH}; -Wdate-time finds __DATE__ in C"),
    "time-zone": Cause("the same time in another time zone", "TZ=UTC"),
    "host": Cause("the name of the machine", "one host name (a UTS namespace), or no host name at all"),
    "user": Cause("the name of the user", "one user name, -Duser.name=…, or none at all"),
    "path": Cause(
        "the folder that was built in",
        "one build path on both sides (a mount namespace); -ffile-prefix-map, -trimpath",
    ),
    "locale": Cause("the locale's way to write numbers or dates", "LC_ALL=C.UTF-8"),
    "encoding": Cause(
        "the same text in another encoding",
        "LC_ALL=C.UTF-8, -Dfile.encoding=UTF-8, project.build.sourceEncoding",
    ),
    "line-endings": Cause("the same lines with other ends", "core.autocrlf=false; one eol in .gitattributes"),
    "random": Cause(
        "something random: suspected, only a second build on one machine can show it",
        "seed it or derive it from the content; for JavaScript a preload through NODE_OPTIONS",
    ),
    "content-hash": Cause(
        "names that hold a hash of the content, which differs",
        "make the content equal: mostly the build path in source maps",
    ),
    "umask": Cause("permissions as the umask left them", "umask 022; install -m, tar --mode"),
    "mode-unknown": Cause(
        "permissions that the packing plugin could not read and wrote as -1", "assembly ≥ 3.2.0"
    ),
    "owner": Cause(
        "owner of the files",
        "tar --owner=0 --group=0 --numeric-owner; dpkg-deb --root-owner-group or fakeroot",
    ),
    "moving-download": Cause(
        "another version of what was downloaded",
        "pin it by version and hash; for CloudStack MAKEFLAGS=CMK_REL=… and "
        "-Dproject.systemvm.template.location=…",
    ),
    "toolchain": Cause("another version of a tool", "the same packages on both sides"),
    "follows": Cause("sums, sizes and padding, which are right on each side for what is inside", None),
}
