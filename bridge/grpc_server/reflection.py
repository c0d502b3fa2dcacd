"""Server reflection under both of its names.

Newer clients ask for `grpc.reflection.v1`, older ones for `grpc.reflection.v1alpha`. The messages
are the same on the wire, and grpcio-reflection has only those of v1alpha.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToJson, Parse
from grpc_reflection.v1alpha import reflection, reflection_pb2

ALPHA_NAME: Final[str] = reflection.SERVICE_NAME
NAME: Final = ALPHA_NAME.replace("v1alpha", "v1")
NAMES: Final = (NAME, ALPHA_NAME)
"""The services, by their full names."""


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Serve reflection of `services` and of itself, under both names."""
    pool: Any = _Descriptors()
    servicer: Any = reflection.aio.ReflectionServicer((*services, *NAMES), pool=pool)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": method}
    for name in NAMES:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        server.add_registered_method_handlers(name, handlers)


class _Descriptors:
    """The default pool, and beside it the description of reflection v1.

    It is not added to the default pool, where a program's own stubs of v1 may have to go.
    """

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()
        alpha = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        self._v1 = descriptor_pool.DescriptorPool()
        # As JSON text, since the name is in many places: of the file, its package, its types.
        self._v1.Add(Parse(MessageToJson(alpha).replace("v1alpha", "v1"), FileDescriptorProto()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._default, name)

    def FindFileByName(self, name: str) -> FileDescriptor:
        try:
            return self._v1.FindFileByName(name)
        except KeyError:
            return self._default.FindFileByName(name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._v1.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._default.FindFileContainingSymbol(symbol)
