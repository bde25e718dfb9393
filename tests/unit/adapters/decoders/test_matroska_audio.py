import struct

import numpy as np
import pytest

from parakeet_service.adapters.decoders.matroska_audio import MatroskaAudioReader
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import DecoderUnavailableError

RATE_HZ = 1000
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
EBML, SEGMENT, TRACKS, TRACK, AUDIO = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe1"
CHANNELS, CLUSTER, TIMESTAMP, SIMPLE_BLOCK, GROUP, BLOCK = (
    b"\x9f",
    b"\x1f\x43\xb6\x75",
    b"\xe7",
    b"\xa3",
    b"\xa0",
    b"\xa1",
)
VOID = b"\xec"


def element(kind: bytes, content: bytes) -> bytes:
    return kind + (1 << 56 | len(content)).to_bytes(8) + content


def header(channels: int = 1) -> bytes:
    audio = element(AUDIO, element(b"\xb5", struct.pack(">d", RATE_HZ)) + element(CHANNELS, bytes([channels])))
    tracks = element(TRACKS, element(TRACK, element(b"\xd7", b"\1") + audio))
    return element(EBML, b"\x42\x86\x81\1") + SEGMENT + UNKNOWN_SIZE + element(VOID, bytes(90)) + tracks


def cluster(at_ms: int, *blocks: bytes) -> bytes:
    return CLUSTER + UNKNOWN_SIZE + element(TIMESTAMP, at_ms.to_bytes(4)) + b"".join(blocks)


def block(after_ms: int, samples: "list[float] | Samples", kind: bytes = SIMPLE_BLOCK) -> bytes:
    content = b"\x81" + after_ms.to_bytes(2, signed=True) + b"\x80" + np.asarray(samples, "<f4").tobytes()
    return element(kind, content)


def read(data: bytes, *, step: int | None = None) -> Samples:
    reader = MatroskaAudioReader(sample_rate_hz=RATE_HZ)
    step = step or max(len(data), 1)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    return np.concatenate([np.zeros(0, np.float32), *(one for piece in [*pieces, b""] for one in reader.read(piece))])


@pytest.mark.parametrize("step", [None, 1, 7, 100])
def test_samples_stand_where_their_blocks_say(step: int | None) -> None:
    data = (
        header() + cluster(0, block(0, [0.5] * 200), block(700, [0.25] * 100)) + cluster(2000, block(-100, [1.0] * 3))
    )
    expected = np.zeros(1903, np.float32)
    expected[:200], expected[700:800], expected[1900:] = 0.5, 0.25, 1.0
    assert np.array_equal(read(data, step=step), expected)


def test_blocks_may_be_in_groups() -> None:
    group = element(GROUP, block(0, [0.5, 0.25], BLOCK) + element(b"\x75\xa2", b"\1"))
    assert read(header() + cluster(0, group)).tolist() == [0.5, 0.25]


def test_channels_are_mixed() -> None:
    assert read(header(channels=2) + cluster(0, block(0, [0.5, 0.25, 1.0, 0.5]))).tolist() == [0.375, 0.75]


def test_what_is_no_number_is_silence_and_what_is_too_loud_is_clipped() -> None:
    given = read(header() + cluster(0, block(0, [np.nan, np.inf, -np.inf, 7.0, -7.0])))
    assert given.tolist() == [0.0, 0.0, 0.0, 1.0, -1.0]


def test_an_hour_of_silence_comes_in_pieces() -> None:
    reader = MatroskaAudioReader(sample_rate_hz=RATE_HZ)
    pieces = list(reader.read(header() + cluster(3_600_000, block(0, [1.0]))))
    assert max(len(piece) for piece in pieces) < 70_000
    assert sum(len(piece) for piece in pieces) == 3_600_001


def test_what_is_cut_short_gives_what_is_whole() -> None:
    data = header() + cluster(0, block(0, [0.5]), block(1, [0.25]))
    assert read(data[:-1]).tolist() == [0.5]
    assert read(header()).size == read(b"").size == 0


@pytest.mark.parametrize(
    "data",
    [
        bytes(4000),
        b".snd\0\0\0\x18",
        EBML + b"\0" * 20,
        element(EBML, b"") + VOID + (1 << 56 | 1 << 40).to_bytes(8),
        element(EBML, b"") + cluster(0, block(0, [1.0])),
    ],
    ids=["zeros", "Sun audio", "no size", "an endless element", "no tracks"],
)
def test_what_is_no_such_file_is_our_fault(data: bytes) -> None:
    with pytest.raises(DecoderUnavailableError):
        read(data)
