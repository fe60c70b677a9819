"""What ends a run before anything is taught."""


class Refused(Exception):
    """What is asked cannot be done with what is there: one sentence that begins with the file or option."""
