"""What libraries bring along unasked, and this house has no use for: left out, for the sake of start-up and memory."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def absent(name: str) -> Iterator[None]:
    """Make a library seem not to be installed, for others that import it only because they find it.

    Does nothing where it is imported already.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


class _Sources(dict[str, Any]):
    def setdefault(self, name: str, entry: Any = None) -> Any:
        return entry if name.startswith("<attrs ") else super().setdefault(name, entry)


def forget_made_up_sources() -> None:
    """Have Python's cache of source lines not keep what attrs writes for each class, for debuggers: 2 MiB of it."""
    linecache.cache = _Sources()
