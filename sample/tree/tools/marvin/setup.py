# SPDX-License-Identifier: Apache-2.0
from setuptools import setup

setup(
    name="Marvin",
    version="@VERSION@",
    description="Marvin - Python client for the CloudStack sample",
    license="Apache-2.0",
    packages=["marvin", "marvin.cloudstackAPI"],
    python_requires=">=3.8",
)
