"""What `worker` fails with. The tree's root is `model.errors`."""

from model.errors import Failure


class GateFailed(Failure):
    """The new language is not good enough to serve."""

    code, title = "gate_failed", "Promotion gate failed"
