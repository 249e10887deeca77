"""The part of a job's log that a follower has not printed yet: a new connection sends the log from its beginning."""

_TAIL_CHARACTERS = 4_000


class SeenLog:
    """Lets each character of a log through once, however often it is read from its beginning."""

    def __init__(self) -> None:
        """Begin with an unread log."""
        self._seen = 0
        self._position = 0
        self.tail = ""
        """The last characters let through."""

    def rewind(self) -> None:
        """The next chunk is the first of the log."""
        self._position = 0

    def take(self, chunk: str) -> str:
        """The new part of the next chunk of the log."""
        new = chunk[max(0, self._seen - self._position) :]
        self._position += len(chunk)
        self._seen = max(self._seen, self._position)
        self.tail = (self.tail + new)[-_TAIL_CHARACTERS:]
        return new
