"""The beginning of live audio, at which one can see that it is no raw audio."""

from ..domain.encoded_audio import LONGEST_HEAD_BYTES, RawFormat, recognise
from ..domain.errors import UndecodableAudioError


class AudioHead:
    """Looks at what a client sends first: read as samples, a file is noise, and its client hears of no words."""

    def __init__(self, announced: RawFormat) -> None:
        """Begin before the first byte."""
        self._announced = announced
        self._bytes = bytearray()
        self._recognised_bytes = 0  # of them that were looked at

    def check(self, audio: bytes) -> None:
        """Take the next bytes.

        Raises:
            UndecodableAudioError: They are not what was announced.
        """
        room = LONGEST_HEAD_BYTES - len(self._bytes)
        if room <= 0:
            return
        self._bytes += audio[:room]
        # However small its pieces are, it is not looked at from the beginning for each of them.
        if len(self._bytes) < min(2 * self._recognised_bytes, LONGEST_HEAD_BYTES):
            return
        self._recognised_bytes = len(self._bytes)
        announced = self._announced
        if found := recognise(bytes(self._bytes), announced):
            channels = "mono" if announced.channels == 1 else f"{announced.channels}-channel"
            raise UndecodableAudioError(
                f"This is {found}, not raw {channels} {announced.encoding.value} at {announced.sample_rate_hz} Hz: decode "
                "it before you send it, or say in the session's configuration what you send."
            )
