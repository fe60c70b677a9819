"""What ends a run before anything is taught."""


class Refused(Exception):
    """The command cannot be carried out; one sentence, which begins with the file or option."""
