"""Serves one queue class with the interface of NAV's NAVDBQueue to smsd.

A request is a line of JSON on standard input, its answer one or more lines on standard output, the last of them with
"done" or "error". What the class itself prints goes to standard error.
"""
import sys

# Nothing is loaded from the folder in which Python happens to work.
sys.path[:] = [folder for folder in sys.path if folder]

import importlib
import json
import os
import time

TEXT_MAX = 100_000

answers = os.fdopen(os.dup(1), "w", encoding="ascii")
os.dup2(2, 1)


def answer(**fields):
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def queued(message):
    """Seconds since 1970 of NAV's minutes in local time."""
    try:
        return time.mktime(time.strptime(message["time"], "%Y-%m-%d %H:%M"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def waiting(queue):
    times = {}
    if hasattr(queue, "getmsgs"):
        times = {message["id"]: queued(message) for message in queue.getmsgs("N")}
    count = 0
    for user in queue.getusers("N"):
        for identifier, text, severity in queue.getusermsgs(user, "N"):
            answer(
                key=identifier,
                phone=str(user)[:100],
                text=str(text)[:TEXT_MAX],
                severity=severity if isinstance(severity, int) else None,
                queued=times.get(identifier),
            )
            count += 1
    return count


def serve(module, name):
    queue = getattr(importlib.import_module(module), name)()
    answer(done=0)
    for line in sys.stdin:
        request = json.loads(line)
        what = request["do"]
        if what == "waiting":
            done = waiting(queue)
        elif what == "set":
            done = queue.setsentstatus(request["key"], request["sent"], request["smsid"])
        elif what == "test":
            done = queue.inserttestmsgs(request["uid"], request["phone"], request["text"])
        else:
            raise ValueError("unknown request")
        answer(done=done if isinstance(done, int) else None)


if __name__ == "__main__":
    path, module, name = sys.argv[1:]
    if path:
        sys.path.insert(0, path)
    try:
        serve(module, name)
    except BaseException as error:
        lines = str(error).strip().splitlines()
        words = type(error).__name__ + (": " + lines[-1] if lines else "")
        answer(error=words[:300])
        raise SystemExit(1)
