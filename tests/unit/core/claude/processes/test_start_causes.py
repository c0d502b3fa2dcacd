from __future__ import annotations

import pytest

from bridge.core.claude.processes.start_causes import MOST_CHARACTERS, redacted, start_cause


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("Claude configuration file at /h/.claude.json is corrupted: JSON Parse error", "JSON"),
        ("Configuration error in /h/.claude.json: JSON Parse error", ".claude.json"),
        ("Error: Settings file not found: /nonexistent.json", "settings file"),
        ("This machine's managed settings forbid it.", "managed settings"),
        ("ENOENT: no such file or directory, mkdir '/proc/claude-0'", "TMPDIR"),
        ("EROFS: read-only file system, open '/tmp/x'", "TMPDIR"),
        ("ENOSPC: no space left on device, write", "disk is full"),
        ("error: option '--model <model>' argument missing", "claude-agent-sdk"),
        ("claude: /lib/libc.so.6: version `GLIBC_2.99' not found", "does not run"),
    ],
)
def test_a_known_cause_is_a_sentence_without_the_processs_own_words(words: str, part: str) -> None:
    cause = start_cause(words)
    assert part in cause.sentence
    assert words not in cause.sentence
    assert cause.for_log == f"{cause.sentence} Output: {words}"


def test_an_unknown_cause_is_for_the_log_alone() -> None:
    cause = start_cause("Segmentation fault\n at 0x0")
    assert (cause.sentence, cause.for_log) == ("", "Output: Segmentation fault at 0x0")
    assert start_cause("").for_log == ""


def test_secrets_and_what_steers_a_screen_are_not_in_the_log() -> None:
    key = "sk-ant-" + "oat01-abcdef"
    said = redacted(f"\x1b[31mkey {key} Bearer abc http://me:pw@proxy:1 {'x' * 60}\n\x07\x9bend")
    assert said == (
        "key [redacted] [redacted] http://[redacted]@proxy:1 [redacted] end"
    )  # fmt: skip
    assert len(redacted("a b " * 1000)) == MOST_CHARACTERS + 1
