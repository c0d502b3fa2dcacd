"""The parts of a message in chat completions; the Responses API accepts some of them, too."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from bridge.http_server.wire import REFUSED, UNSERVED, WireModel, named_unless, needing

Detail: TypeAlias = Annotated[str | None, named_unless("auto", "high", "original")]
"""The resolution of an image. Claude always sees the whole image, as these values ask."""


class ContentPartText(WireModel):
    """A text."""

    type: Literal["text"]
    text: str


class ContentPartRefusal(WireModel):
    """An earlier refusal by the assistant."""

    type: Literal["refusal"]
    refusal: str


class ImageURL(WireModel):
    """An https URL or a data URL."""

    url: str
    detail: Detail = None


class ContentPartImage(WireModel):
    """An image. Some clients send the URL without the object around it."""

    type: Literal["image_url"]
    image_url: ImageURL | str


class FileSource(WireModel):
    """A file: its data or an id."""

    model_config = needing("file_data")

    file_data: str | None = None
    file_id: Annotated[str | None, REFUSED] = None
    filename: str | None = None


class ContentPartFile(WireModel):
    """A document."""

    type: Literal["file"]
    file: FileSource


class ContentPartInputAudio(WireModel):
    """Audio, which Claude does not support."""

    model_config = UNSERVED

    type: Literal["input_audio"]
    input_audio: Any = None


ContentPart: TypeAlias = Annotated[
    ContentPartText
    | ContentPartRefusal
    | ContentPartImage
    | ContentPartFile
    | ContentPartInputAudio,
    Field(discriminator="type"),
]
