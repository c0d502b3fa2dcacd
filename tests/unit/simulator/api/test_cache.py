"""The prompt cache's accounting. Texts are long enough to count: four characters per token."""

from typing import Any

from bridge.simulator.api.cache import Account, PromptCache

MARK = {"cache_control": {"type": "ephemeral"}}


def text(value: str, *, mark: bool = False, length: int = 400) -> dict[str, Any]:
    return {"type": "text", "text": value.ljust(length, "."), **(MARK if mark else {})}


def request(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-5-5",
        "system": [text("system", mark=True)],
        "messages": [{"role": "user", "content": list(blocks)}],
    } | fields


def parts(account: Account) -> tuple[int, int, int]:
    return account.read, account.creation, account.uncached


def cache(minimum: int = 50) -> PromptCache:
    return PromptCache(minimum_tokens=minimum)


def test_a_prefix_is_written_once_and_read_after() -> None:
    known = cache()
    body = request(text("a", mark=True), text("tail"))
    assert parts(known.account(body)) == (0, 200, 100)
    assert parts(known.account(body)) == (200, 0, 100)


def test_a_longer_conversation_reads_what_the_shorter_one_wrote() -> None:
    known = cache()
    known.account(request(text("a", mark=True)))
    longer = request(text("a"), text("b"), text("c", mark=True), text("tail"))
    assert parts(known.account(longer)) == (200, 200, 100)


def test_a_change_before_the_breakpoint_misses_from_there_on() -> None:
    known = cache()
    known.account(request(text("a"), text("b", mark=True)))
    assert parts(known.account(request(text("A"), text("b", mark=True)))) == (100, 200, 0)


def test_without_a_breakpoint_nothing_is_cached() -> None:
    known = cache()
    body = request(text("a"), system="system" * 100)
    assert parts(known.account(body)) == parts(known.account(body)) == (0, 0, 250)


def test_a_short_prefix_is_not_cached() -> None:
    known = cache(minimum=201)
    body = request(text("a", mark=True), text("tail"))
    assert parts(known.account(body)) == parts(known.account(body)) == (0, 0, 300)


def test_the_mark_is_not_part_of_the_prefix() -> None:
    known = cache()
    known.account(request(text("a", mark=True)))
    moved = request(text("a"), text("b", mark=True), system=[text("system")])
    assert parts(known.account(moved)) == (200, 100, 0)


def test_a_string_is_a_text_block() -> None:
    known = cache()
    known.account(request(text("a", mark=True)))
    body = request()
    body["messages"] = [
        {"role": "user", "content": "a".ljust(400, ".")},
        {"role": "assistant", "content": [text("b", mark=True)]},
    ]
    assert parts(known.account(body)) == (200, 100, 0)


def test_a_breakpoint_looks_back_over_twenty_blocks() -> None:
    for between, read in ((18, 200), (19, 100)):
        known = cache()
        known.account(request(text("a", mark=True)))
        more = [text(f"b{n}") for n in range(between)]
        account = known.account(request(text("a"), *more, text("z", mark=True)))
        assert account.read == read


def test_models_do_not_share() -> None:
    known = cache()
    known.account(request(text("a", mark=True)))
    other = request(text("a", mark=True), model="claude-haiku-5-5")
    assert parts(known.account(other)) == (0, 200, 0)


def test_what_changes_only_the_messages_leaves_the_system_prompt() -> None:
    known = cache()
    tools = [{"name": "add"}]
    known.account(request(text("a", mark=True), tools=tools))
    system = known.account(request(text("a"), tools=tools)).read
    assert system > 0
    changes: list[dict[str, Any]] = [
        {"thinking": {"type": "adaptive"}},
        {"tool_choice": {"type": "any"}},
    ]
    for change in changes:
        assert known.account(request(text("a", mark=True), tools=tools, **change)).read == system
    image = {"type": "image", "source": {"type": "base64"}}
    assert known.account(request(text("a", mark=True), image, tools=tools)).read == system


def test_what_changes_everything_leaves_nothing() -> None:
    known = cache()
    known.account(request(text("a", mark=True)))
    tools = [{"name": "add"}]
    form = {"format": {"type": "json_schema", "schema": {}}}
    assert known.account(request(text("a", mark=True), tools=tools)).read == 0
    assert known.account(request(text("a", mark=True), output_config=form)).read == 0
    effort = {"effort": "low"}
    assert known.account(request(text("a", mark=True), output_config=effort)).read == 200


def test_the_attribution_line_of_the_cli_does_not_count() -> None:
    known = cache()
    reads = []
    for suffix in ("1", "2"):
        line = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.{suffix};"}
        account = known.account(request(text("a", mark=True), system=[line, text("s", mark=True)]))
        assert account.total == 200
        reads.append(account.read)
    assert reads == [0, 200]


def test_automatic_caching_marks_the_last_block() -> None:
    known = cache()
    body = request(text("a"), text("b"), **MARK)
    assert parts(known.account(body)) == (0, 300, 0)
    assert parts(known.account(body)) == (300, 0, 0)


def test_entries_of_an_hour_are_counted_separately() -> None:
    block = text("a") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    usage = cache().account(request(block)).usage()
    assert usage["cache_creation"] == {
        "ephemeral_5m_input_tokens": 0,
        "ephemeral_1h_input_tokens": 200,
    }


def test_the_least_recently_used_entries_go() -> None:
    known = PromptCache(minimum_tokens=1, keep=2)
    a, b, c = (request(text(name, mark=True), system="") for name in "abc")
    known.account(a)
    known.account(b)
    known.account(a)
    known.account(c)
    assert known.account(a).read == 100
    assert known.account(b).read == 0
