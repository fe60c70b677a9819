"""Errors of the HTTP layer: bodies, headers, keys, cursors, rates. The root of the tree is in `store.errors`."""

from store.errors import InvalidInput, NotFound, PictoglotError


class Malformed(PictoglotError):
    """The body is not JSON: truncated, two documents, or `NaN`."""

    code, title = "malformed_json", "Malformed JSON"


class Unauthorized(PictoglotError):
    """The key is unknown, revoked or expired."""

    code, title = "invalid_api_key", "Invalid API key"


class Forbidden(PictoglotError):
    """The key is valid, but its scope or its collections do not allow this."""

    code, title = "insufficient_scope", "Insufficient scope"


class Gone(PictoglotError):
    """Another release, or other vectors, serve now than when this cursor was made; search again without it."""

    code, title = "cursor_expired", "Cursor expired"


class TooLarge(PictoglotError):
    """The body has more bytes than this route accepts."""

    code, title = "body_too_large", "Body too large"


class RateLimited(PictoglotError):
    """Too many requests with this key, or too many without a valid one, which share one rate."""

    code, title = "rate_limited", "Rate limited"


class BaseUnusable(InvalidInput):
    """The base to move to does not exist, cannot be read on the server, or is not supported; `detail` says which."""

    code, title = "base_unusable", "Base unusable"


class InvalidEncoding(Malformed):
    """A body that is not UTF-8."""

    code, title = "invalid_encoding", "Invalid encoding"


class MalformedRequest(Malformed):
    """What came is not HTTP/1.1, or its end could be seen at two places; the connection is closed."""

    code, title = "malformed_request", "Malformed request"


class MalformedMultipart(Malformed):
    """A multipart body that is truncated, or a body that is not multipart."""

    code, title = "malformed_multipart", "Malformed multipart body"


class MissingApiKey(Unauthorized):
    """The request has no key."""

    code, title = "missing_api_key", "Missing API key"


class MethodNotAllowed(PictoglotError):
    """The path exists, but does not allow this method."""

    code, title = "method_not_allowed", "Method not allowed"


class BodyTimeout(PictoglotError):
    """The body did not arrive in time."""

    code, title = "body_timeout", "Body timeout"


class TooManyHeaders(PictoglotError):
    """Too many header fields, or too many bytes before the body."""

    code, title = "too_many_headers", "Too many headers"


class KeyNotFound(NotFound):
    """There is no key with this id."""

    code, title = "key_not_found", "Key not found"


class CursorInvalid(InvalidInput):
    """This is not a cursor that this server made for this request."""

    code, title = "invalid_cursor", "Invalid cursor"
