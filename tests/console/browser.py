"""A real browser without a window, driven over two pipes by its own protocol, so that no port is opened."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

#: Programs that are Chromium, the smallest first.
PROGRAMS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PATIENCE_SECONDS: Final = 60


def browser_program() -> str:
    """Returns a Chromium's path. Where there is none: fails in CI, skips and says so elsewhere."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    said = f"no Chromium on PATH ({', '.join(PROGRAMS)}): `apt-get install chromium-headless-shell`"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


class Browser:
    """One browser with one tab. `events` are all that it told, as (method, parameters)."""

    def __init__(self, home: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        flags = [
            *("--headless", "--remote-debugging-pipe", f"--user-data-dir={home}", "--no-first-run"),
            *(
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-sync",
            ),
            *("--disable-component-update", "--disable-quic", "--disable-extensions", "--hide-scrollbars"),
            *("--enable-precise-memory-info", "--js-flags=--expose-gc"),
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
        ]
        program = browser_program()
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        # The protocol wants its pipes as 3 and 4; high numbers first, so that neither is closed by the other.
        high = [os.dup(fd) for fd in (ours[0], theirs[1])]
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, to)
            for fd, to in zip((high[0], high[1], log, log), (3, 4, 1, 2), strict=True)
        ]
        self.pid = os.posix_spawn(
            program, [program, *flags], {**os.environ, "HOME": str(home)}, file_actions=actions, setpgroup=0
        )
        for fd in (*high, ours[0], theirs[1], log):
            os.close(fd)
        self._write, self._read = ours[1], theirs[0]
        self._rest = b""
        self._number = 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser and all that it started."""
        for fd in (self._write, self._read):
            os.close(fd)
        deadline = time.monotonic() + 5
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return
            time.sleep(0.01)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends one command and returns its result; a refusal is a failure."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def wait_for(self, method: str) -> None:
        """Waits for an event that has not been told yet."""
        while all(name != method for name, _ in self.events):
            self._next()

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Opens a file afresh, in a window of that many CSS pixels; returns when it is loaded."""
        scheme = "dark" if dark else "light"
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """Returns what an expression of JavaScript has for its value in the page."""
        told = self.ask(
            "Runtime.evaluate",
            expression=expression, returnByValue=True, awaitPromise=True, userGesture=True,
            allowUnsafeEvalBlockedByCSP=False,
        )  # fmt: skip
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until an expression is true in the page, in steps of its frames."""
        self.run(
            "new Promise((done, fail) => { const end = performance.now() + 20000; const look = () => {"
            f"if ({expression}) done(true); else if (performance.now() > end) fail('never');"
            "else requestAnimationFrame(look); }; look(); })"
        )

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, as a keyboard does."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
                    "ArrowDown": 40, "End": 35, "Home": 36}.get(key, 0)  # fmt: skip
            same = {"key": key, "windowsVirtualKeyCode": code}
            self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **same)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **same)

    def screenshot(self, place: Path) -> None:
        """Takes a picture of the window."""
        place.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[Mapping[str, Any]]:
        """Returns what is amiss since the page was opened: errors, refusals, words on the console."""
        names = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [parameters for name, parameters in self.events if name in names]

    def requests(self) -> list[str]:
        """Returns the address of every request since the page was opened."""
        return [each["request"]["url"] for name, each in self.events if name == "Network.requestWillBeSent"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _PATIENCE_SECONDS)
            assert ready, "the browser is silent"
            block = os.read(self._read, 1 << 20)
            assert block, "the browser has ended"
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message
