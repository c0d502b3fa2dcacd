from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.core.validation.builtin_tools import TOOLS, BuiltinTools, check_folder, parsed_rules


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", ()),
        (" , ", ()),
        ("Read", ("Read",)),
        (" Read ,Grep,", ("Read", "Grep")),
        ("Bash(git log:*),Read", ("Bash(git log:*)", "Read")),
        ("Bash(a, b),WebFetch(domain:x.org)", ("Bash(a, b)", "WebFetch(domain:x.org)")),
    ],
)
def test_rules_are_written_as_claude_code_writes_them(text: str, rules: tuple[str, ...]) -> None:
    assert parsed_rules(text) == rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Agent", "'Agent' is not one of"),
        ("Skill", "'Skill' is not one of"),
        ("read", "'read' is not one of"),
        ("mcp__client", "not of the form"),
        ("*", "not of the form"),
        ("Bash(", "not of the form"),
        ("Bash()", "not of the form"),
        ("Bash(a)(b)", "not of the form"),
        ("Bash(a\nb)", "not of the form"),
        ("Read(/etc/**)", "Read takes no rule"),
        ("Write(./out/**)", "Write takes no rule"),
    ],
)
def test_what_is_no_rule_or_would_not_hold_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parsed_rules(text)


def test_a_tool_with_several_rules_is_offered_once() -> None:
    tools = BuiltinTools(Path("/srv"), parsed_rules("Bash(git log:*),Read,Bash(git show:*)"))
    assert tools.names == ("Bash", "Read")


def test_the_effect_of_each_rule_is_described_for_the_operator() -> None:
    lines = BuiltinTools(Path("/srv"), tuple(sorted(TOOLS))).described()
    assert "Bash: runs ANY command, AS YOU" in lines
    assert "Read: reads files in the folder" in lines
    assert all(line.partition(": ")[2] for line in lines)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("home/.claude/projects", "home/project/state", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "file").touch()
    (tmp_path / "home" / "link").symlink_to(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["project/other", "../elsewhere"])
def test_a_folder_of_the_operators_choice_is_taken(home: Path, name: str) -> None:
    (home / name).mkdir(exist_ok=True)
    folder = check_folder(
        home / name, home=home, private=(home / ".claude", home / "project/state")
    )
    assert folder == (home / name).resolve()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "does not exist"),
        ("file", "is not a folder"),
        (".", "home folder"),
        ("link", "home folder"),
        ("..", "home folder"),
        ("/", "home folder"),
        (".claude", "contains secrets"),
        (".claude/projects", "contains secrets"),
        ("project", "contains secrets"),
        ("project/state", "contains secrets"),
    ],
)
def test_a_folder_that_would_give_too_much_away_is_refused(
    home: Path, name: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        check_folder(home / name, home=home, private=(home / ".claude", home / "project/state"))
