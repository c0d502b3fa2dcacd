"""Send a prompt to the bridge with OpenAI's client.

    python examples/python_openai.py [PROMPT]

BRIDGE_URL is the address (default http://127.0.0.1:8000/v1), BRIDGE_API_KEY the key if the server
requires one. Needs only `openai`, not the bridge's package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from openai import OpenAI


def ask(client: OpenAI, prompt: str, *, model: str = "default") -> Iterator[str]:
    """Stream the text of an answer.

    Raises openai.OpenAIError, and EOFError if the answer is incomplete.
    """
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            yield choice.delta.content or ""
            if choice.finish_reason:
                return
    raise EOFError("incomplete answer")


def main(prompt: str = "Why is the sky blue?") -> None:
    """Print the answer to one prompt."""
    client = OpenAI(
        base_url=os.environ.get("BRIDGE_URL", "http://127.0.0.1:8000/v1"),
        # The client requires a key even if the server does not.
        api_key=os.environ.get("BRIDGE_API_KEY") or "unused",
    )
    with client:
        for text in ask(client, prompt):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
