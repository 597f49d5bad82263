"""The only place where concrete classes are put together. What only comparing needs is in `comparison`."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.coordination.adoption import adopt
from pipeline.coordination.leases import RENEWAL_SHARE, interval_for_budget
from pipeline.coordination.reducer import REDUCER_VERSION, decide, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.children import SystemChildren
from pipeline.edge.clock import SystemClock
from pipeline.edge.credentials import split_url
from pipeline.edge.git_objects import TreeView, parse_commit
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemProcesses, SystemRandomness, expanded, machine_id, user_home
from pipeline.edge.plain_file import read_plain
from pipeline.edge.signatures import SshSigner, SshVerifier
from pipeline.errors import (
    ConfigInvalid,
    FileFailed,
    IdentityUnknown,
    LedgerError,
    LedgerMissing,
    NotALedger,
    PipelineError,
    RecordInvalid,
    UsageError,
)
from pipeline.ledger.genesis import initialise
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.operations import site as sites
from pipeline.operations.admission import admit
from pipeline.operations.attest import attest_built
from pipeline.operations.demo.perform import Theatre
from pipeline.operations.secret import commits_first, seal
from pipeline.operations.settings import LocalSettings, masked, resolve
from pipeline.operations.site import Site
from pipeline.operations.trust import Trust
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from pipeline.records.names import check_name
from pipeline.records.statements import Kind

if TYPE_CHECKING:
    pass

_MOVED = (
    "The outbox {folder} comes from another machine. It goes on as another writer; nothing is lost or done"
    " twice. If that machine is still in use, only one of the two may be called {name}."
)
EMBEDDED_BUILDERS = ("build1", "build2")
_SETTINGS_BYTES = 1 << 20
#: One git command is waited for as long as `patience_seconds` says, between these.
_LEAST_PATIENCE, _LONGEST_PATIENCE = 10.0, 60.0


@dataclass(frozen=True)
class Found:
    """Something that had to be looked for: what it is, and where it was found, in words."""

    value: Any
    origin: str


def make_trust(folder: str = "", root_key: str = "") -> Trust:
    """Returns what this machine believes: by its settings, or by a folder of policy and a root key's file.

    Raises ConfigInvalid, UsageError.
    """
    settings = read_settings()
    key = settings.root_key
    if root_key:
        try:
            key = read_plain(expanded(root_key), limit=_SETTINGS_BYTES, follow=True).decode(errors="replace")
        except OSError as exc:
            raise UsageError(f"`{root_key}` cannot be read: {exc.strerror}.") from exc
    return Trust(expanded(folder) if folder else settings.policy, key, SshVerifier())


def make_signer(place: str, option: str) -> SshSigner:
    """Returns a key to sign with, by its file. `option` is where it was to be named."""
    if not place:
        raise UsageError(f"Sign with which key? {option} names none.", remedy="Name its file.")
    return SshSigner(expanded(place))


def find_home(environment: Mapping[str, str], folder: Path) -> Found:
    """Returns where this machine keeps its part: $PIPELINE_HOME, the nearest `.pipeline`, or a new one.

    A new one lies in the checkout that this package runs from, or under the user's data directory.
    """
    if environment.get("PIPELINE_HOME"):
        return Found(expanded(environment["PIPELINE_HOME"]).absolute(), "$PIPELINE_HOME")
    for place in (folder, *folder.parents):
        if (place / ".pipeline").is_dir():
            return Found(place / ".pipeline", "the nearest .pipeline")
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "tasks.py").exists():
        return Found(checkout / ".pipeline", "the checkout")
    data = environment.get("XDG_DATA_HOME") or str(user_home() / ".local/share")
    return Found(Path(data) / "cloudstack-build-pipeline", "the user's data directory")


def read_settings() -> LocalSettings:
    """Reads this machine's settings. Raises ConfigInvalid."""
    home = find_home(os.environ, _here()).value
    place = home / "config.toml"
    remedy = "Correct the file or remove it."
    try:
        text: str | None = read_plain(place, limit=_SETTINGS_BYTES, follow=True).decode()
    except (FileNotFoundError, NotADirectoryError):  # the place for all of it is checked where it is made
        text = None
    except UnicodeDecodeError as exc:
        raise ConfigInvalid(f"`{place}` is not UTF-8 (byte {exc.start}).", remedy=remedy) from exc
    except OSError as exc:
        raise ConfigInvalid(f"`{place}` cannot be read: {exc.strerror}.", remedy=remedy) from exc
    return resolve(home, text, os.environ)


