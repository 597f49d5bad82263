"""This machine's own settings: where things lie and who it is. Resolved once; each knows its origin. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.edge.hosts import Host
from pipeline.errors import ConfigInvalid, UsageError
from pipeline.records import paths
from pipeline.records.names import check_name, is_name
from pipeline.records.secrets import mask

#: name -> what it means; the order is that of `invoke config`.
MEANINGS = {
    "ledger": "the coordination repository: a path or an address that git understands",
    "ledger_branch": "the branch of it that holds the state",
    "builder": "this machine; else $SERVER_ID, /etc/build_server_id, .build_server_id, hostname",
    "recipe": "a recipe file laid over `shared/build_config.json`",
    "source": "the source repository, instead of the one in `shared/build_config.json`",
    "artifacts": "where finished builds are kept",
    "cache": "where clones, Maven artifacts and tools are kept between builds",
    "work": "where builds run",
    "machine_lock": "the lock file that keeps two builds from running on this machine at once",
    "heartbeat_seconds": "how often a running build renews itself; 0 switches it off",
    "patience_seconds": "how long a command waits for the ledger's remote",
    "report_seconds": "how long a finished build tries to report before it is kept for the next command",
    "pushes_per_minute": "what the ledger's host takes from all builders together; 0: as many as there are",
    "policy": "the folder with the operator's policy of promotion, and with the numbers that were seen",
    "root_key": "the operator's public root key, a line of a .pub file; only what it signed is believed",
    "signing_key": "the private key with which this builder signs what it built, or the .pub of an agent's",
    "promoted": "where promoted packages are put together",
}

_MACHINE = re.compile(r"[0-9a-f]{32}")
_PATHS = frozenset(
    (
        *("ledger", "source", "recipe", "artifacts", "cache", "work", "machine_lock"),
        *("policy", "signing_key", "promoted"),
    )
)

#: The same of another builder, in `[builders.NAME]`. The ledger has no say in them.
FAR_MEANINGS = {
    "root": "where that builder keeps its artifacts, for `invoke compare`",
    "address": "where SSH reaches it, instead of its address in `shared/builders.json`",
    "port": "its SSH port; by default as ssh's own configuration says",
    "user": "the user there, instead of the one in `shared/builders.json`",
    "host_key": "the only host key that is taken for its: `SHA256:…` or `ssh-ed25519 AAAA…`",
    "machine_id": "the only machine that is taken for it: its /etc/machine-id",
}


@dataclass(frozen=True)
class FarBuilder:
    """What this machine knows of another builder by itself. None: not set."""

    root: Path | None = None
    address: str | None = None
    port: int | None = None
    user: str | None = None
    host_key: str | None = None
    machine_id: str | None = None


@dataclass(frozen=True)
class Setting:
    """One setting: its value and where it came from."""

    name: str
    value: str
    origin: str
    meaning: str


@dataclass(frozen=True)
class LocalSettings:
    """All settings of this machine. `embedded` is true while nothing was configured.

    `rows` are for showing: without passwords.
    """

    home: Path
    ledger: str
    ledger_branch: str
    builder: str | None
    recipe: str | None
    source: str | None
    artifacts: Path
    cache: Path
    work: Path
    machine_lock: Path
    heartbeat_seconds: float
    patience_seconds: float
    report_seconds: float
    pushes_per_minute: float
    embedded: bool
    policy: Path
    root_key: str | None
    signing_key: str | None
    promoted: Path
    rows: tuple[Setting, ...]
    builders: Mapping[str, FarBuilder] = field(default_factory=dict)


def resolve(home: Path, file_text: str | None, environment: Mapping[str, str]) -> LocalSettings:
    """Lays built-in values, `<home>/config.toml` and PIPELINE_… variables over one another, in this order.

    A relative path in the file counts from the file's own folder, so that every directory gives the same.
    Raises ConfigInvalid that names the file or variable, the setting and what was expected.
    """
    place = home / "config.toml"
    written = _parse(file_text, place)
    defaults: dict[str, Any] = {
        "ledger": str(home / "ledger.git"),
        "ledger_branch": paths.DEFAULT_BRANCH,
        "builder": None,
        "recipe": None,
        "source": None,
        "artifacts": str(home / "artifacts"),
        "cache": str(home / "cache"),
        "work": str(home / "work"),
        "machine_lock": "/run/lock/cloudstack-build-pipeline.lock",
        "heartbeat_seconds": 30.0,
        "patience_seconds": 60.0,
        "report_seconds": 60.0,
        "pushes_per_minute": 0.0,
        "policy": str(home / "policy"),
        "root_key": None,
        "signing_key": None,
        "promoted": str(home / "promoted"),
    }
    values: dict[str, Any] = {}
    rows = []
    for name, meaning in MEANINGS.items():
        value, origin = defaults[name], "default"
        if name in written:
            value, origin = written[name], str(place)
        variable = f"PIPELINE_{name.upper()}"
        if environment.get(variable):
            value, origin = environment[variable], f"${variable}"
        value = _typed(name, value, defaults[name], origin)
        values[name] = _anchored(name, value, home, origin) if origin == str(place) else value
        shown = "" if value is None else masked(str(values[name]))
        rows.append(Setting(name, shown, origin, meaning))
    embedded = values["ledger"] == defaults["ledger"]
    for name in ("artifacts", "cache", "work", "machine_lock", "policy", "promoted"):
        values[name] = _path(name, values[name], next(row.origin for row in rows if row.name == name))
    far, more = _far_builders(written.get("builders", {}), place)
    return LocalSettings(home=home, embedded=embedded, rows=(*rows, *more), builders=far, **values)


def _far_builders(written: Any, place: Path) -> tuple[dict[str, FarBuilder], list[Setting]]:
    """Reads `[builders.NAME]`. Raises ConfigInvalid that names the setting."""
    if not isinstance(written, dict):
        raise ConfigInvalid(f"{place}: `builders` is no table.", remedy="Write `[builders.NAME]`.")
    found, rows = {}, []
    for name, table in written.items():
        if not is_name("builder", name) or not isinstance(table, dict):
            raise ConfigInvalid(
                f"{place}: `builders.{name}` is no builder.", remedy="Write `[builders.NAME]`."
            )
        for key, value in table.items():
            if key not in FAR_MEANINGS:
                raise ConfigInvalid(
                    f"{place}: `builders.{name}.{key}` does not exist.",
                    remedy=f"One of: {', '.join(FAR_MEANINGS)}.",
                )
            whole = f"builders.{name}.{key}"
            _insist(key, value, f"{place}: `{whole}`")
            rows.append(Setting(whole, str(value), str(place), FAR_MEANINGS[key]))
        try:
            far = FarBuilder(**{**table, "root": Path(table["root"]) if "root" in table else None})
            Host(far.address or name, far.user, far.port, far.host_key)
        except UsageError as exc:
            raise ConfigInvalid(f"{place}: `builders.{name}`: {exc.message}", remedy=exc.remedy) from exc
        found[name] = far
    return found, rows


def _insist(key: str, value: Any, where: str) -> None:
    """Raises ConfigInvalid for a value of another form."""
    if key == "port":
        fits, wanted = type(value) is int and 0 < value < 65536, "a number from 1 to 65535"
    elif key == "machine_id":
        fits, wanted = isinstance(value, str) and bool(_MACHINE.fullmatch(value)), "32 hexadecimal digits"
    else:
        fits, wanted = (
            isinstance(value, str) and bool(value.strip()) and value.isprintable(),
            "a text of one line",
        )
        if key == "root":
            fits, wanted = fits and value.startswith("/"), "a whole path, from `/` on"
    if not fits:
        raise ConfigInvalid(f"{where} is {value!r}.", remedy=f"Give {wanted}.")


def _parse(text: str | None, place: Path) -> dict[str, Any]:
    try:
        written = tomllib.loads((text or "").removeprefix("\ufeff"))
    except (ValueError, RecursionError) as exc:
        raise ConfigInvalid(f"`{place}` is not TOML: {exc}", remedy="Correct the file.") from exc
    unknown = sorted(set(written) - set(MEANINGS) - {"builders"})
    if unknown:
        raise ConfigInvalid(
            f"`{place}` sets `{unknown[0]}`, which does not exist.",
            remedy=f"One of: {', '.join(MEANINGS)}, `[builders.NAME]`.",
        )
    return written


def _typed(name: str, value: Any, default: Any, origin: str) -> Any:
    if isinstance(default, float):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < 1e9:
            raise ConfigInvalid(
                f"{origin}: `{name}` is {value!r}.",
                remedy=f"Give a number{' of seconds' if name.endswith('_seconds') else ''}, 0 or more.",
            )
        return number
    if value is not None and (
        not isinstance(value, str) or not value.strip() or "\n" in value or "\0" in value
    ):
        raise ConfigInvalid(f"{origin}: `{name}` is {value!r}.", remedy="Give a text of one line.")
    if name in ("ledger", "source") and value is not None and value.startswith("-"):
        raise ConfigInvalid(
            f"{origin}: `{name}` is {value!r}, which is an option.", remedy="Give a path or an address."
        )
    if name == "ledger_branch" and value is not None:
        try:
            check_name("branch", value)
        except UsageError as exc:
            raise ConfigInvalid(
                f"{origin}: `{name}`: {exc.message}.", remedy="Give a branch's name."
            ) from exc
    return value


def _anchored(name: str, value: Any, home: Path, origin: str) -> Any:
    """Returns a setting of the file with a relative path made whole; an address is none."""
    if not isinstance(value, str) or name not in _PATHS:
        return value
    host, colon, _ = value.partition(":")
    address = "://" in value or (colon and "/" not in host)
    # A recipe without a folder is the name of a shipped one.
    if (name in ("ledger", "source") and address) or (name == "recipe" and "/" not in value):
        return value
    return str(home / _expanded(name, value, origin))


def _path(name: str, value: str, origin: str) -> Path:
    return _expanded(name, value, origin).absolute()


def _expanded(name: str, value: str, origin: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:
        raise ConfigInvalid(
            f"{origin}: `{name}` is {value!r}, the home of nobody here.", remedy="Write the whole path."
        ) from exc


def masked(address: str) -> str:
    """Returns an address without the password, or the token, in it."""
    return mask(re.sub(r"(?<=://)([^/\s:@]*):[^/\s@]*@", r"\1:*****@", address))
