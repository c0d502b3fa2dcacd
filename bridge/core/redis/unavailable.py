"""The one error of the link."""

from __future__ import annotations


class RedisUnavailableError(Exception):
    """Redis cannot be reached, does not answer in time, or refuses the command.

    A command that was sent before may have been executed. The text is for the log: it names the
    cause and contains no secret.
    """
