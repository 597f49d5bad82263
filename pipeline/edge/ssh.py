"""A program of another machine, started through SSH and talked with as one of this machine.

The only module that knows Fabric; `ssh_login` says which keys count. ssh's own configuration, the agent and
jump hosts do; a host key that is not known, or another than the known one, is refused at every hop, and none
is ever added.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from fabric import Config, Connection
from paramiko import Channel, SSHClient, Transport
from paramiko.ssh_exception import (
    AuthenticationException,
    ChannelException,
    NoValidConnectionsError,
    SSHException,
)

from pipeline.edge.conversation import Deadline, Proxy, ended, slow
from pipeline.edge.hosts import Host, known_name, preferred_kinds
from pipeline.edge.ssh_login import Keys, OnlyKnown, in_words, known_files, known_keys, read_config, read_hop
from pipeline.errors import HostRefused, HostUnreachable, LoginRefused, PipelineError

CONNECT_SECONDS: Final = 15
_GRACE_SECONDS: Final = 2.0
_KEEPALIVE_SECONDS: Final = 20
_BLOCK_BYTES: Final = 1 << 18
_TAIL_BYTES: Final = 2000
_MOST_HOPS: Final = 8
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it has to say is raised as well


class SshConversation:
    """A program of another machine. It ends with the connection, and the connection with `close`.

    Raises HostUnreachable, HostRefused and LoginRefused, which say at which step and on which hop.
    """

    def __init__(self, host: Host, command: str, name: str, seconds: int = CONNECT_SECONDS) -> None:
        self.name = name
        self._route = _Route(name, seconds)
        try:
            self._channel = self._route.start(host, command)
        except BaseException:
            self._route.close()
            raise

    @property
    def travelled(self) -> int:
        """Returns the bytes that went over the wire both ways so far, with all that SSH adds to them."""
        return self._route.travelled

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises CommandFailed where the program ended, else HostUnreachable."""
        self._channel.settimeout(self._route.seconds)
        try:
            self._channel.sendall(data)
        except TimeoutError as exc:
            raise slow(self.name, self._route.seconds) from exc
        except (OSError, EOFError, SSHException) as exc:
            raise self._gone() from exc

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns exactly `length` bytes. Raises CommandFailed, CommandTimedOut, and HostUnreachable."""
        parts, missing, deadline = [], length, Deadline(seconds)
        while missing:
            if not deadline.left:
                raise slow(self.name, seconds)
            self._channel.settimeout(deadline.left)
            try:
                data = self._channel.recv(min(missing, _BLOCK_BYTES))
            except TimeoutError as exc:
                raise slow(self.name, seconds) from exc
            if not data:
                raise self._gone()
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Ends the program, by the end of its input, and the connection. Raises nothing."""
        with contextlib.suppress(OSError, EOFError, SSHException):
            self._channel.close()
        self._route.close()

    def _gone(self) -> PipelineError:
        """Returns why there is nobody any more: the program ended, or the connection did."""
        known = self._channel.status_event.wait(_GRACE_SECONDS) and self._channel.exit_status >= 0
        if not known and not self._route.lives:
            return HostUnreachable(
                f"{self.name}: the connection broke off in the middle.",
                "talk",
                remedy="Look at that machine and the network to it, then compare again.",
            )
        tail = b""
        while self._channel.recv_stderr_ready() and len(tail) < _TAIL_BYTES:
            tail += self._channel.recv_stderr(_TAIL_BYTES)
        if not tail and self._channel.recv_ready():  # a shell that is none says why on its output
            tail = self._channel.recv(_TAIL_BYTES)
        status = self._channel.exit_status if known else None
        return ended(self.name, status, tail.decode(errors="replace").strip())


