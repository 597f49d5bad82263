"""A real sshd on loopback, with keys and configuration of its own, as any user."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

HOST = "127.0.0.1"
_START_SECONDS = 15.0

_SERVER = """\
Port {port}
ListenAddress {host}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{folder}/authorized_keys"
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200
PrintMotd no
Subsystem sftp internal-sftp
SetEnv {environment}
"""

_CLIENT = """\
Host *
    HostName {host}
    Port {port}
    User {user}
    IdentityFile "{folder}/identity"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    LogLevel ERROR
"""


@dataclass(frozen=True)
class Sshd:
    """A running sshd and what a client needs to reach it. `home` is the HOME of its sessions."""

    host: str
    port: int
    user: str
    identity: Path
    known_hosts: Path
    config_file: Path
    home: Path
    log: Path
    pid: int

    def ssh_command(self, *options: str) -> str:
        """Returns the value of GIT_SSH_COMMAND that reaches this server, with further options of ssh."""
        return shlex.join(["ssh", "-F", str(self.config_file), *options])

    def url(self, path: Path) -> str:
        """Returns the address of a repository on this server."""
        return f"ssh://{self.user}@{self.host}:{self.port}{path}"


def sshd_program() -> str | None:
    """Returns sshd's path, which has to be absolute, or None."""
    found = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return None if found is None else str(Path(found).resolve())


@contextmanager
def start_sshd(folder: Path) -> Iterator[Sshd]:
    """Runs an sshd whose files are all in `folder`; ends it, and every session of it, by process id."""
    folder.chmod(0o700)
    home = folder / "home"
    home.mkdir()
    for key in ("host_key", "identity"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key)], check=True
        )
    shutil.copy(folder / "identity.pub", folder / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd gives up its rights in there
    user = getpass.getuser() if os.geteuid() != 0 else "root"
    log = folder / "log"

    process, port = _listening(folder, home, log)
    try:
        public = (folder / "host_key.pub").read_text().split()
        known_hosts, config_file = folder / "known_hosts", folder / "config"
        known_hosts.write_text(f"[{HOST}]:{port} {public[0]} {public[1]}\n")
        config_file.write_text(_CLIENT.format(host=HOST, port=port, user=user, folder=folder))
        yield Sshd(HOST, port, user, folder / "identity", known_hosts, config_file, home, log, process.pid)
    finally:
        _end(process)


def _listening(folder: Path, home: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Starts sshd until one answers; another process may take the port between choosing and binding."""
    program = sshd_program()
    assert program is not None
    environment = {"HOME": str(home), "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
    for _attempt in range(5):
        port = _free_port()
        (folder / "sshd_config").write_text(
            _SERVER.format(
                port=port,
                host=HOST,
                folder=folder,
                environment=" ".join(f'"{name}={value}"' for name, value in environment.items()),
            )
        )
        argv = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        if shutil.which("setpriv"):
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]  # a killed test run leaves no server
        with log.open("ab") as errors:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        if _answers(process, port):
            return process, port
        _end(process)
    raise RuntimeError(f"sshd does not start: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits for the greeting; returns False once the process has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection((HOST, port), timeout=5) as connection:
                if connection.recv(4) == b"SSH-" and process.poll() is None:
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the listener and its sessions, which would outlive it."""
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.kill()
    process.wait(timeout=10)
