"""The documentation: links lead somewhere, commands exist, the README's two commands are what runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.loader import FilesystemLoader

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"\binvoke ((?!--)[a-z][a-z.-]*(?: [^`\n#&;|]*)?)")


def prose(text: str) -> str:
    """Returns a page without its code blocks."""
    return _BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, as git hosts make them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    """Yields the relative links of a page that lead nowhere."""
    for target in _LINK.findall(prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            yield target


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words after `invoke` of every command that a page shows, in blocks and in backticks."""
    blocks = [code for language, code in _BLOCK.findall(text) if language == "sh"]
    for code in [*blocks, *re.findall(r"`([^`\n]+)`", prose(text))]:
        for words in _COMMAND.findall(code):
            yield shlex.split(words)


def unknown_words(words: list[str], collection: Collection) -> list[str]:
    """Returns the task of a command if there is none of that name, or those of its options that it lacks."""
    name = words[0]
    if name not in collection:
        return [name]
    if "--" in words:
        words = words[: words.index("--")]  # what follows is another program's
    known = {flag for argument in collection[name].get_arguments() for flag in argument.names}
    said = [word.lstrip("-").split("=")[0] for word in words[1:] if word.startswith("--")]
    return [option for option in said if option.replace("-", "_") not in known and option not in known]


@pytest.fixture(scope="module")
def collection() -> Collection:
    """The tasks, as invoke loads them."""
    module, _folder = FilesystemLoader(start=str(ROOT)).load("tasks")
    return Collection.from_module(module)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file, and to a heading in it where it names one."""
    assert list(broken_links(page)) == []


@pytest.mark.skipif(not (ROOT / "tasks.py").exists(), reason="there are no tasks yet")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path, collection: Collection) -> None:
    """Every `invoke` command that a page shows names a task, and options that the task has."""
    wrong = [
        (words, bad) for words in commands(page.read_text()) if (bad := unknown_words(words, collection))
    ]
    assert wrong == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    """A link to no file and one to no heading are broken; those in code blocks are no links."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `title` here\n[a](none.md) [b](#nothing) [c](#a-title-here) [d](page.md)\n"
        "[e](https://example.org/x)\n```sh\n[f](none2.md)\n```\n"
    )
    assert list(broken_links(page)) == ["none.md", "#nothing"]


@pytest.mark.skipif(not (ROOT / "tasks.py").exists(), reason="there are no tasks yet")
def test_a_command_that_does_not_exist_is_noticed(collection: Collection) -> None:
    """A task and an option that do not exist are both found, in a block as in backticks."""
    text = "```sh\n. x; invoke biuld --branch X\n```\nand `./bootstrap invoke build --brnach X --on all`\n"
    assert [unknown_words(words, collection) for words in commands(text)] == [["biuld"], ["brnach"]]


def test_the_readme_begins_with_the_two_commands() -> None:
    """The first code block is one line that builds, the second one line that tests."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text())
    assert [language for language, _code in blocks[:2]] == ["sh", "sh"]
    assert [code for _language, code in blocks[:2]] == [
        "./bootstrap invoke build --branch ExternalNew\n",
        "./bootstrap nox\n",
    ]


def test_ci_runs_the_second_command() -> None:
    """What decides is what the README tells a stranger to run."""
    second = _BLOCK.findall((ROOT / "README.md").read_text())[1][1].strip()
    assert re.search(rf"^timeout .* {re.escape(second)} >", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is written that a reader would not find."""
    seen: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            targets = (target.partition("#")[0] for target in _LINK.findall(prose(page.read_text())))
            files = [(page.parent / target).resolve() for target in targets if target and ":" not in target]
            left += [file for file in files if file.is_file()]
    assert set(PAGES) - seen == set()
