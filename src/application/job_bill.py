"""What the transcription of a job costs."""


class JobBill:
    """A `Quota` that notes what is charged: it is charged when the job has ended, and so once, however often it began."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.audio_s = 0.0

    async def admit(self, caller: str) -> None:
        """Whoever submitted it was let in then."""

    async def charge(self, caller: str, audio_s: float) -> None:  # noqa: ARG002 - the port has it
        """Note it."""
        self.audio_s += audio_s
