"""The answer: from a directive and the request or, unscripted, a friendly text. Pure."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge.simulator.api.cache import content_blocks
from bridge.simulator.api.rules import thinking_on
from bridge.simulator.api.schema import minimal
from bridge.simulator.api.stream import Reply, ToolUse, tokens, tool_tokens
from bridge.simulator.ledger import text_of
from bridge.simulator.script import CONTENT, BadDirective, Directive, ToolCall

STRUCTURED = "StructuredOutput"
_CLIENT_PREFIX = "mcp__client__"
_QUOTE = 300
_DEMO_PIECES = 20
# Text that the CLI itself adds to a user turn is not what the user asked.
_REMINDER = re.compile(r"<(system-reminder|(?:local-)?command-[a-z]+)>.*?</\1>", re.DOTALL)
_DIRECTIVE = re.compile(r"\[\[sim .*\]\]", re.DOTALL)


def reply(
    body: Mapping[str, Any], directive: Directive | None, new_id: Callable[[str], str]
) -> Reply:
    """Return the answer to a request. BadDirective if it calls a tool that was not offered.

    `new_id` creates an id from a prefix such as `toolu_`.
    """
    directive = directive or Directive()
    answer = _scripted(body, directive, new_id)
    if answer is None:
        answer = _by_form(body, new_id) or Reply(_pieces_for_demo(_demo_text(body)))
    if directive.thinking and thinking_on(body):
        answer = replace(answer, thinking=directive.thinking)
    if not answer.endless:
        answer = limit(answer, body.get("max_tokens"), body.get("stop_sequences") or ())
    if answer.stop_reason not in ("max_tokens", "stop_sequence") and directive.stop_reason:
        answer = replace(
            answer,
            stop_reason=directive.stop_reason,
            stop_sequence=directive.stop_sequence,
            stop_details=directive.stop_details,
        )
    return answer


def limit(answer: Reply, max_tokens: int | None, stop_sequences: Sequence[str]) -> Reply:
    """Cut an answer as the API does: before a stop sequence, and after `max_tokens`."""
    text = "".join(answer.pieces) if stop_sequences else ""
    hits = [(text.find(stop), stop) for stop in stop_sequences if stop in text]
    if hits:
        at, stop = min(hits)
        pieces = _take_chars(answer.pieces, at)
        answer = replace(
            answer, pieces=pieces, tools=(), stop_reason="stop_sequence", stop_sequence=stop
        )
    if max_tokens is None or answer.output_tokens <= max_tokens:
        return answer
    left = max_tokens
    thinking = answer.thinking[: left * 4]
    left -= tokens(thinking)
    pieces = answer.pieces[:left]
    left -= len(pieces)
    tools: list[ToolUse] = []
    for tool in answer.tools:
        if left > 0:
            tools.append(replace(tool, input_json=tool.input_json[: left * 4]))
            left -= tool_tokens(tool)
    return replace(
        answer,
        thinking=thinking,
        pieces=pieces,
        tools=tuple(tools),
        stop_reason="max_tokens",
        stop_sequence=None,
    )


def _take_chars(pieces: Sequence[str], count: int) -> tuple[str, ...]:
    taken: list[str] = []
    for piece in pieces:
        if count <= 0:
            break
        taken.append(piece[:count])
        count -= len(piece)
    return tuple(taken)


def _scripted(
    body: Mapping[str, Any], directive: Directive, new_id: Callable[[str], str]
) -> Reply | None:
    if directive.has_json and _offered(body, STRUCTURED):
        return _with_tools(Reply(), body, (ToolCall(STRUCTURED, directive.json),), new_id)
    pieces: tuple[str, ...] = ()
    if directive.text is not None:
        pieces = _every(directive.text, 4)
    elif directive.tokens is not None:
        pieces = tuple(f"w{n} " for n in range(directive.tokens))
    elif directive.echo:
        pieces = _every(json.dumps(_summary(body), ensure_ascii=True), 16)
    elif directive.has_json:
        pieces = _every(json.dumps(directive.json), 4)
    elif not directive.has_content:
        if directive.stops_after is None or directive.stops_after >= CONTENT:
            return None
        pieces = tuple(f"w{n} " for n in range(directive.stops_after))
    answer = Reply(pieces, blocks=directive.blocks, endless=directive.endless)
    return _with_tools(answer, body, directive.tools, new_id)


def _with_tools(
    answer: Reply, body: Mapping[str, Any], calls: Sequence[ToolCall], new_id: Callable[[str], str]
) -> Reply:
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use"):
        calls = calls[:1]
    if not calls:
        return answer
    uses = tuple(
        ToolUse(
            id=call.id or new_id("toolu_"),
            name=_offered_name(body, call.name),
            input_json=_input_json(call),
            fragment=call.fragment,
            no_delta=call.no_delta,
        )
        for call in calls
    )
    return replace(answer, tools=uses, stop_reason="tool_use")


def _input_json(call: ToolCall) -> str:
    """Return the arguments as the API sends them: nothing at all for a call without arguments."""
    if call.raw is not None:
        return call.raw
    return json.dumps(call.input) if call.input != {} else ""


def _by_form(body: Mapping[str, Any], new_id: Callable[[str], str]) -> Reply | None:
    """Return the answer if the request requires a form: a forced tool, or a JSON schema."""
    choice = body.get("tool_choice")
    choice = choice if isinstance(choice, Mapping) else {}
    # Tools hidden behind a search cannot be called.
    tools = [tool for tool in body.get("tools") or [] if not tool.get("defer_loading")]
    answered = _last_results(body) is not None
    called: Mapping[str, Any] | None = None
    if choice.get("type") == "tool":
        called = _offered(body, str(choice.get("name")))
    elif choice.get("type") == "any" and tools:
        called = tools[0]
    elif not answered:
        called = _offered(body, STRUCTURED) or _called_for(body, tools)
    if called is not None:
        call = ToolCall(str(called["name"]), minimal(called.get("input_schema", {})))
        return _with_tools(Reply(), body, (call,), new_id)
    output_config = body.get("output_config")
    form = output_config.get("format") if isinstance(output_config, Mapping) else None
    if isinstance(form, Mapping):
        return Reply(_every(json.dumps(minimal(form.get("schema"))), 4))
    if _ASKS_FOR_JSON.search(text_of(body.get("system"))):
        return Reply(_every(json.dumps({"answer": _demo_text(body)}, ensure_ascii=False), 4))
    if (word := _ASKS_FOR_WORD.search(text_of(body.get("system")))) is not None:
        return Reply((word["word"],))
    return None


# A model follows its system prompt; these are phrases that it understands.
_ASKS_FOR_CALL = re.compile(r"by calling (?:one of the tools|the tool (?P<name>[\w-]+))")
_ASKS_FOR_WORD = re.compile(r"Answer each message with the one word (?P<word>\w+)")
_ASKS_FOR_JSON = re.compile(r"\bone JSON object\b")


def _called_for(
    body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return the tool that the system prompt requires."""
    asked = _ASKS_FOR_CALL.search(text_of(body.get("system")))
    if asked is None or not tools:
        return None
    name = asked["name"]
    if not name:
        return tools[0]
    return _offered(body, name) or _offered(body, _CLIENT_PREFIX + name)


