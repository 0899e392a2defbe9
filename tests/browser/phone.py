#!/usr/bin/env python3
"""A way out for `make storm`: takes its time for each SMS, and is gone while a file NAME.gone stands beside it."""
import json
import os
import sys
import time

name, seconds = sys.argv[1], float(sys.argv[2])
if os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".gone")):
    print(json.dumps({"class": "DTMP", "detail": "no answer from the modem on /dev/ttyUSB0"}))
    sys.exit(75)
if "--probe" not in sys.argv:
    json.load(sys.stdin)
    time.sleep(seconds)
    print(json.dumps({"class": "OK", "reference": str(time.time_ns() % 100_000)}))
