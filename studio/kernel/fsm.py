"""State fields that only transitions may change, safe under threads.

django-fsm-2's own `refresh_from_db` switches the protection off on the *class* while it runs: with threads that gives
spurious errors, and one failed refresh leaves the protection off in the whole process (libraries.md, fact 2). Here the
permission to write is a flag on the instance.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django_fsm import ConcurrentTransitionMixin, FSMField, FSMFieldDescriptor


class GuardedState(FSMFieldDescriptor):
    """Refuses assignment, except while the instance reads itself from the database."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        if instance.__dict__.get("_refreshing"):
            self.field.set_proxy(instance, value)
            self.field.set_state(instance, value)
        else:
            super().__set__(instance, value)


class StateField(FSMField):
    """An FSMField with the instance-wise guard."""

    descriptor_class = GuardedState


class StatefulModel(ConcurrentTransitionMixin, models.Model):
    """A model whose `save` fails with ConcurrentTransition when its state moved in the database meanwhile."""

    class Meta:
        abstract = True

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        self._refreshing = True
        try:
            models.Model.refresh_from_db(self, *args, **kwargs)
        finally:
            del self._refreshing
        self._update_initial_state()
