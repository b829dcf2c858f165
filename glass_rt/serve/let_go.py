"""Errors without the frames that they were raised in, whose variables hold requests' bodies."""

from __future__ import annotations


def drop_frames(error: BaseException) -> None:
    """Removes the tracebacks of an error, and of the errors that it came from.

    An error that a future or a variable of its own frames keeps is a reference cycle: without this, the bodies in its
    frames stay in memory until Python looks for cycles.
    """
    left, done = [error], set[int]()
    while left:
        one = left.pop()
        done.add(id(one))
        one.__traceback__ = None
        left += [cause for cause in (one.__cause__, one.__context__) if cause is not None and id(cause) not in done]
