"""Signals that ask a command to stop. This module does not import Lightning."""

import signal
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Raised when a signal asks the command to stop.

    Like `KeyboardInterrupt`, it is not an `Exception`: only the command line should catch it.

    Attributes:
        number: Number of the signal.
        hint: How to continue, for the message.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.hint = ""

    def __str__(self) -> str:
        text = f"stopped by {signal.Signals(self.number).name}"
        if self.hint:
            text += f"; {self.hint}"
        return text


class StopHandler:
    """Signal handler that raises `Stopped` immediately.

    Python discards exceptions that are raised within some callbacks, such as those of weak
    references, so `check` raises `Stopped` again.
    """

    received = 0  # no signal has this number

    def __call__(self, number: int, frame: Any) -> None:
        """Raises `Stopped`."""
        self.received = number
        raise Stopped(number)

    def check(self) -> None:
        """Raises `Stopped` if a signal was received."""
        if self.received:
            raise Stopped(self.received)


def set_handlers(handlers: dict[int, Any]) -> dict[int, Any]:
    """Sets signal handlers and returns the previous ones; a no-op outside the main thread."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            previous[number] = signal.signal(number, handler)
    return previous
