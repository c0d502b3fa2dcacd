"""Operating system services: private files, sockets, host names, process termination."""

from bridge.core.system.garbage import freeze_garbage
from bridge.core.system.hosts import (
    check_host,
    check_origin,
    check_replica,
    is_loopback,
    matches,
    replica_of_host,
    same_origin,
    split_host,
)
from bridge.core.system.orphan_guard import OrphanGuard
from bridge.core.system.orphan_watchdog import MARK, born
from bridge.core.system.private_files import (
    locked,
    open_private,
    private_file,
    private_folder,
    replace_file,
)
from bridge.core.system.sqlite_files import identity_of, open_database, transaction
from bridge.core.system.tcp_connections import connections_to
from bridge.core.system.threads import LARGE_BYTES, off_loop
from bridge.core.system.unix_sockets import UnixSocket, UnixSocketError, is_served, make_unix_socket

__all__ = [
    "LARGE_BYTES",
    "MARK",
    "OrphanGuard",
    "UnixSocket",
    "UnixSocketError",
    "born",
    "check_host",
    "check_origin",
    "check_replica",
    "connections_to",
    "freeze_garbage",
    "identity_of",
    "is_loopback",
    "is_served",
    "locked",
    "make_unix_socket",
    "matches",
    "off_loop",
    "open_database",
    "open_private",
    "private_file",
    "private_folder",
    "replace_file",
    "replica_of_host",
    "same_origin",
    "split_host",
    "transaction",
]
