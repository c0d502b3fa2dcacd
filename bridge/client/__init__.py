"""Clients of the running server for the command line: one per API, with the same methods.

Only `connection` knows how to reach a server and how to send the key. A command that uses HTTP
does not import gRPC.
"""

from typing import TYPE_CHECKING

from bridge.lazy_face import lazy_face

if TYPE_CHECKING:
    from bridge.client.asking import ChatError, Client, Image, Question, Turn
    from bridge.client.chat_session import (
        Conversation,
        TurnResult,
        load_image,
        readable,
        schema_of,
    )
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
                "Image",
                "Question",
                "Turn",
            ),
            "chat_session": (
                "Conversation",
                "TurnResult",
                "load_image",
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
    "Image",
    "Question",
    "ServerAddress",
    "Turn",
    "TurnResult",
    "certified_name",
    "load_image",
    "readable",
    "schema_of",
    "target_of",
]
