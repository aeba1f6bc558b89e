"""Claims with a lease: who may work on a row now, proved by an epoch that every later write must carry.

A claim is one conditional UPDATE, so it works alike on SQLite and Postgres. The epoch is a fencing token: it grows with
each claim, so a worker that slept past its lease changes nothing when it wakes up.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import connection, models, transaction
from django.db.models import F, Q

from studio.kernel.clock import later, now
from studio.kernel.owners import is_dead, owner_name


class Claimable(models.Model):
    """A row that one worker at a time may work on."""

    lease_owner = models.CharField(max_length=120, blank=True, default="", editable=False)
    lease_epoch = models.PositiveBigIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True


Row = TypeVar("Row", bound=Claimable)


def release_dead(model: type[Row]) -> int:
    """Free the rows whose owner on this host, and in this container, has been killed, so that nobody waits; how many.

    Only a shortcut: without it the leases run out by themselves.
    """
    held = model._default_manager.filter(lease_until__gt=now()).exclude(lease_owner="")
    one_machine = connection.vendor == "sqlite"  # its file is locked by one kernel
    freed = 0
    for owner in held.values_list("lease_owner", flat=True).distinct():
        if is_dead(owner, one_machine=one_machine):
            freed += held.filter(lease_owner=owner).update(lease_owner="", lease_until=None)
    return freed


def claim(queryset: models.QuerySet[Row], *, seconds: float, owner: str | None = None) -> int | None:
    """Claim the one row of `queryset` for `seconds`; its new epoch, or None when it is gone, changed or taken."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now())
    with transaction.atomic():
        taken = queryset.filter(free).update(
            lease_owner=owner or owner_name(), lease_epoch=F("lease_epoch") + 1, lease_until=later(seconds)
        )
        if taken != 1:
            return None
        epoch: int = queryset.values_list("lease_epoch", flat=True).get()
        return epoch


def fenced(model: type[Row], pk: Any, epoch: int) -> models.QuerySet[Row]:
    """The row, if `epoch` still holds it: update through this queryset and check that one row changed."""
    return model._default_manager.filter(pk=pk, lease_epoch=epoch)


def renew(model: type[Row], pk: Any, epoch: int, *, seconds: float) -> bool:
    """Extend the lease; False when it was lost."""
    return fenced(model, pk, epoch).update(lease_until=later(seconds)) == 1


def release(model: type[Row], pk: Any, epoch: int) -> bool:
    """Give the row back at once; False when the lease was lost meanwhile (then nothing changes)."""
    return fenced(model, pk, epoch).update(lease_owner="", lease_until=None) == 1
