# SPDX-License-Identifier: Apache-2.0
"""A Python client for the API of the CloudStack sample."""

from .client import CloudStackClient

__all__ = ["CloudStackClient"]
