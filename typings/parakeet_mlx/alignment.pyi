class AlignedToken:
    id: int
    text: str
    start: float
    duration: float
    end: float
    confidence: float

class AlignedResult:
    text: str
    @property
    def tokens(self) -> list[AlignedToken]: ...
