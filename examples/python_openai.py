"""Ask the bridge by OpenAI's own client.

    python examples/python_openai.py "Why is the sky blue?"

The address is that of BRIDGE_URL, or http://127.0.0.1:8000/v1, and BRIDGE_API_KEY is the key where
the server asks for one. It needs `openai` and nothing of the bridge's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from openai import OpenAI


def ask(client: OpenAI, prompt: str, *, model: str = "default") -> Iterator[str]:
    """Give the text of an answer, piece by piece.

    Raises openai.OpenAIError, and EOFError where the answer was cut.
    """
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            yield choice.delta.content or ""
            if choice.finish_reason:
                return
    raise EOFError("the answer was cut")


def main(prompt: str) -> None:
    """Print the answer to one prompt."""
    client = OpenAI(
        base_url=os.environ.get("BRIDGE_URL", "http://127.0.0.1:8000/v1"),
        # The client wants one in any case.
        api_key=os.environ.get("BRIDGE_API_KEY") or "unused",
    )
    with client:
        for text in ask(client, prompt):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
