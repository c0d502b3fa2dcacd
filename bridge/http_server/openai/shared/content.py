"""The parts of a message: text, images and documents."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias, TypeVar, assert_never

from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InlineData,
    InvalidRequestError,
    TextPart,
    UnsupportedError,
    UrlSource,
)
from bridge.core.validation import bad_image, media_misplaced, missing
from bridge.http_server.openai.shared.wire_content import (
    ContentPart,
    ContentPartFile,
    ContentPartImage,
    ContentPartInputAudio,
    ContentPartRefusal,
    ContentPartText,
    FileSource,
    ImageURL,
)
from bridge.http_server.wire import checked_base64

_DATA_URL: Final = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.DOTALL | re.IGNORECASE)
_PDF_START: Final = base64.b64encode(b"%PDF-")[:6].decode()

Decoded: TypeAlias = TextPart | ImagePart | DocumentPart
"""A part that any message may have."""

_Part = TypeVar("_Part")


def decode_text(content: str | Sequence[ContentPart] | None, where: str) -> list[TextPart]:
    """Decode content that may contain text only, without its empty texts."""
    texts = []
    for part in decode_content(content, where):
        if not isinstance(part, TextPart):
            raise media_misplaced(where)
        texts.append(part)
    return texts


def decode_content(content: str | Sequence[ContentPart] | None, where: str) -> list[Decoded]:
    """Decode the content of a message, without its empty texts."""
    return decode_parts(content, where, _decode_part)


def decode_parts(
    content: str | Sequence[_Part] | None, where: str, decode: Callable[[_Part, str], Decoded]
) -> list[Decoded]:
    """Decode content with `decode`, which gets a part and its place, without its empty texts."""
    if isinstance(content, str):
        return [TextPart(content)] if content else []
    decoded = (decode(part, f"{where}[{index}]") for index, part in enumerate(content or ()))
    return [part for part in decoded if part != TextPart("")]


def refuse_audio(where: str) -> NoReturn:
    """Raise for an audio part."""
    raise UnsupportedError(
        f"'{where}' is audio, which Claude does not support. Send a transcript as text.",
        field=f"{where}.type",
    )


def _decode_part(part: ContentPart, where: str) -> Decoded:
    match part:
        case ContentPartText():
            return TextPart(part.text)
        case ContentPartRefusal():
            return TextPart(part.refusal)
        case ContentPartImage():
            return _image(part.image_url, f"{where}.image_url")
        case ContentPartFile():
            return _document(part.file, f"{where}.file")
        case ContentPartInputAudio():
            refuse_audio(where)
        case _:
            assert_never(part)


def _image(image: ImageURL | str, where: str) -> ImagePart:
    if isinstance(image, str):
        return decode_image(image, where)
    return decode_image(image.url, f"{where}.url")


def decode_image(url: str, where: str) -> ImagePart:
    """Decode an image: an https URL or a data URL."""
    if url.lower().startswith("https://"):
        return ImagePart(UrlSource(url), origin=where)
    if not url.lower().startswith("data:"):
        raise bad_image(where, "Use an https URL or a data URL.")
    media_type, data = _data_url(url, where)
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    return ImagePart(InlineData(media_type, data), origin=where)


def _document(file: FileSource, where: str) -> DocumentPart:
    refuse_file_id(file.file_id, where, "file_data")
    if file.file_data is None:
        raise missing(f"{where}.file_data")
    return decode_document(file.file_data, file.filename, f"{where}.file_data")


def refuse_file_id(file_id: str | None, where: str, instead: str) -> None:
    """Raise for a reference to a file; `instead` is the field for its data."""
    if file_id is not None:
        raise UnsupportedError(
            f"'{where}.file_id': this server stores no files. Send the data as {instead}.",
            field=f"{where}.file_id",
        )


def decode_document(file_data: str, filename: str | None, where: str) -> DocumentPart:
    """Decode a PDF or a text, in base64 or as a data URL."""
    if file_data.lower().startswith("data:"):
        media_type, data = _data_url(file_data, where)
    else:
        data = checked_base64(file_data, where)
        media_type = "application/pdf" if data.startswith(_PDF_START) else "text/plain"
    if media_type.startswith("text/") or media_type == "application/json":
        media_type = "text/plain"
    return DocumentPart(InlineData(media_type, data), title=filename or None, origin=where)


def _data_url(url: str, where: str) -> tuple[str, str]:
    match = _DATA_URL.fullmatch(url)
    if match is None or ";base64" not in match[2].lower():
        raise InvalidRequestError(
            f"'{where}' must be a base64 data URL, such as data:image/png;base64,iVBOR…",
            field=where,
        )
    return match[1].strip().lower(), checked_base64(match[3], where)
