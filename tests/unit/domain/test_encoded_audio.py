import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.audio import Encoding
from parakeet_service.domain.encoded_audio import LONGEST_HEAD_BYTES, RawFormat, recognise

PCM = RawFormat(Encoding.PCM_S16LE, 16_000)
NOISE = np.random.default_rng(1).integers(0, 256, 1 << 14, np.uint8).tobytes()


def wav(
    tag: int = 1, bits: int = 16, rate_hz: int = 16_000, channels: int = 1, *, more: bytes = b"", big: bool = False
) -> bytes:
    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "big" if big else "little")

    described = number(tag, 2) + number(channels, 2) + number(rate_hz, 4) + number(0, 4) + number(0, 2)
    described += number(bits, 2) + more
    head = (b"RIFX" if big else b"RIFF") + number(0xFFFFFFFF, 4) + b"WAVE"
    odd_chunk = b"LIST" + number(3, 4) + b"abc\0"
    return head + odd_chunk + b"fmt " + number(len(described), 4) + described + b"data" + number(0, 4) + NOISE[:400]


def ogg_page(content: bytes, *, flags: int = 0) -> bytes:
    lacing = bytes([255] * (len(content) // 255) + [len(content) % 255])
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(lacing)]) + lacing + content


def frames(*headers: bytes, lengths: tuple[int, ...], alike: bool = False) -> bytes:
    return b"".join(
        header + (bytes(length - len(header)) if alike else NOISE[number : number + length - len(header)])
        for number, (header, length) in enumerate(zip(headers, lengths, strict=True))
    )


def adts(length: int) -> bytes:
    return bytes([0xFF, 0xF1, 0x50, 0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F])


MP3 = b"\xff\xfb\x90\x44"  # 128 kbit/s at 44.1 kHz
MP3_PADDED = b"\xff\xfb\x92\x44"
MP3_22K = b"\xff\xf3\x80\xc4"  # version 2, 64 kbit/s
MP2 = b"\xff\xfd\x84\x04"  # 128 kbit/s at 48 kHz
MP1 = b"\xff\xff\x44\x04"  # 128 kbit/s at 48 kHz
MP1_22K = b"\xff\xf7\x40\x04"  # version 2, 64 kbit/s
MP3_8K = b"\xff\xe3\x28\xc4"  # version 2.5, 16 kbit/s at 8 kHz
TS = b"".join(b"\x47\x40\x11" + bytes([0x10 + n]) + NOISE[n : n + 184] for n in range(5))

ENCODED = {
    "WebM or Matroska": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\x82\x84webm" + NOISE[:300],
    "Ogg": ogg_page(b"OpusHead" + bytes(11), flags=2),
    "MP4": b"\0\0\0\x1cftypisom" + NOISE[:300],
    "FLAC": b"fLaC\0\0\0\x22" + NOISE[:300],
    "MP3 with a tag": b"ID3\4\0\0\0\0\2\1" + NOISE[:300],
    "AIFF": b"FORM\0\1\0\0AIFF" + NOISE[:300],
    "AMR": b"#!AMR\n" + NOISE[:300],
    "CAF": b"caff\0\1\0\0desc" + NOISE[:300],
    "AVI": b"RIFF\0\1\0\0AVI LIST" + NOISE[:300],
    "True Audio": b"TTA1\1\0\1\0" + NOISE[:300],
    "FLV": b"FLV\1\4\0\0\0\x09" + NOISE[:300],
    "AU": b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\3" + NOISE[:300],
    "WavPack": b"wvpk\x24\1\0\0\x10\4" + NOISE[:300],
    "a JSON message": b'{"type": "config", "sample_rate": 8000}\n',
    "an MPEG transport stream": TS,
    "a WAV file of 16-bit PCM, 48000 Hz, 1 channel": wav(rate_hz=48_000),
    "a WAV file of 16-bit PCM, 16000 Hz, 2 channels": wav(channels=2),
    "a WAV file of 24-bit PCM, 16000 Hz, 1 channel": wav(
        0xFFFE, 24, more=bytes(8) + b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    ),
    "a WAV file of 16-bit PCM in big-endian order, 16000 Hz, 1 channel": wav(big=True),
    "a WAV file of 4-bit compressed, 16000 Hz, 1 channel": wav(0x11, 4),
    "AAC": frames(*map(adts, (300, 310, 290, 300)), lengths=(300, 310, 290, 300)),
    "MP3": frames(MP3, MP3_PADDED, MP3, MP3, lengths=(417, 418, 417, 417)),
    "AC-3": frames(*[b"\x0b\x77\0\0\x14\x40"] * 4, lengths=(768,) * 4),
    "MPEG audio, layer II": frames(*[MP2] * 4, lengths=(384,) * 4),
    "MPEG audio, layer I": frames(*[MP1] * 4, lengths=(128,) * 4),
}


