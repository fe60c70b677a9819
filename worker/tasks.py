"""The one Celery task. A message says "look at this expansion", no more; the registry decides whether there is work."""

from celery import Task, shared_task

HINT = "pictoglot.expand"


@shared_task(name=HINT, bind=True)  # type: ignore[untyped-decorator]
def expand(self: Task, expansion: str) -> None:
    """Carry the expansion on if nobody else does; returns in milliseconds otherwise."""
    self.app.supervisor.run(expansion)
