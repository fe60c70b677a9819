"""Errors of the client. Each is a sentence for people."""


class SettingsError(Exception):
    """A sentence that names the invalid setting; the command then exits with `output.MISCONFIGURED`."""


class Stopped(Exception):
    """Somebody set `stopping`: nothing more is sent."""


class SourceError(Exception):
    """A source of an import cannot be read any further."""


class UnreadableError(SourceError):
    """A picture, or the file that lists pictures, cannot be read."""


class UnusableError(Exception):
    """With `--strict`, the first unusable picture ends an import."""


class StateError(Exception):
    """The file that remembers what was imported cannot be used."""
