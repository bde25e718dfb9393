"""The one JSON form of a transcript, in which it is stored and read again without loss.

Times are seconds. To be short, tokens are arrays, and segments are told by the number of their words.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from .recording_warnings import DamagedAudio, FurtherTracks, RecordingWarning, UnderstatedLength
from .transcript import Segment, Token, Transcript, Word

Json: TypeAlias = Mapping[str, Any]

_VERSION = 1


def dump_tokens(tokens: Iterable[Token]) -> str:
    """Tokens as JSON; `load_tokens` gives the same ones."""
    return _dumps([_token(token) for token in tokens])


def load_tokens(text: str) -> tuple[Token, ...]:
    """The tokens that `dump_tokens` wrote."""
    return tuple(Token(*fields) for fields in json.loads(text))


def dump_transcript(transcript: Transcript) -> str:
    """A transcript as JSON; `load_transcript` gives an equal one. Takes long for hours of audio: call it in a thread."""
    return _dumps(
        {
            "version": _VERSION,
            "duration_s": transcript.duration_s,
            "channels": transcript.channels,
            "words": [
                [
                    word.text,
                    word.start_s,
                    word.end_s,
                    word.confidence,
                    [_token(token) for token in word.tokens],
                    word.channel,
                ]
                for word in transcript.words
            ],
            "segments": [[len(segment.words), segment.no_speech_probability] for segment in transcript.segments],
            "warnings": [_warning(warning) for warning in transcript.warnings],
        }
    )


def load_transcript(text: str) -> Transcript:
    """The transcript that `dump_transcript` wrote.

    Raises:
        ValueError: It is of a version that this code does not know.
    """
    form: Json = json.loads(text)
    if form["version"] != _VERSION:
        raise ValueError(f"a transcript of version {form['version']} was written by a newer service")
    words = tuple(
        Word(spoken, start_s, end_s, confidence, tuple(Token(*fields) for fields in tokens), channel)
        for spoken, start_s, end_s, confidence, tokens, channel in form["words"]
    )
    return Transcript(
        words=words,
        segments=_segments(words, form["segments"]),
        duration_s=form["duration_s"],
        channels=form["channels"],
        warnings=tuple(_warning_of(one) for one in form["warnings"]),
    )


def _segments(words: Sequence[Word], lengths: Iterable[tuple[int, float | None]]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    begin = 0
    for length, no_speech_probability in lengths:
        segments.append(Segment(tuple(words[begin : begin + length]), no_speech_probability))
        begin += length
    return tuple(segments)


def _token(token: Token) -> list[object]:
    return [token.id, token.text, token.start_s, token.end_s, token.confidence]


def _warning(warning: RecordingWarning) -> Json:
    if isinstance(warning, FurtherTracks):
        return {"kind": "further_tracks", "track": warning.track, "tracks": list(warning.tracks)}
    if isinstance(warning, UnderstatedLength):
        return {"kind": "understated_length", "stated_s": warning.stated_s}
    return {"kind": "damaged_audio"}


def _warning_of(form: Json) -> RecordingWarning:
    match form["kind"]:
        case "further_tracks":
            return FurtherTracks(form["track"], tuple(form["tracks"]))
        case "damaged_audio":
            return DamagedAudio()
        case _:
            return UnderstatedLength(form["stated_s"])


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