def _demo_text(body: Mapping[str, Any]) -> str:
    results = _last_results(body)
    if results is not None:
        return f"This is a simulated answer. The tool said: “{_quotable(results)}”"
    asked = _quotable(_last_user_text(body))
    if not asked:
        return "This is a simulated answer: no model was asked, and nothing was in the question."
    return (
        "This is a simulated answer: everything between you and the model is real, "
        f"only the model is not. You asked: “{asked}” A real one would now say something wise."
    )


def _last_user_text(body: Mapping[str, Any]) -> str:
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user" and (text := _clean(text_of(message.get("content")))):
            return text
    return ""


def _last_results(body: Mapping[str, Any]) -> str | None:
    """Return the text of the tool results in the last user message, or None."""
    users = [m for m in body.get("messages") or [] if m.get("role") in ("user", "assistant")]
    if not users or users[-1].get("role") != "user":
        return None
    blocks = content_blocks(users[-1].get("content"))
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return "\n".join(text_of(r.get("content")) for r in results) if results else None


def _clean(text: str) -> str:
    return _DIRECTIVE.sub("", _REMINDER.sub("", text)).strip()


def _quotable(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]}…"


def _pieces_for_demo(text: str) -> tuple[str, ...]:
    words = re.findall(r"\s*\S+", text)
    size = max(1, -(-len(words) // _DEMO_PIECES))
    return tuple("".join(words[n : n + size]) for n in range(0, len(words), size))


def _every(text: str, size: int) -> tuple[str, ...]:
    return tuple(text[n : n + size] for n in range(0, len(text), size))


def _offered(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((tool for tool in body.get("tools") or [] if tool.get("name") == name), None)


def _offered_name(body: Mapping[str, Any], name: str) -> str:
    for candidate in (name, _CLIENT_PREFIX + name):
        if _offered(body, candidate) is not None:
            return candidate
    raise BadDirective(f"directive calls a tool that was not offered: {name}")


def _summary(body: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("model", "max_tokens", "temperature", "top_p", "stop_sequences", "tool_choice")
    return {
        **{key: body[key] for key in keys if key in body},
        "roles": [message.get("role") for message in body["messages"]],
        "texts": [text_of(message.get("content")) for message in body["messages"]],
        "tools": [tool.get("name") for tool in body.get("tools") or []],
        "system_length": len(text_of(body.get("system"))),
    }
