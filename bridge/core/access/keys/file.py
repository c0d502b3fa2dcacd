"""The file of hashed keys, and the one that has when they were last used."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bridge.core.access.keys.key import KeyStoreError
from bridge.core.access.keys.ring import KeyRing
from bridge.core.access.keys.store import KeyStore, later
from bridge.core.access.keys.text import BROKEN, NewerTextError, ring_of, text_of
from bridge.core.system import locked, private_folder, replace_file

KEYS_FILE: Final = "keys.json"
"""Its default name in the state folder."""
USED_FILE: Final = "keys-used.json"
"""The name, in the state folder, of the file that has when keys were last used."""
MAX_FILE_BYTES: Final = 1024 * 1024

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class KeyFile(KeyStore):
    """The file of hashed keys."""

    def __init__(self, path: Path, used_path: Path | None = None) -> None:
        """`used_path` is the file of the times of last use; None is one beside the keys."""
        self.path = path
        self.used_path = used_path or path.with_name(USED_FILE)

    @property
    def place(self) -> str:
        """Where the keys are, as the subject of a sentence."""
        return f"The key file {self.path}"

    @property
    def removal(self) -> str:
        """What an operator does to serve without keys again."""
        return "stop the server, delete that file and start it again"

    def signature(self) -> tuple[int, ...] | None:
        """Return a value that differs once the file has changed; None if there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return (error.errno or 0,)
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode)

    def ring(self) -> KeyRing:
        """Read the keys; none if there is no file. Raises KeyStoreError."""
        try:
            with self.path.open("rb") as file:
                self._check_safe(os.fstat(file.fileno()))
                text = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return KeyRing()
        except OSError as error:
            raise KeyStoreError(f"{self.place} cannot be read: {error.strerror}.") from None
        try:
            if len(text) > MAX_FILE_BYTES:
                raise ValueError("it is too large")
            return ring_of(text)
        except NewerTextError as error:
            raise KeyStoreError(
                f"{self.place} was written by a newer version of the bridge: {error}. Upgrade this "
                "one, or restore a file of its time."
            ) from None
        except BROKEN:
            # The error's own text could repeat the file's content.
            raise KeyStoreError(
                f"{self.place} is broken. Restore it, or move it away and create new "
                "keys with `bridge keys add NAME --mine`."
            ) from None

    def change(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        """Change the keys, by one process at a time; see `KeyStore.change`."""
        try:
            private_folder(self.path.parent)
            with locked(self.path):
                ring = change(self.ring())
                replace_file(self.path, text_of(ring))
        except OSError as error:
            raise KeyStoreError(f"{self.place} cannot be written: {error.strerror}.") from None
        return ring

    def used(self) -> Mapping[str, int]:
        """Read when keys were last used; nothing if that cannot be read."""
        try:
            content = json.loads(self.used_path.read_text(encoding="utf-8"))
            return {str(id): int(at) for id, at in content["used"].items()}
        except (OSError, *BROKEN):
            # It is written anew.
            return {}

    async def note_used(self, times: Mapping[str, int]) -> None:
        """Write when keys were last used, in a thread; see `KeyStore.note_used`."""
        await asyncio.to_thread(self._note_used, times)

    def _note_used(self, times: Mapping[str, int]) -> None:
        known = {key.id for key in self.read()}
        try:
            private_folder(self.used_path.parent)
            with locked(self.used_path):
                kept = {id: at for id, at in later(self.used(), times).items() if id in known}
                text = json.dumps({"version": 1, "used": kept}) + "\n"
                replace_file(self.used_path, text, durable=False)
        except OSError as error:
            raise KeyStoreError(f"{self.used_path} cannot be written: {error.strerror}.") from None

    def _check_safe(self, found: os.stat_result) -> None:
        """Check that no other user can write or replace the file, and so create a key."""
        folder = self.path.parent.stat()
        if found.st_mode & _OTHERS_MAY_WRITE or found.st_uid not in (os.geteuid(), 0):
            raise KeyStoreError(
                f"The key file {self.path} can be written by other users. Check that its keys are "
                f"yours, then: chown {os.geteuid()} and chmod 600 it."
            )
        if folder.st_mode & _OTHERS_MAY_WRITE and not folder.st_mode & stat.S_ISVTX:
            raise KeyStoreError(
                f"The folder of the key file, {self.path.parent}, can be written by other users. "
                "Move the file into a folder that only you can write to, and name it in "
                "BRIDGE_KEYS_FILE."
            )
