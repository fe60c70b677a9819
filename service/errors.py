"""Errors of the HTTP layer: bodies, headers, keys, cursors, rates. The root of the tree is in `store.errors`."""

from store.errors import InvalidInput, PictoglotError


class Malformed(PictoglotError, code="malformed_json"):
    """The body is not JSON: truncated, two documents, or `NaN`."""


class Unauthorized(PictoglotError, code="invalid_api_key"):
    """The key is unknown, revoked or expired."""


class Forbidden(PictoglotError, code="insufficient_scope"):
    """The key is valid, but its scope or its collections do not allow this."""


class Gone(PictoglotError, code="cursor_expired"):
    """Another release, or other vectors, serve now than when this cursor was made; search again without it."""


class TooLarge(PictoglotError, code="body_too_large"):
    """The body has more bytes than this route accepts."""


class RateLimited(PictoglotError):
    """Too many requests with this key, or too many without a valid one, which share one rate."""


class BaseUnusable(InvalidInput):
    """The base to move to does not exist, cannot be read on the server, or is not supported; `detail` says which."""


class InvalidEncoding(Malformed):
    """A body that is not UTF-8."""


class MalformedRequest(Malformed):
    """What came is not HTTP/1.1, or its end could be seen at two places; the connection is closed."""


class MalformedMultipart(Malformed):
    """A multipart body that is truncated, or a body that is not multipart."""


class MissingApiKey(Unauthorized):
    """The request has no key."""


class MethodNotAllowed(PictoglotError):
    """The path exists, but does not allow this method."""


class BodyTimeout(PictoglotError):
    """The body did not arrive in time."""


class TooManyHeaders(PictoglotError):
    """Too many header fields, or too many bytes before the body."""


class CursorInvalid(InvalidInput, code="invalid_cursor"):
    """This is not a cursor that this server made for this request."""
