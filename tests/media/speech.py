"""What somebody says, as a file."""

from __future__ import annotations

import subprocess
from functools import cache

SAID = "the meeting is on monday morning"


@cache
def speech() -> bytes:
    """Somebody says so, in a voice that PocketSphinx's model takes for one."""
    made = subprocess.run(
        ["espeak-ng", "-v", "en-us+f3", "-s", "120", "--stdout", SAID], check=True, capture_output=True
    ).stdout
    return made
