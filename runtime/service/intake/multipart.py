"""Take a form of a browser or of curl apart while it comes in: one file, and a few short fields."""

from __future__ import annotations

from typing import Any

from runtime.service.refusals import RefusedError

MOST_FIELDS = 16
LONGEST_FIELD = 1024
"""Most bytes of a field."""


class FormReader:
    """Takes the pieces of a multipart/form-data body and gives the pieces of its file."""

    def __init__(self, content_type: str) -> None:
        """Take the Content-Type of the body (RefusedError: it names no boundary)."""
        from python_multipart import MultipartParser
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import parse_options_header

        self.fields: dict[str, str] = {}
        """Fields of the form beside the file."""
        self.file_name: str | None = None
        """Name of the file as the client gives it; None: no file has begun."""
        self._error = FormParserError
        self._parse_header = parse_options_header
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise RefusedError(400, "multipart/form-data without a boundary; send the form as curl -F does")
        self._pieces: list[bytes] = []
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._count = 0
        self._ended = False
        calls: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }
        try:
            self._parser = MultipartParser(boundary, calls)
        except FormParserError as error:
            raise RefusedError(400, f"not a form ({error}); send it as curl -F does") from None

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the body and return what it holds of the file.

        Raises:
            RefusedError: not a form, more than one file, or too many or too long fields.
        """
        try:
            self._parser.write(data)
        except self._error as error:
            raise RefusedError(400, f"not a form ({error}); send it as curl -F does") from None
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content

    def finish(self) -> None:
        """Check that the form is whole and has a file (RefusedError: it is not)."""
        if not self._ended:
            raise RefusedError(400, "the form is cut off; send it whole")
        if self.file_name is None:
            raise RefusedError(400, "the form holds no file; send one, as in curl -F video=@match.mp4")

    def _begin(self) -> None:
        self._headers, self._field = {}, None
        self._text = bytearray()

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        named = self._parse_header(self._headers.get(b"content-disposition", b""))[1]
        if b"filename" in named:
            if self.file_name is not None:
                raise RefusedError(400, "the form holds more than one file; send one in each request")
            self.file_name = named[b"filename"].decode(errors="replace")
            return
        self._field = named.get(b"name", b"").decode(errors="replace")
        self._count += 1
        if self._count > MOST_FIELDS:
            raise RefusedError(400, f"the form holds more than {MOST_FIELDS} fields beside the file")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._text.extend(data[start:end])
        if len(self._text) > LONGEST_FIELD:
            raise RefusedError(400, f"a field of the form is longer than {LONGEST_FIELD} bytes")

    def _end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._text.decode(errors="replace")

    def _end_form(self) -> None:
        self._ended = True
