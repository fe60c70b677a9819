"""The database: versions, releases, leases, and expansions, whose table is also the queue. No torch, no HTTP."""

from model.registry.bases import RecordedBase, Undoing
from model.registry.calibrations import RecordedCalibration
from model.registry.encodings import RecordedEncoding
from model.registry.expansions import Cause, Expansion, new_expansion_id
from model.registry.idempotency import Once
from model.registry.leases import Lease
from model.registry.registry import Registry, open_registry
from model.registry.releases import Release
from model.registry.retention import Pruning
from model.registry.rollback import RollbackPlan
from model.registry.versions import Version

__all__ = [
    "Cause",
    "Expansion",
    "Lease",
    "Once",
    "Pruning",
    "RecordedBase",
    "RecordedCalibration",
    "RecordedEncoding",
    "Registry",
    "Release",
    "RollbackPlan",
    "Undoing",
    "Version",
    "new_expansion_id",
    "open_registry",
]
