"""What is typed and pasted in `bridge chat`: messages and commands."""

from __future__ import annotations

import pytest

from bridge.cli.chat.slash_commands import HELP, Command, Entered, Say, Unknown, entered
from bridge.simulator import Exchange
from tests.support.harness import RunningBridge, sim
from tests.support.terminal import at_terminal


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", None),
        (" \n", None),
        (" a\nb ", Say("a\nb")),
        ("/clear", Command.CLEAR),
        (" /new\n", Command.CLEAR),
        ("/help", Command.HELP),
        ("/quit", Command.QUIT),
        ("/exit", Command.QUIT),
        ("/x", Unknown("/x")),
        ("/quit now", Unknown("/quit")),
        ("/etc/passwd\nhas what?", Unknown("/etc/passwd")),
        ("/", Unknown("/")),
        ("//etc/passwd has what?", Say("/etc/passwd has what?")),
        ("a / b", Say("a / b")),
    ],
)
def test_what_a_line_means(line: str, meant: Entered) -> None:
    assert entered(line) == meant


def test_an_unknown_command_is_refused_with_how_to_send_it() -> None:
    said = str(Unknown("/" + "x" * 1000))
    assert len(said) < 200
    assert "/help" in said
    assert "Type //" in said
    for command in ("/clear", "/new", "/help", "/quit"):
        assert command in HELP


# Where the terminal is drawn on, the blank is a move of the cursor.
PROMPT = r">( |\x08)"


def asked(bridge: RunningBridge, marker: str) -> list[Exchange]:
    return list(bridge.simulator.ledger.exchanges(containing=marker))


def chat(bridge: RunningBridge) -> tuple[str, ...]:
    return ("chat", "--url", bridge.url)


def test_pasted_lines_are_one_message_which_goes_with_enter(bridge: RunningBridge) -> None:
    with at_terminal(*chat(bridge), kind="xterm") as terminal:
        terminal.wait_for(PROMPT)
        terminal.paste(f"pasted-a {sim(text='well read')}\rpasted-b\r\npasted-c\r")
        terminal.wait_for("pasted-c")
        terminal.type(" typed-d")
        terminal.wait_for("output tokens")
        terminal.type("/quit")
        assert terminal.end() == 0
    (one,) = asked(bridge, "pasted-")
    assert one.contains("\\npasted-b\\npasted-c\\n typed-d")


def test_what_is_pasted_while_an_answer_comes_waits_for_enter(bridge: RunningBridge) -> None:
    with at_terminal(*chat(bridge), kind="xterm") as terminal:
        terminal.wait_for(PROMPT)
        terminal.type(f"slow {sim(tokens=30, delay_ms=50)}")
        terminal.wait_for(r"\bw2 w3\b")
        terminal.paste(f"early-a {sim(text='well')}\rearly-b")
        terminal.wait_for("output tokens")
        terminal.wait_for("early-b")
        assert asked(bridge, "early-") == []
        terminal.type("")
        terminal.wait_for("output tokens")
        terminal.type("/quit")
        assert terminal.end() == 0
    (one,) = asked(bridge, "early-")
    assert one.contains("\\nearly-b")


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_commands_stay_here_and_two_slashes_send_one(bridge: RunningBridge, kind: str) -> None:
    before = len(asked(bridge, ""))
    with at_terminal(*chat(bridge), kind=kind) as terminal:
        terminal.wait_for(f"starts over(.|\n)*{PROMPT}")
        terminal.type("/help")
        terminal.wait_for(f"starts over(.|\n)*{PROMPT}")
        terminal.type("/clear")
        for line in ("/helpp", f"/etc/{kind} what is it?"):
            terminal.type(line)
            terminal.wait_for(f"Unknown command {line.split()[0]}. /help")
            terminal.wait_for(PROMPT)
        terminal.type(f"//etc/{kind} {sim(text='a file')}")
        terminal.wait_for("output tokens")
        terminal.type("/quit")
        assert terminal.end() == 0
    assert len(asked(bridge, "")) == before + 1
    (one,) = asked(bridge, f"etc/{kind}")
    assert one.contains(f'"/etc/{kind} ')


def test_alt_enter_adds_a_line(bridge: RunningBridge) -> None:
    with at_terminal(*chat(bridge), kind="xterm") as terminal:
        terminal.wait_for(PROMPT)
        terminal.type(f"alt-a {sim(text='both')}\x1b")
        terminal.type("alt-b")
        terminal.wait_for("output tokens")
        terminal.type("/quit")
        assert terminal.end() == 0
    (one,) = asked(bridge, "alt-a")
    assert one.contains("\\nalt-b")
