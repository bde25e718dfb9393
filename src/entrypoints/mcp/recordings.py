"""The recordings that a tool may read: files below one directory, and URLs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from ...application.ports.web_client import WebClient
from ...domain.errors import InvalidRequestError, UploadTooLargeError

_PIECE_BYTES = 1 << 18


class Recordings:
    """Opens what a caller names, and nothing outside of it."""

    def __init__(self, *, root: Path | None, web: WebClient, longest_bytes: int) -> None:
        """Allow files below `root`, of which symbolic links are followed first; ``None`` allows no files."""
        self._root = None if root is None else root.resolve()
        self._web = web
        self._longest_bytes = longest_bytes

    @asynccontextmanager
    async def open(self, *, path: str | None, url: str | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Give the bytes of one recording.

        Raises:
            InvalidRequestError: Not one of both was given, or there is no such file below the root.
            UploadTooLargeError: The file is larger than an upload may be.
            UrlNotAllowedError, UrlUnreachableError: See `WebClient`.
        """
        if (path is None) == (url is None):
            raise InvalidRequestError("Give either path or url.", param="path")
        if url is not None:
            async with self._web.fetch(url) as pieces:
                yield pieces
            return
        assert path is not None  # noqa: S101
        opening = asyncio.create_task(asyncio.to_thread(self._opened, path))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread opens it all the same.
            opening.add_done_callback(_close)
            raise
        with file:
            async with aclosing(_pieces(file)) as pieces:
                yield pieces

    def _opened(self, path: str) -> BinaryIO:
        if self._root is None:
            raise InvalidRequestError("This service reads no files: give a url.", param="path")
        missing = InvalidRequestError("There is no such file below the directory that may be read.", param="path")
        try:
            found = (self._root / path).resolve(strict=True)
            # Said of both alike, so that nobody learns what lies elsewhere.
            if not found.is_relative_to(self._root) or not found.is_file():
                raise missing
            if found.stat().st_size > self._longest_bytes:
                raise UploadTooLargeError(limit_bytes=self._longest_bytes)
            return found.open("rb")
        except (OSError, ValueError, RuntimeError) as error:
            raise missing from error


def _close(opening: "asyncio.Task[BinaryIO]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
