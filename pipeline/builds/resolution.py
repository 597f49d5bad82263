"""Finds, before Maven runs, the artifacts that Maven will not get.

An artifact is looked for in the local repository, among the substitutes, and then by a HEAD request in the
repositories that Maven would ask: the one mirror, or those that the poms declare and Central. What was found
once is remembered by the digest of the repositories' addresses. A repository that gives no answer decides
nothing about an artifact, but Maven stops at it, so it is reported by itself.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.builds.poms import Dependency, Repository
from pipeline.edge.plain_file import read_plain
from pipeline.errors import RecordInvalid
from pipeline.records.base import load_json

if TYPE_CHECKING:
    import ssl

#: The answer to a HEAD request: its HTTP status, or 0 where none came.
Head = Callable[[str], int]

_THREADS: Final = 16
_REQUEST_SECONDS: Final = 6.0
#: How long all requests may take together; what is left then stays unchecked.
DEADLINE_SECONDS: Final = 20.0
#: Only these say that an artifact is not there; 401 and 403 may only want the credentials that Maven has.
_GONE: Final = (404, 410)


@dataclass(frozen=True)
class Resolution:
    """What was found out. `silent` are repositories without an answer, `unchecked` artifacts left open."""

    missing: tuple[Dependency, ...] = ()
    silent: tuple[Repository, ...] = ()
    unchecked: tuple[Dependency, ...] = ()
    asked: int = 0


def http_head(url: str) -> int:
    """Asks for a URL's header. Follows redirects and the proxies of the environment.

    A file of this machine that is there counts as found. What is no address gives no answer.
    """
    # Here and below: HTTP and TLS take 15 ms to import, and a machine with a full cache asks nobody.
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "cloudstack-build-pipeline"}
    try:
        request = urllib.request.Request(url, method="HEAD", headers=headers)
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS, context=_tls()) as reply:
            return int(reply.status or 200)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code
    except (OSError, ValueError, http.client.HTTPException):
        return 0


@functools.cache
def _tls() -> ssl.SSLContext:
    import ssl

    # Reading the machine's certificates takes longer than a request.
    return ssl.create_default_context()


def resolve(
    dependencies: Sequence[Dependency],
    repositories: Sequence[Repository],
    local: Sequence[Path],
    substituted: Collection[str],
    *,
    memory: Path | None = None,
    head: Head = http_head,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Resolution:
    """Looks for every artifact. `local` are Maven repositories on disk, `substituted` coordinates.

    `memory` is a folder in which what was found is remembered; what was not found is asked again.
    """
    absent = [
        dependency
        for dependency in dependencies
        if dependency.coordinates not in substituted
        and not any(_is_there(folder, dependency) for folder in local)
    ]
    if not absent:
        return Resolution()
    remembered = _Memory(memory, repositories)
    answering, silent = _probe(repositories, absent[0], head)
    if not answering:
        return Resolution(silent=tuple(silent), unchecked=tuple(absent))
    asked = [dependency for dependency in absent if dependency.coordinates not in remembered.found]
    answers = _look_all(asked, answering, head, deadline_seconds)
    remembered.add(found.coordinates for found, answer in zip(asked, answers, strict=True) if answer)
    return Resolution(
        missing=tuple(one for one, answer in zip(asked, answers, strict=True) if answer is False),
        silent=tuple(silent),
        unchecked=tuple(one for one, answer in zip(asked, answers, strict=True) if answer is None),
        asked=len(asked),
    )


def _is_there(repository: Path, dependency: Dependency) -> bool:
    """Says whether a repository on disk has an artifact, or a pom that says where it has moved."""
    if (repository / dependency.path()).is_file():
        return True
    try:
        return b"<relocation>" in (repository / dependency.path("pom")).read_bytes()
    except OSError:
        return False


def _probe(
    repositories: Sequence[Repository], sample: Dependency, head: Head
) -> tuple[list[Repository], list[Repository]]:
    """Tells the repositories that answer from those that do not, with one request each."""
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(pool.map(lambda one: head(f"{one.url}/{sample.path('pom')}"), repositories))
    pairs = list(zip(repositories, answers, strict=True))
    return [one for one, status in pairs if status], [one for one, status in pairs if not status]


def _look_all(
    dependencies: Sequence[Dependency], repositories: Sequence[Repository], head: Head, seconds: float
) -> list[bool | None]:
    """Looks for all of them at the same time; what is not answered in time stays open."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        asked = [pool.submit(_look, dependency, repositories, head) for dependency in dependencies]
        done, _ = wait(asked, timeout=seconds)
        return [one.result() if one in done else None for one in asked]
    finally:
        # A request that is under way ends by its own time limit; nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)


def _look(dependency: Dependency, repositories: Sequence[Repository], head: Head) -> bool | None:
    """Says whether a repository has the artifact; None where that stayed open."""
    open_ = False
    for repository in repositories:
        status = head(f"{repository.url}/{dependency.path('pom')}")
        if 200 <= status < 400:
            return True
        open_ = open_ or status not in _GONE
    return None if open_ else False


class _Memory:
    """Coordinates that were found once in these repositories. Losing it costs a few requests."""

    def __init__(self, folder: Path | None, repositories: Sequence[Repository]) -> None:
        self._path: Path | None = None
        self.found: set[str] = set()
        if folder is None:
            return
        key = hashlib.sha256("\n".join(sorted(one.url for one in repositories)).encode()).hexdigest()[:20]
        self._path = folder / f"resolved-{key}.json"
        try:
            known = load_json(read_plain(self._path), self._path.name)
        except (OSError, RecordInvalid):
            return
        if isinstance(known, list):
            self.found = {name for name in known if isinstance(name, str)}

    def add(self, coordinates: Iterable[str]) -> None:
        """Remembers more of them; a failure to write is no failure of the check."""
        before = len(self.found)
        self.found.update(coordinates)
        if self._path is None or len(self.found) == before:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump(sorted(self.found), file)
            Path(file.name).replace(self._path)
        except OSError:
            return
