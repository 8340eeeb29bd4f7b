"""What is said in a sound, a piece at a time. Runs in a worker, with PocketSphinx and the English model that it brings.

https://github.com/cmusphinx/pocketsphinx
"""

from __future__ import annotations

from array import array
from functools import cache
from typing import Any

import av

from homeserver.media.workshop.film import decoded, open_container
from homeserver.media.workshop.jobs import Failure, Heard, Transcribe, WorkFailed

RATE = 16_000
PIECE_S = 20
PAUSE_S = 4
"""A piece may be so much shorter, so that it ends where nobody speaks."""
BLOCK = RATE // 10


def transcribe(job: Transcribe) -> Heard:
    """What is said from a moment on, for about `PIECE_S`. Raises WorkFailed, and whatever PyAV raises."""
    with open_container(job.path) as container:
        if not container.streams.audio:
            raise WorkFailed(Failure.UNREADABLE, "there is nothing to be heard in it")
        samples = _samples_of(container, job.max_ms)
    duration_ms = len(samples) * 1000 // RATE
    if duration_ms > job.max_ms:
        raise WorkFailed(Failure.TOO_LARGE, f"it is longer than {job.max_ms // 1000} s")
    start = min(len(samples), job.start_ms * RATE // 1000)
    end = _end_of_piece(samples, start)
    text = _recognize(samples[start:end]) if end > start else ""
    return Heard(text, end * 1000 // RATE, duration_ms, end >= len(samples))


def _end_of_piece(samples: array[int], start: int) -> int:
    """Where it is quietest, a piece further on; or the end."""
    latest = start + PIECE_S * RATE
    if latest >= len(samples):
        return len(samples)
    blocks = range(latest - PAUSE_S * RATE, latest - BLOCK, BLOCK)
    return min(blocks, key=lambda at: max(map(abs, samples[at : at + BLOCK]))) + BLOCK // 2


def _samples_of(container: Any, max_ms: int) -> array[int]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    samples: array[int] = array("h")
    most = (max_ms + 1000) * RATE // 1000
    for packet in container.demux(audio=0):
        for frame in decoded(packet):
            for made in resampler.resample(frame):
                samples.frombytes(bytes(made.planes[0])[: made.samples * 2])
        if len(samples) > most:
            return samples
    for made in resampler.resample(None):
        samples.frombytes(bytes(made.planes[0])[: made.samples * 2])
    return samples


def _recognize(samples: array[int]) -> str:
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return "" if found is None else str(found.hypstr)


@cache
def _decoder() -> Any:
    """Takes seconds to make: one for the life of a worker."""
    import pocketsphinx

    return pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL")
