"""Clients of the running server, for the command line: one a door, with the same calls.

`connection` alone knows how a server is reached and what a key looks like on the way.
"""

from bridge.client.asking import Asked, ChatError, Client, Done, Picture, Question, Text, Turn

__all__ = ["Asked", "ChatError", "Client", "Done", "Picture", "Question", "Text", "Turn"]
