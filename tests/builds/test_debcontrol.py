"""Promises of the reader of Debian's relations: dpkg's own order of versions, and no guess about the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.builds.debcontrol import (
    Alternative,
    Installed,
    build_depends,
    compare_versions,
    fields,
    holds,
    query_installed,
    read_installed,
)
from pipeline.edge.process import run

VERSION = st.from_regex(r"\A(?:[0-9]{1,3}:)?[0-9][A-Za-z0-9.+~]{0,8}(?:-[A-Za-z0-9.+~]{1,5})?\Z")


@given(VERSION, VERSION)
@settings(max_examples=40)
def test_versions_compare_as_dpkg_compares_them(one: str, other: str) -> None:
    """Real dpkg says the same of any two versions."""
    for relation in ("lt", "eq", "gt"):
        done = run(["dpkg", "--compare-versions", one, relation, other], check=False)
        sign = compare_versions(one, other)
        assert (done.returncode == 0) is {"lt": sign < 0, "eq": sign == 0, "gt": sign > 0}[relation]


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0~rc1", "1.0"), ("1.0", "1.0.1"), ("9", "10"), ("1:1", "2:0"), ("1.0-1", "1.0-2"), ("1.0", "1.0a")],
)
def test_known_orders(one: str, other: str) -> None:
    """Tilde before the end, numbers by value, epochs first."""
    assert compare_versions(one, other) < 0 < compare_versions(other, one)
    assert holds(other, ">>", one)
    assert not holds(other, "<=", one)


CONTROL = """\
# a comment
Source: x
Build-Depends: debhelper (>= 9), a | b (<< 2) | c [!amd64],
 only-arm [arm64], tests <!nocheck>, cross <cross>, native:native (= 1.0),
 odd (>> ), dh-x
Build-Depends-Indep:
 docs

Package: y
Build-Depends: not-me
"""


def test_the_clauses_that_apply_are_read() -> None:
    """Alternatives, versions, architectures and profiles; what is not understood stays as text."""
    clauses = {clause.text: clause.alternatives for clause in build_depends(CONTROL)}
    assert clauses["debhelper (>= 9)"] == (Alternative("debhelper", ">=", "9"),)
    assert clauses["a | b (<< 2) | c [!amd64]"] == (Alternative("a", "", ""), Alternative("b", "<<", "2"))
    assert clauses["native:native (= 1.0)"] == (Alternative("native", "=", "1.0"),)
    assert clauses["odd (>> )"] == ()
    assert "only-arm [arm64]" not in clauses
    assert "cross <cross>" not in clauses
    assert {"tests <!nocheck>", "dh-x", "docs"} <= set(clauses)


INSTALLED = read_installed(
    ["a\t2.0\tinstalled\tvirtual (= 3), plain", "gone\t1\tconfig-files\t", "nonsense", "b\t1\tinstalled\t"]
)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("a", True),
        ("a (>= 2)", True),
        ("a (>= 3)", False),
        ("gone", False),
        ("virtual (>= 3)", True),
        ("virtual (>= 4)", False),
        ("plain", True),
        ("plain (>= 1)", False),
        ("x | b", True),
        ("x | y", False),
        ("???", False),
    ],
)
def test_what_is_installed_satisfies(text: str, met: bool) -> None:
    """Versions are held against packages and versioned provisions; an unversioned one meets no version."""
    (clause,) = build_depends(f"Source: x\nBuild-Depends: {text}\n")
    assert INSTALLED.satisfies(clause) is met


@given(st.text(max_size=200))
def test_no_control_file_makes_a_traceback(text: str) -> None:
    """Anything can stand in a control file."""
    fields(text)
    for clause in build_depends(f"Source: x\nBuild-Depends: {text}"):
        Installed({"a": "1"}).satisfies(clause)
    read_installed(text.splitlines())
    compare_versions(text, text[::-1])


def test_this_machine_s_packages_are_read() -> None:
    """Real dpkg-query, one call."""
    installed = query_installed()
    assert installed.has("dpkg")
    assert compare_versions(installed.versions["dpkg"], "1") > 0
