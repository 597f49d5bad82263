# SPDX-License-Identifier: Apache-2.0
"""Sends API commands and reads the answers."""

import json
import urllib.parse
import urllib.request


class CloudStackClient:
    """A connection to one management server."""

    def __init__(self, endpoint: str, timeout_seconds: float = 30.0) -> None:
        self.endpoint = endpoint
        self.timeout_seconds = timeout_seconds

    def url(self, command) -> str:
        """Return the address that carries out a command, its parameters in the order of their names."""
        parameters = sorted(command.parameters.items())
        return f"{self.endpoint}?{urllib.parse.urlencode([('command', command.command), *parameters])}"

    def send(self, command):
        """Carry out a command and return the answer, decoded from JSON."""
        with urllib.request.urlopen(self.url(command), timeout=self.timeout_seconds) as response:
            return json.load(response)
