"""Anthropic's API: messages and models."""

from bridge.http_server.anthropic.dialect import Anthropic

__all__ = ["Anthropic"]
