"""Conversation objects in the SQLite file: what their callers put into them, in order.

They expire and make room like the conversations of stored responses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from bridge.core.answers.file import SqliteFile
from bridge.core.answers.store import JsonDict, StoredConversation
from bridge.core.answers.texts import dumps, loads
from bridge.core.contract import TooLargeError
from bridge.core.system import transaction

_MINE = (
    "SELECT o.created_at, o.metadata FROM conversation_objects AS o "
    "JOIN conversations AS c ON c.id = o.id WHERE o.id = ? AND c.caller = ? AND c.used_at > ?"
)


class SqliteConversationStore:
    """Stores conversations in the file of the stored responses."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def create(
        self, owner: str, conversation: StoredConversation, items: Sequence[JsonDict]
    ) -> bool:
        """Store a new conversation; return whether there was room for it."""
        return await self._file.run(
            lambda database: self._create(database, owner, conversation, items)
        )

    async def get(self, owner: str, id: str) -> StoredConversation | None:
        """Return a conversation, or None if there is none."""
        return await self._file.run(lambda database: self._get(database, owner, id))

    async def update(
        self, owner: str, id: str, metadata: Mapping[str, str]
    ) -> StoredConversation | None:
        """Replace the metadata of a conversation and return it, or None if there is none."""
        return await self._file.run(lambda database: self._update(database, owner, id, metadata))

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a conversation for good; return whether it existed."""
        return await self._file.run(lambda database: self._delete(database, owner, id))

    async def items(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the items of a conversation, oldest first, or None if there is none.

        Raises TooLargeError beyond `max_bytes`.
        """
        return await self._file.run(lambda database: self._items(database, owner, id, max_bytes))

    async def item(self, owner: str, id: str, item: str) -> JsonDict | None:
        """Return one item, or None if there is none."""
        return await self._file.run(lambda database: self._item(database, owner, id, item))

    async def add(self, owner: str, id: str, items: Sequence[JsonDict]) -> bool:
        """Add items at the end; return whether the conversation is there and had room."""
        return await self._file.run(lambda database: self._add(database, owner, id, items))

    async def delete_item(self, owner: str, id: str, item: str) -> bool:
        """Delete an item for good; return whether it existed."""
        return await self._file.run(lambda database: self._delete_item(database, owner, id, item))

    # In the thread

    def _create(
        self,
        database: sqlite3.Connection,
        owner: str,
        conversation: StoredConversation,
        items: Sequence[JsonDict],
    ) -> bool:
        with transaction(database) as abandon:
            self._file.expire_in(database)
            self._file.used(database, conversation.id, owner)
            database.execute(
                "INSERT INTO conversation_objects VALUES (?, ?, ?)",
                (conversation.id, conversation.created_at, dumps(dict(conversation.metadata))),
            )
            _append(database, conversation.id, items)
            if not self._file.made_room(database, conversation.id):
                abandon()
                return False
        return True

    def _get(self, database: sqlite3.Connection, owner: str, id: str) -> StoredConversation | None:
        row = database.execute(_MINE, (id, owner, self._file.oldest)).fetchone()
        return None if row is None else StoredConversation(id, row[0], loads(row[1]))

    def _update(
        self, database: sqlite3.Connection, owner: str, id: str, metadata: Mapping[str, str]
    ) -> StoredConversation | None:
        with transaction(database):
            found = self._get(database, owner, id)
            if found is None:
                return None
            self._file.used(database, id, owner)
            database.execute(
                "UPDATE conversation_objects SET metadata = ? WHERE id = ?",
                (dumps(dict(metadata)), id),
            )
        return StoredConversation(id, found.created_at, metadata)

    def _delete(self, database: sqlite3.Connection, owner: str, id: str) -> bool:
        with transaction(database):
            if self._get(database, owner, id) is None:
                return False
            database.execute("DELETE FROM conversations WHERE id = ?", (id,))
        _forget_journal(database)
        return True

    def _items(
        self, database: sqlite3.Connection, owner: str, id: str, max_bytes: int
    ) -> list[JsonDict] | None:
        with transaction(database, "BEGIN"):
            if self._get(database, owner, id) is None:
                return None
            (size,) = database.execute(
                "SELECT total(length(item)) FROM conversation_items WHERE conversation = ?", (id,)
            ).fetchone()
            if size > max_bytes:
                raise TooLargeError(
                    f"The conversation has more than {max_bytes} bytes. Start a new one."
                )
            rows = database.execute(
                "SELECT item FROM conversation_items WHERE conversation = ? ORDER BY position",
                (id,),
            ).fetchall()
        return [loads(item) for (item,) in rows]

    def _item(
        self, database: sqlite3.Connection, owner: str, id: str, item: str
    ) -> JsonDict | None:
        with transaction(database, "BEGIN"):
            if self._get(database, owner, id) is None:
                return None
            row = database.execute(
                "SELECT item FROM conversation_items WHERE conversation = ? AND id = ?", (id, item)
            ).fetchone()
        found: JsonDict | None = None if row is None else loads(row[0])
        return found

    def _add(
        self, database: sqlite3.Connection, owner: str, id: str, items: Sequence[JsonDict]
    ) -> bool:
        with transaction(database) as abandon:
            self._file.expire_in(database)
            if self._get(database, owner, id) is None:
                return False
            self._file.used(database, id, owner)
            _append(database, id, items)
            if not self._file.made_room(database, id):
                abandon()
                return False
        return True

    def _delete_item(self, database: sqlite3.Connection, owner: str, id: str, item: str) -> bool:
        with transaction(database):
            if self._get(database, owner, id) is None:
                return False
            deleted = database.execute(
                "DELETE FROM conversation_items WHERE conversation = ? AND id = ?", (id, item)
            ).rowcount
        _forget_journal(database)
        return deleted > 0


def _append(database: sqlite3.Connection, id: str, items: Sequence[JsonDict]) -> None:
    (last,) = database.execute(
        "SELECT coalesce(max(position), 0) FROM conversation_items WHERE conversation = ?", (id,)
    ).fetchone()
    database.executemany(
        "INSERT INTO conversation_items VALUES (?, ?, ?, ?)",
        [(id, last + n, item["id"], dumps(item)) for n, item in enumerate(items, start=1)],
    )


def _forget_journal(database: sqlite3.Connection) -> None:
    # The journal still contains what was deleted.
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
