"""Standard output for long listings. Whoever reads it may stop, as a pager does; the catalogue must not wait for that.

A listing is read from the catalogue in one moment, and as long as that lasts, the catalogue's write-ahead log only grows. So
what nobody takes is kept in a temporary file, and the listing is read to its end.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import tempfile
import time
from types import TracebackType
from typing import BinaryIO

_BATCH = 1 << 15
_PATIENCE = 1.0
"""Seconds that a reader may let us wait, all in all, before the rest is kept for it."""
_AT_ONCE = select.PIPE_BUF
"""Bytes that a pipe takes without waiting when it says that it takes any."""


class Outlet:
    """A context manager; what was written is with the reader when it ends. Raises BrokenPipeError when that one has gone."""

    def __init__(self) -> None:
        self._batch: list[str] = []
        self._size = 0
        self._waited = 0.0
        self._kept: BinaryIO | None = None
        self._descriptor = _descriptor()

    def __enter__(self) -> Outlet:
        sys.stdout.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None or not issubclass(kind, BrokenPipeError):
                self._flush()
                self._drain()
        finally:
            if self._kept is not None:
                self._kept.close()

    def write(self, text: str) -> None:
        """As ``sys.stdout.write``, but it does not wait for the reader."""
        if self._descriptor is None:
            sys.stdout.write(text)
            return
        self._batch.append(text)
        self._size += len(text)
        if self._size >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._descriptor is None:
            sys.stdout.flush()
            return
        content = "".join(self._batch).encode(sys.stdout.encoding, sys.stdout.errors or "strict")
        self._batch.clear()
        self._size = 0
        while content and self._kept is None:
            if not self._is_taken():
                self._kept = _somewhere()
                if self._kept is None:
                    _write_all(self._descriptor, content)
                    return
                break
            done = os.write(self._descriptor, content[:_AT_ONCE])
            content = content[done:]
        if content and self._kept is not None:
            self._keep(content)

    def _is_taken(self) -> bool:
        """Whether the reader takes something now, or soon."""
        began = time.monotonic()
        poll = select.poll()
        poll.register(self._descriptor or 0, select.POLLOUT)
        ready = poll.poll(max(0.0, _PATIENCE - self._waited) * 1000)
        self._waited += time.monotonic() - began
        return bool(ready)

    def _keep(self, content: bytes) -> None:
        assert self._kept is not None
        assert self._descriptor is not None
        done = 0
        try:
            while done < len(content):
                done += self._kept.write(content[done:])
        except OSError:
            # No room for the rest: then the reader has to be waited for after all.
            self._drain()
            _write_all(self._descriptor, content[done:])

    def _drain(self) -> None:
        if self._kept is None or self._descriptor is None:
            return
        end = self._kept.tell()
        self._kept.seek(0)
        left = end
        while left and (chunk := self._kept.read(min(left, 1 << 16))):
            _write_all(self._descriptor, chunk)
            left -= len(chunk)
        self._kept.seek(0)


def _descriptor() -> int | None:
    """Standard output's, where there is one on which can be waited."""
    with contextlib.suppress(OSError, ValueError):
        return sys.stdout.fileno()
    return None


def _somewhere() -> BinaryIO | None:
    with contextlib.suppress(OSError):
        return tempfile.TemporaryFile(buffering=0)
    return None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
