"""Multipart/related answers (RFC 2387), part by part and chunk by chunk."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import StreamingResponse


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its headers, and its bytes, which come while it is sent."""

    content_type: str
    location: str
    """where it can be had alone, or empty"""
    chunks: Iterable[bytes]


def related(parts: Iterable[Part], media_type: str, status: int = 200) -> StreamingResponse:
    """Return an answer with many parts.

    The first chunk of the first part is made before the answer begins, so that what fails there is
    an error of its own. What fails later breaks the answer off, and the client sees it.
    """
    boundary = secrets.token_hex(16)
    kind = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return StreamingResponse(_started(_lines(parts, boundary)), status, media_type=kind)


def single(part: Part) -> StreamingResponse:
    """Return an answer that is a part alone."""
    headers = {"content-location": part.location}
    return StreamingResponse(_started(iter(part.chunks)), 200, headers, part.content_type)


def _started(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = []
    with suppress(StopIteration):
        first.append(next(chunks))

    def rest() -> Iterator[bytes]:
        yield from first
        yield from chunks

    return rest()


def _lines(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for number, part in enumerate(parts):
        headers = [f"--{boundary}", f"Content-Type: {part.content_type}"]
        headers += [f"Content-Location: {part.location}"] if part.location else []
        head = ("\r\n" * (number > 0) + "\r\n".join([*headers, "", ""])).encode()
        chunks = iter(part.chunks)
        yield head + next(chunks, b"")
        yield from chunks
    yield f"\r\n--{boundary}--\r\n".encode()
