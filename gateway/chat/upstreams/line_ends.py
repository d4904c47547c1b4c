"""The line ends of an event stream become LF, however its server writes them. Pure."""


class LineEnds:
    """The line ends of one stream, whose pieces come in order."""

    has_cr = False
    """Whether it has line ends that are no LF: until then its bytes are as they should be."""
    _after_cr = False

    def only_lf(self, data: bytes) -> bytes:
        """Makes LF of CRLF and CR; of a CRLF that was split, the LF that comes later is left out."""
        self.has_cr = True
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