@pytest.mark.parametrize(("name", "head"), ENCODED.items(), ids=ENCODED)
def test_recognises_what_is_no_raw_audio(name: str, head: bytes) -> None:
    assert recognise(head, PCM) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1fC\xb6u\1\xff\xff\xff\xff\xff\xff\xff\xe7\x81\0", "WebM or Matroska"),
        (ogg_page(NOISE[:300]) + ogg_page(NOISE[:500]) + NOISE[:20], "Ogg"),
        (NOISE[:1000] + ENCODED["MP3"], "MP3"),
        (frames(*[b"\x0b\x77\0\0\x55\x40"] * 4, lengths=(836,) * 4), "AC-3"),
        (frames(*[b"\x0b\x77\0\0\x94\x40"] * 4, lengths=(1152,) * 4), "AC-3"),
        (frames(*[MP3_22K] * 4, lengths=(208,) * 4), "MP3"),
        (frames(*[MP3_8K] * 4, lengths=(144,) * 4), "MP3"),
        (frames(*[MP1_22K] * 4, lengths=(136,) * 4), "MPEG audio, layer I"),
    ],
)
def test_recognises_streams_that_are_joined_in_the_middle_or_are_slow(head: bytes, name: str) -> None:
    assert recognise(head, PCM) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\xff\xfb" * 4096,
        MP3 + NOISE[:4000],
        frames(MP3, MP3, MP3, lengths=(417,) * 3),
        frames(MP3, MP3_22K, MP3, MP3, lengths=(417, 208, 417, 417)),
        frames(*[MP2] * 4, lengths=(384,) * 4, alike=True),
        frames(*map(adts, (7, 7, 7, 7)), lengths=(7,) * 4),
        b"\xff\xfb\xf0\x44" * 2000,
        b"\x0b\x77" * 4000,
        b"\x0b\x77\0\0\xd4\x40" * 1000,
        b"\x0b\x77\0\0\x3f\x40" * 1000,
        b"\x0b\x77\0\0\x14\x60" * 1000,
        NOISE[:8000] + b"\x0b\x77\0",
        b"OggS" + NOISE[:4000],
        ogg_page(NOISE[:300]) + NOISE[:4000],
        b"ID3" + b"\xff" * 4000,
        b"\x1aE\xdf\xa3" + bytes(4000),
        b"\0\0\0\1ftyp" + NOISE[:4000],
        b"fLaC" + NOISE[:4000],
        b"\x47\x47" * 4000,
        b"RIFF" + NOISE[:4000],
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff" + NOISE[:400],
        wav(),
        NOISE,
    ],
)
def test_samples_that_look_alike_are_samples(head: bytes) -> None:
    assert recognise(head, PCM) is None


@pytest.mark.parametrize(
    ("announced", "tag", "bits"),
    [(Encoding.PCM_F32LE, 3, 32), (Encoding.ALAW, 6, 8), (Encoding.MULAW, 7, 8)],
)
def test_the_head_of_a_wav_that_says_the_same_is_no_fault(announced: Encoding, tag: int, bits: int) -> None:
    assert recognise(wav(tag, bits, 8000), RawFormat(announced, 8000)) is None
    assert recognise(wav(tag, bits, 8000), PCM) is not None


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300), st.booleans())
def test_no_tone_is_taken_for_anything_else(period: list[int], odd: bool) -> None:  # noqa: FBT001
    samples = np.resize(np.array(period, "<i2"), LONGEST_HEAD_BYTES // 2).tobytes()
    assert recognise(samples[odd:], PCM) is None


def test_a_wav_file_of_the_channels_that_were_announced_is_taken() -> None:
    stereo = RawFormat(Encoding.PCM_S16LE, 16_000, channels=2)
    assert recognise(wav(channels=2), stereo) is None
    assert recognise(wav(), stereo) == "a WAV file of 16-bit PCM, 16000 Hz, 1 channel"
