"""`bridge chat`."""

from bridge.cli.chat.command import chat

__all__ = ["chat"]