def identify(settings: LocalSettings, registered: Callable[[], list[Builder]]) -> Found:
    """Returns which builder this machine is. Never falls back to somebody else's name.

    Looked for in this order: the `builder` setting, $SERVER_ID, /etc/build_server_id, .build_server_id,
    the registry's entry for this hostname; on the embedded default, `build1`. Raises IdentityUnknown.
    """
    found: list[tuple[str, str]] = []
    if settings.builder:
        found.append((settings.builder, "the setting `builder`"))
    if os.environ.get("SERVER_ID"):
        found.append((os.environ["SERVER_ID"], "$SERVER_ID"))
    for place in (Path("/etc/build_server_id"), settings.home.parent / ".build_server_id"):
        if not found and place.is_file():
            name = read_plain(place, limit=_SETTINGS_BYTES, follow=True).decode(errors="replace").strip()
            found.append((name, str(place)))
    if found:
        name, origin = found[0]
        try:
            return Found(check_name("builder", name), origin)
        except UsageError as exc:
            raise IdentityUnknown(
                f"{origin[0].upper()}{origin[1:]} does not name a builder: {exc.message}.",
                remedy=f"Correct {origin}.",
            ) from exc
    if settings.embedded:
        return Found(EMBEDDED_BUILDERS[0], "the embedded default")
    host = socket.gethostname()
    names = [b.name for b in registered() if b.host.lower() == host.lower()]
    if len(names) == 1:
        return Found(names[0], f"the registry: host {host}")
    raise IdentityUnknown(
        f"This machine, {host}, is {'no' if not names else 'more than one'} builder of the registry.",
        remedy=f'Set `builder = "..."` in {settings.home / "config.toml"}, or $SERVER_ID, or write its name'
        " to /etc/build_server_id.",
    )


def origin_of_home() -> str:
    """Returns where this machine's home was found, in words."""
    return find_home(os.environ, _here()).origin


def origin_of_name() -> str:
    """Returns where this machine's name was found, in words. Raises IdentityUnknown."""
    settings = read_settings()
    return identify(settings, lambda: registered_builders(settings, make_refs(settings))).origin


def make_refs(settings: LocalSettings) -> GitRefs:
    """Returns a ref store over the configured remote. All processes and threads here share one clone."""
    longest = min(max(settings.patience_seconds, _LEAST_PATIENCE), _LONGEST_PATIENCE)
    folder = _store_folder(settings) / "clone.git"
    return GitRefs(folder, settings.ledger, settings.ledger_branch, timeout=longest)


def make_site(
    say: Callable[[str], None] = lambda text: None,
    live: Callable[[Mapping[str, Any]], None] | None = None,
    *,
    builder: str | None = None,
) -> Site:
    """Puts this machine's Site together; the embedded ledger is made when it is not there yet.

    `say` and `live` show progress to a person. Raises ConfigInvalid, IdentityUnknown, FileFailed for a home
    that cannot be written, and what keeps the ledger from being read.
    """
    settings = read_settings()
    _insist_on_home(settings.home)
    _insist_on_repository(settings)
    refs = make_refs(settings)
    if settings.embedded:
        _embed(settings, refs)
    clock, random, processes = SystemClock(), SystemRandomness(), SystemProcesses()
    name = builder or identify(settings, lambda: registered_builders(settings, refs)).value
    least_interval, pushes = _share(settings, refs)
    if 0 < settings.heartbeat_seconds < least_interval:
        settings = replace(settings, heartbeat_seconds=least_interval)
    store = Store(_store_folder(settings) / name, identity=machine_id(), new_id=random.op())
    if store.moved:
        say(_MOVED.format(folder=store.folder, name=name))
    ledger = Ledger(
        store,
        refs,
        decide,
        adopt,
        clock,
        random,
        processes,
        Settings(author=name, reducer=REDUCER_VERSION, pushes_per_minute=pushes),
        admit,
        warn=say,
    )
    site = Site(
        settings,
        name,
        ledger,
        clock,
        random,
        processes,
        decide,
        adopt,
        REDUCER_VERSION,
        say,
        live=live,
        open_refs=lambda: make_refs(settings),
        least_interval=least_interval,
    )
    return entrust(site)


def entrust(site: Site) -> Site:
    """Gives a site what it signs and commits with, by its settings and the policy. Returns the same site."""
    key = site.settings.signing_key
    site.commits_first = lambda branch: commits_first(make_trust(), branch)
    if key:
        site.seal = lambda *sealed: seal(site, make_trust(), make_signer(key, "`signing_key`"), *sealed)
        site.check_seal = lambda: _check_seal(key)
        site.sign = lambda job_id: _sign(site, key, job_id)
    return site


def _check_seal(key: str) -> None:
    """Raises what would keep this machine from committing: no policy, or a key that does not sign."""
    make_trust().policy()
    make_signer(key, "`signing_key`").sign(b"nothing", Kind.COMMITMENT)


def _sign(site: Site, key: str, job_id: str) -> None:
    """Signs what was built, where there is a policy to sign by. What fails is said."""
    try:
        attest_built(site, make_trust(), make_signer(key, "`signing_key`"), job_id)
    except PipelineError as exc:
        site.say(f"Built, and not signed: {exc.message}")


def make_theatre() -> Theatre:
    """Returns what `cluster --demo` is played with: real processes, and none of this machine's settings."""
    return Theatre(SystemClock(), SystemChildren, GitRefs, REDUCER_VERSION, dict(os.environ))


def _share(settings: LocalSettings, refs: GitRefs) -> tuple[float, float | None]:
    """Returns this builder's share of what the ledger's host takes: the shortest interval of its renewals, in
    seconds, and how many transactions it may push a minute. The registry tells among how many it is divided.
    """
    allowed = settings.pushes_per_minute
    if not allowed:
        return 0.0, None
    builders = max(len(registered_builders(settings, refs)), 1)
    return interval_for_budget(allowed, builders), allowed * (1 - RENEWAL_SHARE) / builders


