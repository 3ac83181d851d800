"""Do something as another user, in a child that is nothing but that."""

import os
from collections.abc import Callable


def as_user(uid: int, gid: int, work: Callable[[], str]) -> str:
    """What `work` returns there; of what it raises the name."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            answer = work()
        except BaseException as error:
            answer = type(error).__name__
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return answer
