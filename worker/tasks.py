"""The one Celery task. A message only says "look at this expansion"; the registry decides whether there is work."""

from celery import Task, shared_task

HINT = "pictoglot.expand"


@shared_task(name=HINT, bind=True)  # type: ignore[untyped-decorator]
def expand(self: Task, expansion: str) -> None:
    """Work on the expansion if no other worker does; otherwise returns in milliseconds."""
    self.app.supervisor.run(expansion)
