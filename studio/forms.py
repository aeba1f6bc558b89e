"""The password form, which answers only so many wrong passwords a minute."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from studio.kernel.throttle import address_of, count, counted

WINDOW_SECONDS = 60
WRONG_PASSWORDS = 10  # in one window, from one address
TOO_MANY = "too_many"


class SignInForm(AuthenticationForm):
    """Django's form; from an address with too many wrong passwords no password is looked at."""

    def clean(self) -> dict[str, Any]:
        """The account, or ValidationError; the code TOO_MANY says that nothing was checked."""
        name = f"sign-in:{address_of(self.request)}"
        if counted(name, seconds=WINDOW_SECONDS) >= WRONG_PASSWORDS:
            raise ValidationError(
                "Too many wrong passwords from this address. Wait a minute, then try again.", code=TOO_MANY
            )
        try:
            return super().clean()
        except ValidationError:
            count(name, seconds=WINDOW_SECONDS)
            raise
