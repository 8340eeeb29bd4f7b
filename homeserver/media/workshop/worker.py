"""The worker process: reads one job a line, answers one line each, and ends when nobody asks any more.

    python -m homeserver.media.workshop.worker MEMORY_BYTES SECONDS

It is expected to be hurt. It may use so much memory, so much of a processor for each job, and open few files; whoever
started it ends it where that is not enough. It knows nothing of the server but what stands in a job.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

import msgspec

from homeserver.media.kinds import HEAD_BYTES, sniff
from homeserver.media.workshop.jobs import (
    Failed,
    Failure,
    Job,
    Listen,
    MakeThumbnail,
    ReadPage,
    Result,
    Thumbnailed,
    Transcribe,
    WorkFailed,
)

NICE = 5
MOST_FILES = 64
MOST_WRITTEN = 64 * 1024 * 1024
SPARE_SECONDS = 2


def main() -> None:
    memory_bytes, seconds = int(sys.argv[1]), int(sys.argv[2])
    # Libraries that print something must not garble the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    with suppress(OSError):  # where a service manager forbids it
        os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN, MOST_WRITTEN))
    decode = msgspec.json.Decoder(Job).decode
    encode = msgspec.json.Encoder().encode
    for line in sys.stdin.buffer:
        _allow(seconds)
        answers.write(encode(do(decode(line))) + b"\n")


def do(job: Job) -> Result | Failed:
    """One job. Whatever goes wrong is an answer too."""
    try:
        match job:
            case MakeThumbnail():
                return _thumbnail(job)
            case Listen():
                from homeserver.media.workshop.film import listen

                return listen(job)
            case Transcribe():
                from homeserver.media.workshop.speech import transcribe

                return transcribe(job)
            case ReadPage():
                from homeserver.media.workshop.pages import read_page

                return read_page(job)
    except WorkFailed as error:
        return Failed(error.failure, error.why)
    except MemoryError:
        return Failed(Failure.TOO_LARGE, "it takes more memory than there is")
    except Exception as error:  # what is broken on purpose breaks libraries in many ways
        return Failed(Failure.UNREADABLE, f"{type(error).__name__}: {error}"[:500])


def _thumbnail(job: MakeThumbnail) -> Thumbnailed:
    with open(job.path, "rb") as file:
        kind = sniff(file.read(HEAD_BYTES)) or ""
    if kind.startswith("image/"):
        from homeserver.media.workshop.pictures import thumbnail_of_picture

        return thumbnail_of_picture(job)
    from homeserver.media.workshop.film import thumbnail_of_video

    return thumbnail_of_video(job)


def _allow(seconds: int) -> None:
    """So much of a processor for the next job; then the system ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    so_far = int(used.ru_utime + used.ru_stime)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (so_far + seconds + SPARE_SECONDS, hard))


if __name__ == "__main__":
    main()
