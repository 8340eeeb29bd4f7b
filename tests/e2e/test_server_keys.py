"""Real servers that learn each other's keys over HTTPS, with certificates of an authority made for the run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from federation.keys.response import read_key_response
from federation.room.hashing import decode_base64
from federation.room.signing import verify_signed_json
from tests.fixtures_peers import Pair
from tests.fixtures_server import ROOT


def test_keys_over_https(pairs: list[Pair]) -> None:
    a, b, c = pairs
    (about_b,) = a.ask_for(b.name)
    assert {key: about_b[key] for key in ("server_name", "verify_keys")} == {
        key: b.keys()[key] for key in ("server_name", "verify_keys")
    }
    read_key_response(about_b, b.name, int(time.time() * 1000))
    ((key_id, key),) = a.keys()["verify_keys"].items()
    assert verify_signed_json(about_b, a.name, key_id, decode_base64(key["key"]))
    assert a.ask_for(c.name) == [], "whose certificate is not trusted is nobody"
    (about_a,) = c.ask_for(a.name)
    assert about_a["server_name"] == a.name

    b.stop(signal.SIGKILL)
    a.stop()
    a.start()
    assert [one["verify_keys"] for one in a.ask_for(b.name)] == [about_b["verify_keys"]], "it outlives b, and a restart"


def test_a_rotation(pairs: list[Pair]) -> None:
    """Whoever changes the key file need do nothing else: the old key is told as such from then on."""
    a = pairs[0]
    ((old_id, old),) = a.keys()["verify_keys"].items()
    a.stop()
    file = a.process.directory / "signing.key"
    file.unlink()
    before = int(time.time() * 1000)
    other = a.process.directory.parent / "new"
    init = [sys.executable, "-m", "homeserver", "init", "--server-name", "x", "--data-dir", str(other)]
    subprocess.run(init, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (other / "signing.key").rename(file)
    a.start()
    keys = a.keys()
    assert old_id not in keys["verify_keys"]
    assert keys["old_verify_keys"][old_id]["key"] == old["key"]
    assert before <= keys["old_verify_keys"][old_id]["expired_ts"] <= int(time.time() * 1000)
    read_key_response(keys, a.name, int(time.time() * 1000))
