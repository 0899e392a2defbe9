"""Runs a command on a terminal of its own, and tells what a person would see: terminal.py COLUMNS ROWS STEPS COMMAND...

STEPS is JSON, a list of [verb, value]; each is given 20 s:
    see TEXT        wait until a line of the screen has it
    gone TEXT       wait until none has
    type KEYS       type
    signal NAME     send the command a signal
    resize [C, R]   give the terminal another size, and wait until its last row is written

The answer is JSON: `code` (negative: a signal), `raw` (all that was written), `screen` (its lines at the end), `before` (its
lines before the last step), `restored` (the terminal's modes are as they were), `failed` (a step that did not come true).
The screen understands what ratatui writes: places, colours and the other screen; nothing scrolls.
"""

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata

columns, rows = int(sys.argv[1]), int(sys.argv[2])
steps, command = json.loads(sys.argv[3]), sys.argv[4:]
ours, theirs = os.openpty()


def resize(columns, rows):
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


resize(columns, rows)
modes = termios.tcgetattr(theirs)
child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal)
raw, cells, at, held = "", {}, [0, 0], b""
TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()78=>][0B]?|(.)", re.S)


def show(text):
    for args, verb, char in TOKEN.findall(text):
        if verb == "H":
            at[:] = [int(n or 1) - 1 for n in (args.split(";") + ["1"])[:2]]
        elif verb == "J":
            cells.clear()
        elif char == "\r":
            at[1] = 0
        elif char == "\n":
            at[0] += 1
        elif char:
            cells[at[0], at[1]] = char
            at[1] += 2 if unicodedata.east_asian_width(char) in "WF" else 1


def screen():
    height = max((row for row, _ in cells), default=-1) + 1
    width = max((column for _, column in cells), default=-1) + 1
    return ["".join(cells.get((row, column), " ") for column in range(width)).rstrip() for row in range(height)]


def read(patience):
    global raw, held
    if not select.select([ours], [], [], patience)[0]:
        return False
    piece = held + os.read(ours, 65536)
    # What is cut in the middle of a character or a sequence waits for its rest.
    whole = re.match(rb"(?s)(.*?)(\x1b\[?[?0-9;]*|[\xc0-\xff][\x80-\xbf]{0,2})?\Z", piece)
    text, held = whole[1].decode(errors="replace"), whole[2] or b""
    raw += text
    show(text)
    return True


failed, before = None, []
for verb, value in steps:
    before, end = screen(), time.monotonic() + 20
    if verb == "type":
        os.write(ours, value.encode())
    elif verb == "signal":
        child.send_signal(signal.Signals["SIG" + value])
    elif verb == "resize":
        cells.clear()
        resize(*value)
        while len(screen()) != value[1] and not failed:
            read(0.05)
            if time.monotonic() > end or child.poll() is not None:
                failed = f"{verb} {value}"
    else:
        while any(value in line for line in screen()) != (verb == "see"):
            if time.monotonic() > end or child.poll() is not None and not read(0):
                failed = f"{verb} {value}"
                break
            read(0.05)
    if failed:
        break

end = time.monotonic() + 20
while child.poll() is None and not failed:
    read(0.05)
    if time.monotonic() > end:
        failed = "the end"
if failed:
    child.kill()
code = child.wait()
while read(0.1):
    pass
raw += held.decode(errors="replace")
restored = termios.tcgetattr(theirs) == modes
print(json.dumps(dict(code=code, raw=raw, screen=screen(), before=before, restored=restored, failed=failed)))
