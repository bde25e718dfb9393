"""What a listener should know of a recording that was transcribed all the same."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FurtherTracks:
    """The recording has more than the one track that was transcribed.

    Attributes:
        track: Its number, counted from 1.
        tracks: What is known of each track, in order: language, codec, channels.
    """

    track: int
    tracks: tuple[str, ...]

    @property
    def message(self) -> str:
        """One sentence, and how to get the others."""
        listed = "; ".join(f"{number}: {about}" for number, about in enumerate(self.tracks, 1))
        return (
            f"Only audio track {self.track} of {len(self.tracks)} was transcribed; "
            f"track chooses another one ({listed})."
        )


@dataclass(frozen=True, slots=True)
class DamagedAudio:
    """Some of the recording could not be decoded."""

    @property
    def message(self) -> str:
        """One sentence."""
        return "The recording is damaged or cut short: parts of it could not be decoded and are missing."


@dataclass(frozen=True, slots=True)
class UnderstatedLength:
    """A WAV header states less audio than follows it; all was transcribed."""

    stated_s: float

    @property
    def message(self) -> str:
        """One sentence."""
        return f"The WAV header states {self.stated_s:.2f} s of audio, but more follows; all of it was transcribed."


RecordingWarning: TypeAlias = FurtherTracks | DamagedAudio | UnderstatedLength
