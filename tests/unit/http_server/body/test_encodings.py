from __future__ import annotations

import gzip
import zlib

import pytest

from bridge.core.contract import InvalidRequestError
from bridge.http_server.body.encodings import BodyTooLargeError, check_encoding, decoded
from bridge.http_server.errors import HttpError

BODY = b'{"messages": []}' * 50
RAW = zlib.compress(BODY, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("named", "name"),
    [("", ""), ("identity", ""), (" GZIP ", "gzip"), ("x-gzip", "gzip"), ("deflate", "deflate")],
)
def test_an_encoding_that_can_be_undone(named: str, name: str) -> None:
    assert check_encoding(named) == name


@pytest.mark.parametrize("named", ["br", "zstd", "gzip, gzip"])
def test_another_is_refused_with_those_that_can(named: str) -> None:
    with pytest.raises(HttpError, match="gzip, deflate") as caught:
        check_encoding(named)
    assert caught.value.status == 415
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BODY, ""),
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (RAW, "deflate"),
    ],
    ids=["plain", "gzip", "two of gzip", "deflate", "deflate without a head"],
)
def test_it_is_undone(body: bytes, encoding: str) -> None:
    assert decoded(body, encoding, len(BODY)) == BODY


@pytest.mark.parametrize(
    "body", [gzip.compress(BODY), gzip.compress(b"a") * len(BODY)], ids=["one member", "many"]
)
def test_it_is_never_unpacked_beyond_its_bound(body: bytes) -> None:
    with pytest.raises(BodyTooLargeError):
        decoded(body, "gzip", len(BODY) - 1)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "gzip"),
        (gzip.compress(BODY)[:-1], "gzip"),
        (gzip.compress(BODY) + b"x", "gzip"),
        (zlib.compress(BODY) * 2, "deflate"),
        (b"plain", "deflate"),
    ],
    ids=["nothing", "cut", "more after it", "two of deflate", "plain"],
)
def test_what_is_not_of_its_declared_type_is_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decoded(body, encoding, 10 * len(BODY))
    assert caught.value.reason == "INVALID_CONTENT_ENCODING"
