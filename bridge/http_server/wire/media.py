"""Data in a request: base64, checked."""

from __future__ import annotations

import base64
import binascii

from bridge.core.contract import InvalidRequestError


def checked_base64(data: str, where: str) -> str:
    """Return base64 without its line breaks; raises InvalidRequestError that names `where`."""
    data = "".join(data.split())
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(f"'{where}' is not valid base64.", field=where) from None
    return data
