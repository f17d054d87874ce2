"""WADO-RS (PS3.18 section 10.4): instances, frames, bulk data and pictures as answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from fastapi import Request
from pydicom import dcmread
from starlette.responses import Response, StreamingResponse

from viewer_api.context import WebContext
from viewer_api.dicomweb.attributes import instance_url
from viewer_api.dicomweb.frames import FrameForm, form_of, read_frames
from viewer_api.dicomweb.held import Held
from viewer_api.dicomweb.media import (
    DICOM,
    EXPLICIT_LITTLE_ENDIAN,
    FRAME_TYPES,
    JSON,
    OCTETS,
    PDF,
    XML,
    Range,
    Wrapping,
    accepted,
    choose,
    pick_syntax,
    syntaxes_of,
    wants_xml,
)
from viewer_api.dicomweb.metadata import MetadataCache, find_bulk
from viewer_api.dicomweb.multipart import Part, related, single
from viewer_api.dicomweb.native_model import native_model
from viewer_api.dicomweb.opened import copy_bytes, opened, whole_file
from viewer_api.dicomweb.rendering import JPEG, PNG, View, render_frame
from viewer_api.dicomweb.transcode import can_transcode, explicit_little_endian
from viewer_api.errors import NotAcceptableError, PageNotFoundError

PARTIAL_CONTENT = 206
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
PIXEL_TAGS = ("7FE00008", "7FE00009", "7FE00010")
PICTURES = (JPEG, PNG)


@dataclass(frozen=True, slots=True)
class Retriever:
    """Answers one request. ``base`` is the address that links begin with."""

    request: Request
    context: WebContext
    base: str

    def instances(self, held: Sequence[Held], *, is_one: bool) -> StreamingResponse:
        """Return instances as Part 10 files; those that can't be given as wished are left out.

        Raises
        ------
        NotAcceptableError
            None can.
        """
        ranges = accepted(self.request)
        choice = choose(ranges, (DICOM,), Wrapping.EITHER if is_one else Wrapping.ALWAYS)
        wanted = syntaxes_of(ranges, DICOM)
        parts = []
        for one in held:
            syntax = pick_syntax(
                one.facts.transfer_syntax_uid, wanted, can_decode=can_transcode(one.facts)
            )
            if syntax is not None:
                kind = f"{DICOM}; transfer-syntax={syntax}"
                parts.append(Part(kind, self._url(one), self._file(one, syntax)))
        if not parts:
            raise NotAcceptableError("Not in that transfer syntax; accept transfer-syntax=*.")
        if not choice.is_multipart:
            return single(parts[0])
        return related(parts, DICOM, 200 if len(parts) == len(held) else PARTIAL_CONTENT)

    def _file(self, held: Held, syntax: str) -> Iterator[bytes]:
        if syntax == held.facts.transfer_syntax_uid:
            with held.open(self.context) as file:
                yield from whole_file(file)
        else:
            with opened(self.context, held) as instance:
                yield from explicit_little_endian(instance)

    def metadata(self, held: Sequence[Held]) -> StreamingResponse:
        """Return headers as JSON or XML, one after the other."""
        cache: MetadataCache = self.request.app.state.metadata
        if wants_xml(self.request):
            models = (
                Part(XML, self._url(one), [native_model(json.loads(data))])
                for one in held
                for data in [cache.get(self.context, one, self.base)]
            )
            return related(models, XML)

        def lines() -> Iterator[bytes]:
            for number, one in enumerate(held):
                yield (b"," if number else b"[") + cache.get(self.context, one, self.base)
            yield b"]"

        return StreamingResponse(lines(), media_type=JSON)

    def frames(self, held: Held, numbers: list[int]) -> Response:
        """Return frames, each a part; one frame may come alone."""
        with opened(self.context, held) as instance:  # for deflated ones another than as stored
            if instance.pixels is None:
                raise PageNotFoundError("The instance has no frames.")
            if max(numbers) > instance.frames:
                raise PageNotFoundError("The instance has no such frame.")
            syntax = instance.syntax
        choice, form = self._form(syntax, is_one=len(numbers) == 1)

        def parts() -> Iterator[Part]:
            with opened(self.context, held) as instance:
                frames = read_frames(instance, numbers, form)
                for number, data in zip(numbers, frames, strict=True):
                    where = f"{self._url(held)}/frames/{number}"
                    yield Part(form.content_type, where, [data])

        if choice.is_multipart:
            return related(parts(), form.media_type)
        return single(_only(parts()))

    def _form(self, syntax: str, *, is_one: bool) -> tuple[Range, FrameForm]:
        """Return the best liked form in which the frames of an instance can be given."""
        offers = [OCTETS, *([FRAME_TYPES[syntax]] if syntax in FRAME_TYPES else [])]
        for one in accepted(self.request):
            for offer in offers:
                try:
                    choice = choose([one], [offer], Wrapping.EITHER)
                except NotAcceptableError:
                    continue
                wanted = {one.transfer_syntax or EXPLICIT_LITTLE_ENDIAN}
                form = form_of(syntax, offer, wanted)
                if form is not None and (is_one or choice.is_multipart):
                    return choice, form
        raise NotAcceptableError(
            f"Frames are given as {' or '.join(offers)}, several as multipart/related."
        )

    def bulk(self, held: Held, path: str) -> Response:
        """Return a long value: pixels without compression, others as they are.

        Raises
        ------
        PageNotFoundError
            There is no such value.
        """
        where = f"{self._url(held)}/bulkdata/{path}"
        with opened(self.context, held) as instance:
            if path.upper() in PIXEL_TAGS and instance.pixels is not None:
                choice = choose(accepted(self.request), (OCTETS,), Wrapping.EITHER)
                kind = f"{OCTETS}; transfer-syntax={EXPLICIT_LITTLE_ENDIAN}"
                return _wrapped(choice, Part(kind, where, self._pixels(held)))
            element = find_bulk(instance.header, path)
            is_pdf = path == "00420011" and held.facts.sop_class_uid == ENCAPSULATED_PDF
            if element is None:
                raise PageNotFoundError("The instance has no such bulk data.")
            data = bytes(element.value or b"")
            length = instance.header.get("EncapsulatedDocumentLength")
        offers = (OCTETS, PDF) if is_pdf else (OCTETS,)
        choice = choose(accepted(self.request), offers, Wrapping.EITHER)
        if choice.media_type == PDF and length:
            data = data[: int(length)]
        return _wrapped(choice, Part(choice.media_type, where, [data]))

    def _pixels(self, held: Held) -> Iterator[bytes]:
        form = FrameForm(OCTETS, EXPLICIT_LITTLE_ENDIAN)
        with opened(self.context, held) as instance:
            if instance.is_native:
                assert instance.pixels is not None
                yield from copy_bytes(instance.file, instance.pixels.start, instance.pixels.length)
            else:
                yield from read_frames(instance, list(range(1, instance.frames + 1)), form)

    def rendered(
        self,
        held: Sequence[Held],
        numbers: list[int] | None,
        view: Callable[[str], View],
        *,
        is_one: bool,
    ) -> Response:
        """Return pictures of frames, or of the first frame of each image among instances."""
        ranges = accepted(self.request)
        if is_one and numbers is None and held[0].facts.sop_class_uid == ENCAPSULATED_PDF:
            choose(ranges, (PDF,), Wrapping.NEVER)
            return self._document(held[0])
        images = [one for one in held if one.facts.has_pixel_data]
        if not images:
            raise NotAcceptableError("There is no image to draw.")
        one_picture = is_one and len(numbers or [1]) == 1
        # what people open in a browser is a picture, unless there are many
        wrapping = Wrapping.NEVER if one_picture else Wrapping.ALWAYS
        choice = choose(ranges, PICTURES, wrapping)
        wanted = view(choice.media_type)

        def parts() -> Iterator[Part]:
            for one in images:
                with opened(self.context, one) as instance:
                    for number in numbers or [1]:
                        data = render_frame(instance, number, wanted)
                        where = f"{self._url(one)}/frames/{number}/rendered"
                        yield Part(choice.media_type, where, [data])

        if one_picture:
            (data,) = _only(parts()).chunks
            return Response(data, media_type=choice.media_type)
        return related(parts(), choice.media_type)

    def thumbnail(self, held: Sequence[Held], number: int | None, view: View) -> Response:
        """Return a small picture of what is in the middle of the first series with images."""
        choose(accepted(self.request), (JPEG,), Wrapping.NEVER)
        images = [one for one in held if one.facts.has_pixel_data]
        if not images:
            raise PageNotFoundError("There is no image to draw.")
        first = images[0].facts.series_instance_uid
        series = [one for one in images if one.facts.series_instance_uid == first]
        chosen = series[len(series) // 2]
        with opened(self.context, chosen) as instance:
            middle = instance.frames // 2 + 1 if instance.frames > 1 else 1
            data = render_frame(instance, number or middle, view)
        return Response(data, media_type=JPEG)

    def _document(self, held: Held) -> Response:
        with held.open(self.context) as file:
            dataset = dcmread(BytesIO(file.read()))
        data = bytes(dataset.EncapsulatedDocument)
        return Response(data[: dataset.get("EncapsulatedDocumentLength")], media_type=PDF)

    def _url(self, held: Held) -> str:
        return instance_url(held.facts, self.base)


def _wrapped(choice: Range, part: Part) -> Response:
    return related([part], choice.media_type) if choice.is_multipart else single(part)


def _only(parts: Iterable[Part]) -> Part:
    (part,) = parts
    return part
