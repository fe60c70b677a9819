"""Errors of the HTTP layer: bodies, headers, keys, cursors, rates. The root of the tree is in `model.errors`."""

from model.errors import InvalidInput, NotFound, PictoglotError


class Malformed(PictoglotError):
    """The body cannot be parsed."""

    code, title = "malformed_json", "Malformed JSON"


class Unauthorized(PictoglotError):
    """No valid key."""

    code, title = "invalid_api_key", "Invalid API key"


class Forbidden(PictoglotError):
    """A valid key that may not do this."""

    code, title = "insufficient_scope", "Insufficient scope"


class Gone(PictoglotError):
    """A cursor of an earlier release or gallery."""

    code, title = "cursor_expired", "Cursor expired"


class TooLarge(PictoglotError):
    """More bytes than this route accepts."""

    code, title = "body_too_large", "Body too large"


class RateLimited(PictoglotError):
    """Too many requests with this key."""

    code, title = "rate_limited", "Rate limited"


class BaseUnusable(InvalidInput):
    """A base to move to that does not exist, cannot be read, or is not supported."""

    code, title = "base_unusable", "Base unusable"


class InvalidEncoding(Malformed):
    """A body that is not UTF-8."""

    code, title = "invalid_encoding", "Invalid encoding"


class MalformedRequest(Malformed):
    """What is no request of HTTP, or whose end two readers could see at two places."""

    code, title = "malformed_request", "Malformed request"


class MalformedMultipart(Malformed):
    """A multipart body that is truncated, or not multipart at all."""

    code, title = "malformed_multipart", "Malformed multipart body"


class MissingApiKey(Unauthorized):
    """No key at all."""

    code, title = "missing_api_key", "Missing API key"


class MethodNotAllowed(PictoglotError):
    """The path exists, the method on it does not."""

    code, title = "method_not_allowed", "Method not allowed"


class BodyTimeout(PictoglotError):
    """A body that does not arrive in time."""

    code, title = "body_timeout", "Body timeout"


class TooManyHeaders(PictoglotError):
    """More header fields than any client needs."""

    code, title = "too_many_headers", "Too many headers"


class KeyNotFound(NotFound):
    """No key has this id."""

    code, title = "key_not_found", "Key not found"


class CursorInvalid(InvalidInput):
    """Not a cursor of this server for this query."""

    code, title = "invalid_cursor", "Invalid cursor"
