"""Clients of the running server, for the command line: one a door, with the same calls.

`connection` alone knows how a server is reached and what a key looks like on the way. A command
that asks over HTTP does not import gRPC.
"""

from typing import TYPE_CHECKING

from bridge.lazy_face import lazy_face

if TYPE_CHECKING:
    from bridge.client.asking import ChatError, Client, Picture, Question, Turn
    from bridge.client.chat_session import Conversation, Spoken, picture_of, readable, schema_of
    from bridge.client.connection import GrpcAddress, ServerAddress, certified_name, target_of
    from bridge.client.grpc import GrpcClient
    from bridge.client.http import HttpClient
else:
    __getattr__ = lazy_face(
        __name__,
        {
            "asking": (
                "ChatError",
                "Client",
                "Picture",
                "Question",
                "Turn",
            ),
            "chat_session": (
                "Conversation",
                "Spoken",
                "picture_of",
                "readable",
                "schema_of",
            ),
            "connection": (
                "GrpcAddress",
                "ServerAddress",
                "certified_name",
                "target_of",
            ),
            "grpc": ("GrpcClient",),
            "http": ("HttpClient",),
        },
    )

__all__ = [
    "ChatError",
    "Client",
    "Conversation",
    "GrpcAddress",
    "GrpcClient",
    "HttpClient",
    "Picture",
    "Question",
    "ServerAddress",
    "Spoken",
    "Turn",
    "certified_name",
    "picture_of",
    "readable",
    "schema_of",
    "target_of",
]