def init_ledger(builders: list[Builder], config: BuildConfig) -> Found:
    """Makes a ledger on the configured remote, which must be an empty repository, and returns its commit.

    Where there is a ledger already, that is left as it is, and `origin` says so: the registry may be another
    one than what was asked for. Raises NotALedger for a repository that holds something else.
    """
    settings = read_settings()
    _insist_on_home(settings.home)
    _insist_on_repository(settings)
    refs = make_refs(settings)
    if settings.embedded and not (Path(settings.ledger) / "HEAD").exists():
        make_bare(Path(settings.ledger))
    address = masked(settings.ledger)
    tip, others = refs.beats("refs/heads/")
    if tip is not None:
        names = ", ".join(b.name for b in registered_builders(settings, refs))
        return Found(refs.fetch() or tip, f"{address} is a ledger already, of {names}; nothing was changed")
    if others:
        names = ", ".join(f"`{ref.removeprefix('refs/heads/')}`" for ref in sorted(others)[:5])
        raise NotALedger(
            f"{address} is not empty: it has {names}.",
            remedy="A ledger begins in an empty repository. Make one (`git init --bare`, or at your"
            " host) and point `ledger` at it.",
        )
    return Found(_begin(refs, builders, config), f"{address} is a ledger now")


def _begin(refs: GitRefs, builders: list[Builder], config: BuildConfig) -> str:
    author = builders[0].name if builders else "operator"
    files = genesis(builders, dump(config), SystemClock().now())
    return initialise(refs, files, author, SystemClock(), SystemRandomness(), REDUCER_VERSION)


def _embed(settings: LocalSettings, refs: GitRefs) -> None:
    """Makes the embedded ledger on first use; of two at once one is quicker and both are content."""
    if (refs.clone.folder / refs.ref).exists():
        return
    if not (Path(settings.ledger) / "HEAD").exists():
        make_bare(Path(settings.ledger))
    if refs.tip() is not None:
        return
    try:
        _begin(refs, [Builder(name=name, manager="embedded") for name in EMBEDDED_BUILDERS], BuildConfig())
    except NotALedger:
        if refs.fetch() is None:
            raise


def _insist_on_home(home: Path) -> None:
    """Makes the home on first use. Raises FileFailed that names it."""
    place = home / "stores"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FileFailed(
            f"This machine's part of the pipeline cannot be kept in `{home}`: {exc.strerror}.",
            remedy="Set $PIPELINE_HOME to a directory that this user may write.",
        ) from exc
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileFailed(
            f"`{place}` cannot be written by this user.",
            remedy="Give this user write access, or set $PIPELINE_HOME to another directory.",
        )


def _insist_on_repository(settings: LocalSettings) -> None:
    """Refuses a local path that is no repository. One that is not there may be a disk that is not mounted."""
    place = Path(settings.ledger.removeprefix("file://"))
    if settings.embedded or not place.is_absolute() or not place.exists():
        return
    origin = next(row.origin for row in settings.rows if row.name == "ledger")
    if place.is_file():
        raise ConfigInvalid(
            f"{origin}: `ledger` is {place}, which is a file.", remedy="Name a git repository."
        )
    if not any((each / "HEAD").exists() for each in (place, place / ".git")):
        raise ConfigInvalid(
            f"{origin}: `ledger` is {place}, a directory that is no git repository.",
            remedy="Name another, or make an empty one: `git init --bare PATH`, then `invoke ledger.init`.",
        )


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as exc:
        raise FileFailed(
            f"The current directory is gone: {exc.strerror}.", remedy="`cd` to another."
        ) from exc


def registered_builders(settings: LocalSettings, refs: GitRefs) -> list[Builder]:
    """Reads the registry; where somebody has broken it by hand, as it was before."""
    tip = refs.fetch() or refs.clone.noted()  # a branch that is gone is told by whoever reads the state
    if tip is None:
        error = LedgerMissing("There is no ledger yet.", remedy="Run `invoke ledger.init`.")
        raise sites.missing(refs, settings, error)
    broken: RecordInvalid | None = None
    oid: str | None = tip
    while oid is not None and (found := refs.read(oid)) is not None:
        commit = parse_commit(found.data)
        view = TreeView(refs.read, commit.tree)
        if broken is None:
            sites.insist_on_ledger(view, settings)
        try:
            return list(sites.registry(view).builders)
        except RecordInvalid as exc:
            broken = broken or exc
        oid = commit.parents[0] if commit.parents else None
    raise broken or LedgerError(f"Commit {tip} is missing from the local clone.")


def _store_folder(settings: LocalSettings) -> Path:
    """Returns where the outbox and the clone of a ledger lie; a new password leaves it as it is."""
    address = split_url(settings.ledger).address
    digest = hashlib.sha256(f"{address}\0{settings.ledger_branch}".encode()).hexdigest()[:12]
    return settings.home / "stores" / digest
