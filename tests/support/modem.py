"""A modem on a terminal of its own, as far as gammu asks: modem.py FOLDER

FOLDER/port    the terminal
FOLDER/play    what it does with each SMS, a line each, the last line from then on: `+CMGS: 7`, `+CMS ERROR: 38`, `ERROR`,
               `silence`, or `before ANSWER`, which comes in place of the prompt
FOLDER/pdus    the PDUs that it was given, a line each
FOLDER/mute    while it is there, nothing is answered
"""

import os
import sys
import tty

ANSWERS = {
    "AT+CPIN?": "+CPIN: READY",
    "AT+CREG?": "+CREG: 0,1",
    "AT+CSQ": "+CSQ: 25,0",
    "AT+CGMI": "FAKE",
    "AT+CGMM": "MODEM",
    "AT+CGMR": "1.0",
    "AT+CSCA?": '+CSCA: "+4790002100",145',
    "AT+CSCS?": '+CSCS: "GSM"',
    "AT+CSCS=?": '+CSCS: ("GSM","UCS2")',
    "AT+CMGF=?": "+CMGF: (0,1)",
}

folder = sys.argv[1]
ours, theirs = os.openpty()
tty.setraw(theirs)
os.symlink(os.ttyname(theirs), f"{folder}/port")


def say(words):
    os.write(ours, b"\r\n" + words.encode() + b"\r\n")


def next_play():
    with open(f"{folder}/play") as file:
        plays = file.read().splitlines()
    if len(plays) > 1:
        with open(f"{folder}/play", "w") as file:
            file.write("\n".join(plays[1:]))
    return plays[0]


def answer(play):
    if play != "silence":
        say(play)
        if play.startswith("+CMGS:"):
            say("OK")


echo, held, play = False, b"", None
while True:
    piece = os.read(ours, 4096)
    if os.path.exists(f"{folder}/mute"):
        continue
    if echo:
        os.write(ours, piece)
    held += piece
    while (end := b"\r" if play is None else b"\x1a") in held:
        line, held = held.split(end, 1)
        line = line.decode("latin-1").strip("\n\x1b ")
        if play is not None:
            with open(f"{folder}/pdus", "a") as file:
                file.write(line + "\n")
            answer(play)
            play = None
        elif line.startswith("AT+CMGS="):
            play = next_play()
            if play.startswith("before "):
                answer(play.removeprefix("before "))
                play = None
            else:
                os.write(ours, b"\r\n> ")
        elif line.startswith("AT"):
            echo = echo or line == "ATE1"
            if line in ANSWERS:
                say(ANSWERS[line])
            say("OK")
