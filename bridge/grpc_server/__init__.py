"""The gRPC server: decodes calls, calls the core, encodes its events. It makes no decisions."""

import os

# gRPC's fork handlers stall or break a program that starts child processes, as the bridge does.
# gRPC reads this once, when it is first imported, so it has to be set before that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from bridge.grpc_server.connections.limits import ConnectionLimits
from bridge.grpc_server.server import GrpcServer

__all__ = ["ConnectionLimits", "GrpcServer"]
