"""A program that uses LiteLLM's `anthropic/` provider, and prints what it got: one JSON object.

It runs in a virtual environment of its own, so it imports nothing of this repository.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm  # type: ignore[import-not-found]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def main(base_url: str, key: str, prompts: dict[str, str]) -> dict[str, Any]:
    """Send each prompt; return the answers by the prompt's name."""
    options: dict[str, Any] = {
        "model": "anthropic/claude-opus-4-8",
        "api_base": base_url,
        "api_key": key,
        "max_tokens": 999,
        "num_retries": 0,
        "max_retries": 0,
    }

    def ask(*messages: Any, **more: Any) -> Any:
        return litellm.completion(messages=list(messages), **options, **more)

    def user(name: str) -> dict[str, str]:
        return {"role": "user", "content": prompts[name]}

    whole = ask({"role": "system", "content": "Be kind."}, user("whole"))
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(user("streamed"), stream=True)]
    calling = ask(user("tool"), tools=[WEATHER]).choices[0].message
    (call,) = calling.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": prompts["result"]}
    called = ask(user("tool"), calling, result, tools=[WEATHER])
    thinks = {"thinking": {"type": "adaptive"}}
    thought = ask(user("thinking"), **thinks).choices[0].message
    again = ask(user("thinking"), thought, user("again"), **thinks)
    try:
        ask(user("error"))
        error = ""
    except litellm.RateLimitError as refused:
        error = str(refused)
    return {
        "whole": whole.choices[0].message.content,
        "usage": whole.usage.completion_tokens,
        "pieces": [piece for piece in pieces if piece],
        "call": [call.function.name, json.loads(call.function.arguments)],
        "called": called.choices[0].message.content,
        "thinking": thought.reasoning_content,
        "again": again.choices[0].message.content,
        "error": error,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
