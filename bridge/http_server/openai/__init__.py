"""OpenAI's API: chat completions, responses, the legacy completions, and models."""

from bridge.http_server.openai.dialect import OpenAI

__all__ = ["OpenAI"]
