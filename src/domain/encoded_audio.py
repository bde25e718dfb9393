"""Recognising audio that is no raw PCM: files and compressed streams, by their first bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .audio import Encoding

LONGEST_HEAD_BYTES = 1 << 13
"""Bytes that are enough to recognise whatever can be recognised here."""

_FRAMES = 4
"""Frames in a row that make a compressed stream: two bytes of one are in any recording."""


@dataclass(frozen=True, slots=True)
class RawFormat:
    """How a client says that its samples are written: those of `channels` interleaved."""

    encoding: Encoding
    sample_rate_hz: int
    channels: int = 1


def recognise(head: bytes, announced: RawFormat) -> str | None:
    """What the audio that begins with `head` is, for a person; ``None`` if it can be what was announced.

    Each kind has to show more of its structure than samples have by chance, or by being silent or periodic.
    """
    if name := next((name for name, is_it in _CONTAINERS if is_it(head)), None):
        return name
    if (wave := _wave_format(head)) is not None:
        return None if wave == _wave_of(announced) else _told(*wave)
    for at in range(min(len(head), LONGEST_HEAD_BYTES)):
        if head[at] in (_SYNC, _AC3_SYNC[0]) and (name := _frames(head, at)):
            return name
    return None


def _is_matroska(head: bytes) -> bool:
    # Its head names the kind of document; a piece from the middle begins with a cluster, and that with its time.
    return (head.startswith(b"\x1aE\xdf\xa3") and b"\x42\x82" in head[:64]) or (
        head.startswith(b"\x1fC\xb6u") and b"\xe7" in head[5:13]
    )


def _is_ogg(head: bytes) -> bool:
    at, pages = 0, 0
    while head.startswith(b"OggS\0", at) and len(head) > at + 27 and head[at + 5] < 8:
        segments = head[at + 26]
        lengths = head[at + 27 : at + 27 + segments]
        if head.startswith(_OGG_CODECS, at + 27 + segments):
            return True
        pages += 1
        at += 27 + segments + sum(lengths)
    return pages > 1


_OGG_CODECS = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ", b"fishead\0", b"\x80theora")


def _is_mp4(head: bytes) -> bool:
    size = int.from_bytes(head[:4], "big")
    return head[4:8] in {b"ftyp", b"styp", b"moof", b"sidx", b"moov"} and 8 <= size < 1 << 24


def _is_flac(head: bytes) -> bool:
    # The first block is the description of the stream, of 34 bytes.
    return head.startswith(b"fLaC") and head[4:8] in {b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"}


def _is_tagged(head: bytes) -> bool:
    version_is_known = head[3:4] in {b"\2", b"\3", b"\4"} and head[4:5] == b"\0"
    size = head[6:10]
    return head.startswith(b"ID3") and version_is_known and len(size) == 4 and max(size) < 0x80


def _is_transport_stream(head: bytes) -> bool:
    packets = [head[at : at + 188] for at in range(0, len(head) - 187, 188)]
    # Neither damaged nor without content; and a constant or a tone would make all of them the same.
    are_valid = all(packet[0] == 0x47 and packet[1] < 0x80 and packet[3] & 0x30 for packet in packets)
    return len(packets) >= _FRAMES and are_valid and len(set(packets)) > 1


_CONTAINERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("WebM or Matroska", _is_matroska),
    ("Ogg", _is_ogg),
    ("MP4", _is_mp4),
    ("FLAC", _is_flac),
    ("MP3 with a tag", _is_tagged),
    ("AIFF", lambda head: head.startswith(b"FORM") and head[8:12] in {b"AIFF", b"AIFC"}),
    ("AMR", lambda head: head.startswith((b"#!AMR\n", b"#!AMR-WB\n"))),
    ("CAF", lambda head: head.startswith(b"caff\0\1\0\0desc")),
    ("ASF or WMA", lambda head: head.startswith(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"))),
    ("AVI", lambda head: head.startswith(b"RIFF") and head[8:16] == b"AVI LIST"),
    ("True Audio", lambda head: head.startswith((b"TTA1\1\0", b"TTA2\1\0"))),
    ("FLV", lambda head: head.startswith((b"FLV\1\1\0\0\0\x09", b"FLV\1\4\0\0\0\x09", b"FLV\1\5\0\0\0\x09"))),
    ("AU", lambda head: head.startswith(b".snd\0\0") and head[12:15] == b"\0\0\0" and head[15:16] < b"\x1c"),
    ("Wave64", lambda head: head.startswith(bytes.fromhex("726966662e91cf11a5d628db04c10000"))),
    ("WavPack", lambda head: head.startswith(b"wvpk") and head[9:10] == b"\4" and 2 <= head[8] <= 16),
    ("an MPEG transport stream", _is_transport_stream),
    ("a JSON message", lambda head: head.startswith(b'{"type"') and head.rstrip().endswith(b"}")),
)


# WAV, as its head describes it: what a client that sends whole files forgets is there

_RIFF_TAGS = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}
_WAVE_TAGS = {Encoding.PCM_S16LE: (1, 16), Encoding.PCM_F32LE: (3, 32), Encoding.ALAW: (6, 8), Encoding.MULAW: (7, 8)}


def _wave_format(head: bytes) -> tuple[int, int, int, int] | None:
    """Tag, bits, rate and channels that the head of a WAV file states."""
    if head[:4] not in {b"RIFF", b"RF64", b"RIFX"} or head[8:12] != b"WAVE":
        return None
    order: Literal["big", "little"] = "big" if head.startswith(b"RIFX") else "little"

    def number(start: int, end: int) -> int:
        return int.from_bytes(head[start:end], order)

    at = 12
    while len(head) >= at + 24:
        if head.startswith(b"fmt ", at):
            tag = number(at + 8, at + 10)
            if tag == 0xFFFE and len(head) >= at + 34:
                # The tag proper stands in the first bytes of a GUID.
                tag = number(at + 32, at + 34)
            # Samples of the other byte order are none that can be announced.
            tag = -tag if order == "big" else tag
            return tag, number(at + 22, at + 24), number(at + 12, at + 16), number(at + 10, at + 12)
        size = number(at + 4, at + 8)
        at += 8 + size + size % 2
    return None


def _wave_of(announced: RawFormat) -> tuple[int, int, int, int]:
    return (*_WAVE_TAGS[announced.encoding], announced.sample_rate_hz, announced.channels)


def _told(tag: int, bits: int, rate_hz: int, channels: int) -> str:
    kind = f"{_RIFF_TAGS.get(abs(tag), 'compressed')}{' in big-endian order' if tag < 0 else ''}"
    return f"a WAV file of {bits}-bit {kind}, {rate_hz} Hz, {channels} channel{'s' if channels != 1 else ''}"


# Streams of frames without a head: the bytes of one say where the next begins

_SYNC = 0xFF
_FRAME_HEAD_BYTES = 4
_AC3_SYNC = b"\x0b\x77"
# Source: ATSC A/52:2018, table 5.18; kbit/s by half of the code in the header.
_KBITS_AC3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_MPEG_1, _LAYER_1, _LAYER_2, _LAYER_3 = 3, 3, 2, 1
_LAYERS = {_LAYER_1: "I", _LAYER_2: "II", _LAYER_3: "III"}
# Source: ISO/IEC 11172-3 (1993), 2.4.2.3, and ISO/IEC 13818-3 (1998), 2.4.2.3; kbit/s by the index in the header.
_KBITS_1 = {
    _LAYER_1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    _LAYER_2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    _LAYER_3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBITS_2_LAYER_1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = (44_100, 48_000, 32_000)


def _frames(head: bytes, at: int) -> str | None:
    """What the frames are that begin at `at`, if there are several in a row that belong together."""
    first = _frame(head, at)
    if first is None:
        return None
    kind, name, _ = first
    begin = at
    for _ in range(_FRAMES):
        frame = _frame(head, at)
        if frame is None or frame[0] != kind:
            return None
        at += frame[2]
    # A tone repeats whatever it has.
    return None if _repeats(head[begin:]) else name


def _repeats(data: bytes) -> bool:
    """Whether `data` is at least two rounds of the same."""
    period = 0
    while 0 < (period := data.find(data[:_FRAME_HEAD_BYTES], period + 1)) <= len(data) // 2:
        if data.startswith(data[period:]):
            return True
    return False


def _frame(head: bytes, at: int) -> tuple[int, str, int] | None:
    """What all frames of its stream have in common, the name of the format, and the length in bytes."""
    if head.startswith(_AC3_SYNC, at):
        return _ac3_frame(head, at)
    if len(head) < at + 6 or head[at] != _SYNC or head[at + 1] & 0xE0 != 0xE0:
        return None
    second, third, fourth = head[at + 1 : at + 4]
    if second & 0xF6 == 0xF0:
        length = (fourth & 3) << 11 | head[at + 4] << 3 | head[at + 5] >> 5
        common = second << 16 | (third & 0xFD) << 8 | fourth & 0xC0
        return (common, "AAC", length) if length > 7 and third >> 2 & 15 < 13 else None
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, rate = third >> 4, third >> 2 & 3
    if version == 1 or layer not in _LAYERS or bits in {0, 15} or rate == 3:
        return None
    rate_hz = _RATES_HZ[rate] >> (0 if version == _MPEG_1 else 1 if version == 2 else 2)
    padding = third >> 1 & 1
    of_version_2 = _KBITS_2_LAYER_1 if layer == _LAYER_1 else _KBITS_2
    kbits = (_KBITS_1[layer] if version == _MPEG_1 else of_version_2)[bits]
    if layer == _LAYER_1:
        length = (12_000 * kbits // rate_hz + padding) * 4
    else:
        samples_8 = 72_000 if layer == _LAYER_3 and version != _MPEG_1 else 144_000
        length = samples_8 * kbits // rate_hz + padding
    common = second << 16 | (third & 0x0C) << 8
    return common, "MP3" if layer == _LAYER_3 else f"MPEG audio, layer {_LAYERS[layer]}", length


def _ac3_frame(head: bytes, at: int) -> tuple[int, str, int] | None:
    if len(head) < at + 6:
        return None
    rate, size, version = head[at + 4] >> 6, head[at + 4] & 0x3F, head[at + 5] >> 3
    if rate == 3 or size // 2 >= len(_KBITS_AC3) or version > 10:
        return None
    kbits = _KBITS_AC3[size // 2]
    words = (2 * kbits, kbits * 320 // 147 + size % 2, 3 * kbits)[rate]
    return rate << 8 | version, "AC-3", 2 * words