class _Route:
    """The connections on the way to one machine, that to itself included."""

    def __init__(self, name: str, seconds: int) -> None:
        self.seconds = seconds
        self._name = name
        self._clients: list[SSHClient] = []
        self._proxies: list[Proxy] = []
        self._meter: _Metered | None = None
        self._config = read_config()

    @property
    def travelled(self) -> int:
        return self._meter.travelled if self._meter else 0

    @property
    def lives(self) -> bool:
        transport = self._clients[-1].get_transport() if self._clients else None
        return transport is not None and transport.is_active()

    def start(self, host: Host, command: str) -> Channel:
        """Connects and starts the command. Raises HostUnreachable, HostRefused, LoginRefused."""
        connection = self._open(host)
        try:
            channel: Channel = connection.create_session()
            channel.settimeout(self.seconds)
            channel.exec_command(command)
        except (SSHException, EOFError, OSError) as exc:
            raise self._failed(f"no program can be started there: {in_words(exc)}", "start") from exc
        return channel

    def close(self) -> None:
        """Closes all of it, the far end first. Raises nothing."""
        for client in reversed(self._clients):
            with contextlib.suppress(OSError, EOFError, SSHException):
                client.close()
        for proxy in self._proxies:
            proxy.close()

    def _open(self, host: Host, before: Connection | None = None, depth: int = 0) -> Connection:
        """Opens one connection, by way of `before` or as ssh's configuration says."""
        connection = self._made(host)
        words = connection.ssh_config
        straight = True
        if before is None:
            for hop in self._jumps(connection, depth):
                before = self._open(hop, before, depth + 1)
        if before is not None:
            connection.connect_kwargs["sock"] = self._tunnel(before, connection)
            straight = False
        elif words.get("proxycommand", "none") != "none":
            proxy = Proxy(words["proxycommand"])
            self._proxies.append(proxy)
            connection.connect_kwargs["sock"] = proxy.socket
            straight = False
        self._secure(connection, host, straight)
        self._clients.append(connection.client)
        self._connect(connection)
        return connection

    def _made(self, host: Host) -> Connection:
        overrides = {"authentication": {"strategy_class": Keys}, "load_ssh_configs": False}
        config = Config(lazy=True, ssh_config=self._config, overrides=overrides)
        known = self._config.lookup(host.address)
        connection = Connection(
            host.address,
            user=host.user,
            port=host.port,
            gateway=False,
            forward_agent=False,
            config=config,
            connect_timeout=known.get("connecttimeout", self.seconds),
        )
        connection.connect_kwargs = {
            "compress": True,
            "banner_timeout": self.seconds,
            "auth_timeout": 2 * self.seconds,
            "channel_timeout": self.seconds,
        }
        return connection

    def _jumps(self, connection: Connection, depth: int) -> Iterator[Host]:
        """Yields the machines that are passed on the way to one, the nearest first."""
        jumps = connection.ssh_config.get("proxyjump", "none")
        if jumps.lower() == "none":
            return
        if depth >= _MOST_HOPS:
            raise self._failed("its `ProxyJump` leads in a circle", "connect")
        hops = [read_hop(each) for each in jumps.split(",")]
        if connection.original_host not in [hop.address for hop in hops]:  # `Host *` names itself as well
            yield from hops

    def _tunnel(self, before: Connection, connection: Connection) -> Channel:
        place = (connection.host, connection.port)
        try:
            return before.client.get_transport().open_channel(
                "direct-tcpip", place, ("", 0), timeout=self.seconds
            )
        except (ChannelException, SSHException, EOFError) as exc:
            where = f"{connection.host} cannot be reached from {before.host}"
            raise self._failed(f"{where}: {in_words(exc)}", "connect") from exc

    def _secure(self, connection: Connection, host: Host, straight: bool) -> None:
        """Makes a connection refuse every key but those that are known."""
        alias = connection.ssh_config.get("hostkeyalias")
        name = known_name(connection.host, connection.port, alias)
        known = known_keys(connection.ssh_config, name)
        there = replace(host, address=connection.host, port=connection.port)
        file = known_files(connection.ssh_config)[0]
        scan = straight and not alias
        connection.client.set_missing_host_key_policy(OnlyKnown(there, name, known, file, scan))
        kinds = preferred_kinds(host, known)
        wanted = [each for kind in kinds for each in (_RSA if kind == "ssh-rsa" else (kind,))]

        def make(sock: Any, **options: Any) -> Transport:
            self._meter = _Metered(sock)
            transport = Transport(self._meter, **options)
            offered = transport.get_security_options()
            first = [kind for kind in wanted if kind in offered.key_types]
            offered.key_types = [*dict.fromkeys(first), *(k for k in offered.key_types if k not in first)]
            return transport

        connection.connect_kwargs["transport_factory"] = make

    def _connect(self, connection: Connection) -> None:
        where = f"{connection.host}, port {connection.port}"
        try:
            connection.open()
        except HostRefused as exc:
            raise HostRefused(f"{self._name}: {exc.message}", exc.reason, remedy=exc.remedy) from exc
        except AuthenticationException as exc:
            raise self._login_refused(connection, exc) from exc
        except NoValidConnectionsError as exc:
            why = "; ".join(sorted({in_words(each) for each in exc.errors.values()}))
            raise self._failed(f"{where} cannot be reached: {why}", "connect") from exc
        except socket.gaierror as exc:
            raise self._failed(f"the name {connection.host} is not known: {exc.strerror}", "connect") from exc
        except TimeoutError as exc:
            raise self._failed(f"{where} does not answer within {self.seconds} s", "connect") from exc
        except (OSError, EOFError) as exc:
            raise self._failed(f"{where} cannot be reached: {in_words(exc)}", "connect") from exc
        except SSHException as exc:
            raise self._failed(
                f"what answers at {where} does not finish SSH's greeting: {in_words(exc)}", "login"
            ) from exc
        transport = connection.client.get_transport()
        if not transport.is_authenticated():
            raise self._login_refused(connection, None)
        transport.set_keepalive(_KEEPALIVE_SECONDS)

    def _failed(self, what: str, step: str) -> HostUnreachable:
        return HostUnreachable(
            f"{self._name}: {what}.",
            step,
            remedy="`ssh` to that machine has to work from here, without a question.",
        )

    def _login_refused(self, connection: Connection, exc: AuthenticationException | None) -> LoginRefused:
        tried = getattr(exc, "result", None)
        keys = [str(each.source.told) for each in tried] if tried else []
        whom = f"{connection.user}@{connection.host}"
        with_keys = f"with {', '.join(keys)}" if keys else "without a key: there is none that can be used"
        why = with_keys if exc is not None else "with a key alone"
        return LoginRefused(
            f"{self._name}: {whom} cannot log in {why}.",
            remedy=f"Put the public key of one into that user's ~/.ssh/authorized_keys, so that"
            f" `ssh -p {connection.port} {whom} true` works without a question."
            " An encrypted key needs the agent.",
        )


class _Metered:
    """A socket that counts."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.travelled = 0

    def send(self, data: bytes) -> int:
        count: int = self._inner.send(data)
        self.travelled += count
        return count

    def recv(self, length: int) -> bytes:
        data: bytes = self._inner.recv(length)
        self.travelled += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
