"""Signals that ask the runner to end, as an exception."""

import contextlib
import signal


class Stopped(BaseException):
    """A signal asked us to end; its text is the signal's name."""

    @property
    def code(self) -> int:
        """Of the process, as a shell has it."""
        return 128 + signal.Signals[str(self)]


@contextlib.contextmanager
def heeded(*numbers: signal.Signals):
    """Raise Stopped where one of these signals comes, while the block lasts."""
    for number in numbers:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in numbers:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _stop(number, frame):
    raise Stopped(signal.Signals(number).name)
