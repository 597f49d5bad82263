"""The only place where concrete classes are put together."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide, genesis
from pipeline.edge.clock import SystemClock
from pipeline.edge.identity import SystemProcesses, SystemRandomness, machine_id
from pipeline.errors import ConfigInvalid, IdentityUnknown, LedgerMissing, NotALedger
from pipeline.ledger.git_refs import GitRefs, make_bare
from pipeline.ledger.ledger import Ledger, Settings, initialise
from pipeline.ledger.store import Store
from pipeline.operations import site as sites
from pipeline.operations.settings import LocalSettings, resolve
from pipeline.operations.site import Site
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from pipeline.records.names import check_name

EMBEDDED_BUILDERS = ("build1", "build2")


def find_home(environment: Mapping[str, str], folder: Path) -> Path:
    """Returns where this machine keeps its part: $PIPELINE_HOME, the nearest `.pipeline`, or a new one.

    A new one lies in the checkout that this package runs from, or under the user's data directory.
    """
    if environment.get("PIPELINE_HOME"):
        return Path(environment["PIPELINE_HOME"]).expanduser().absolute()
    for place in (folder, *folder.parents):
        if (place / ".pipeline").is_dir():
            return place / ".pipeline"
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "tasks.py").exists():
        return checkout / ".pipeline"
    data = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(data) / "cloudstack-build-pipeline"


def read_settings() -> LocalSettings:
    """Reads this machine's settings. Raises ConfigInvalid."""
    home = find_home(os.environ, Path.cwd())
    place = home / "config.toml"
    try:
        text = place.read_text(encoding="utf-8") if place.exists() else None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigInvalid(
            f"`{place}` cannot be read: {exc}", remedy="Correct the file or remove it."
        ) from exc
    return resolve(home, text, os.environ)


def identify(settings: LocalSettings, registered: Callable[[], list[Builder]]) -> str:
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
        if place.is_file():
            found.append((place.read_text(encoding="utf-8", errors="replace").strip(), str(place)))
    if found:
        name, origin = found[0]
        try:
            return check_name("builder", name)
        except Exception as exc:
            raise IdentityUnknown(
                f"{origin} names this machine {name!r}: {exc}", remedy=f"Correct {origin}."
            ) from exc
    if settings.embedded:
        return EMBEDDED_BUILDERS[0]
    host = socket.gethostname()
    names = [b.name for b in registered() if b.host.lower() == host.lower()]
    if len(names) == 1:
        return names[0]
    raise IdentityUnknown(
        f"This machine, {host}, is {'no' if not names else 'more than one'} builder of the registry.",
        remedy="Write its name to /etc/build_server_id, or set $SERVER_ID.",
    )


def make_refs(settings: LocalSettings, name: str = "clone") -> GitRefs:
    """Returns the ref store over the configured remote; `name` tells clones of one machine apart."""
    return GitRefs(_store_folder(settings) / f"{name}.git", settings.ledger, settings.ledger_branch)


def make_site(say: Callable[[str], None] = lambda text: None, *, builder: str | None = None) -> Site:
    """Puts this machine's Site together; the embedded ledger is made when it is not there yet."""
    settings = read_settings()
    refs = make_refs(settings)
    if settings.embedded:
        _embed(settings, refs)
    clock, random, processes = SystemClock(), SystemRandomness(), SystemProcesses()
    name = builder or identify(settings, lambda: _registered(refs))
    store = Store(_store_folder(settings) / name, identity=machine_id(), new_id=random.op())
    ledger = Ledger(
        store, refs, decide, adopt, clock, random, processes, Settings(author=name, reducer=REDUCER_VERSION)
    )
    return Site(
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
        open_refs=lambda: make_refs(settings, "heart"),
    )


def init_ledger(builders: list[Builder], config: BuildConfig) -> str:
    """Makes a ledger on the configured remote, which must be an empty repository, and returns its commit."""
    settings = read_settings()
    refs = make_refs(settings)
    if settings.embedded and not (Path(settings.ledger) / "HEAD").exists():
        make_bare(Path(settings.ledger))
    author = builders[0].name if builders else "operator"
    files = genesis(builders, dump(config), SystemClock().now())
    return initialise(refs, files, author, SystemClock(), SystemRandomness(), REDUCER_VERSION)


def _embed(settings: LocalSettings, refs: GitRefs) -> None:
    """Makes the embedded ledger on first use; of two at once one is quicker and both are content."""
    if (refs.clone / refs.ref).exists():
        return
    if not (Path(settings.ledger) / "HEAD").exists():
        make_bare(Path(settings.ledger))
    if refs.tip() is not None:
        return
    try:
        init_ledger([Builder(name=name, manager="embedded") for name in EMBEDDED_BUILDERS], BuildConfig())
    except NotALedger:
        if refs.fetch() is None:
            raise


def _registered(refs: GitRefs) -> list[Builder]:
    from pipeline.ledger.objects import TreeView, parse_commit

    tip = refs.fetch()
    found = refs.read(tip) if tip else None
    if found is None:
        raise LedgerMissing("The remote has no ledger yet.", remedy="Run `invoke ledger.init`.")
    return list(sites.registry(TreeView(refs.read, parse_commit(found.data).tree)).builders)


def _store_folder(settings: LocalSettings) -> Path:
    digest = hashlib.sha256(f"{settings.ledger}\0{settings.ledger_branch}".encode()).hexdigest()[:12]
    return settings.home / "stores" / digest
