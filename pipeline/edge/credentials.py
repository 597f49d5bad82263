"""Credentials in a repository's address, and how they reach git without being shown.

They go to git by a credential helper, two words of shell that read them from variables: not on a command
line, not into a repository's configuration, a user's store of passwords or a message. Git asks it when the
host does, for every repository of that host: submodules and large files need the same. The variables' names
do not begin with `GIT_`: Git LFS writes those that do into its error logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.edge.identity import expanded
from pipeline.errors import UsageError

_SECRET = re.compile(r"(?<=://)[^/\s]*@")
_USER, _PASSWORD = "PIPELINE_GIT_USER", "PIPELINE_GIT_PASSWORD"
_HELPER = (
    '!answer() { test "$1" != get || '
    f'printf \'username=%s\\npassword=%s\\n\' "${_USER}" "${_PASSWORD}"; }}; answer'
)
#: A user's name of at least this length, without a password, is a token.
_TOKEN_CHARACTERS = 20


@dataclass(frozen=True)
class Access:
    """A repository's address without credentials, and those that its host is given if it asks.

    `password` is None where only a name was given: the user's own credential helpers know the rest.
    """

    address: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_secret(self) -> bool:
        """Says whether there is something that must not be written."""
        return self.password is not None

    @property
    def host(self) -> str:
        """Returns `https://host:port`, for which credentials count; nothing for what is no web address."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else ""

    @property
    def is_local(self) -> bool:
        return self.address.startswith(("/", "file://"))

    @property
    def is_ssh(self) -> bool:
        """Says whether git goes there by ssh: `ssh://…`, or `host:path` as scp writes it."""
        return not self.is_local and (self.address.startswith("ssh://") or "://" not in self.address)

    def ssh_host(self) -> tuple[str, str]:
        """Returns host and port as ssh takes them; the port is empty where it is the usual one."""
        if "://" not in self.address:
            return self.address.partition(":")[0].rpartition("@")[2], ""
        parts = urlsplit(self.address)
        host, _, port = parts.netloc.rpartition("@")[2].partition(":")
        return host, port


def split_credentials(source: str) -> Access:
    """Parses an address. Raises UsageError for an option in disguise and for what cannot be one."""
    if not source or source.startswith("-") or any(ord(char) < 32 for char in source):
        raise UsageError(f"{masked(source)!r} cannot be a repository's address.")
    if "://" not in source:
        is_path = "/" in source.partition(":")[0] or ":" not in source
        return Access(str(expanded(source).resolve())) if is_path else Access(source)
    return split_url(source)


def split_url(address: str) -> Access:
    """Parses an address; a path is left as it is. Raises UsageError for what cannot be one."""
    try:
        parts = urlsplit(address) if "://" in address else None
    except ValueError as exc:
        raise UsageError(f"{masked(address)!r} cannot be a repository's address: {exc}.") from exc
    user, at, host = parts.netloc.rpartition("@") if parts else ("", "", "")
    if parts is None or not at:
        return Access(address)
    if parts.scheme in ("http", "https"):
        name, colon, password = user.partition(":")
        secret = unquote(password) if colon or len(name) >= _TOKEN_CHARACTERS else None
        if any(ord(char) < 32 for char in unquote(user)):
            raise UsageError(f"The credentials in {masked(address)!r} hold a control character.")
        return Access(urlunsplit(parts._replace(netloc=host)), unquote(name), secret)
    return Access(urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}")))


def masked(text: str) -> str:
    """Returns a text without the credentials of the addresses in it."""
    return _SECRET.sub("", text)


def credential_settings(access: Access) -> list[tuple[str, str]]:
    """Returns git's settings for an address: whom its host is told, and who knows the password."""
    if access.user is None or not access.host:
        return []
    if access.password is None:
        return [(f"credential.{access.host}.username", access.user)]
    # The empty one puts the user's own helpers aside: they would keep what they are told.
    return [(f"credential.{access.host}.helper", helper) for helper in ("", _HELPER)]


def credential_variables(access: Access) -> dict[str, str]:
    """Returns the variables that the helper of `credential_settings` reads."""
    if access.user is None or access.password is None:
        return {}
    return {_USER: access.user, _PASSWORD: access.password}


def config_variables(
    pairs: Sequence[tuple[str, str]], present: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Returns settings as the variables by which git takes them, behind those that are `present`."""
    count = (present or {}).get("GIT_CONFIG_COUNT", "")
    first = int(count) if count.isdecimal() else 0
    made = {"GIT_CONFIG_COUNT": str(first + len(pairs))}
    for index, (key, value) in enumerate(pairs, first):
        made[f"GIT_CONFIG_KEY_{index}"], made[f"GIT_CONFIG_VALUE_{index}"] = key, value
    return made
