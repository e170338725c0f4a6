"""Waiting for something to become true, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Whoever changes what others wait for says so; there is no lock that a cancelled call could keep."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Something has changed."""
        past, self._next = self._next, asyncio.Event()
        past.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when `condition` holds; it is asked again after each change."""
        while not condition():
            await self._next.wait()
