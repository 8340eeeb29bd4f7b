"""`python -m homeserver VERB`: see `homeserver.cli`."""

from __future__ import annotations

from homeserver.cli import main

main()
