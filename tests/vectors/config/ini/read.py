"""Reads files as NAV does and prints what Python's configparser makes of each, one JSON object a line.

Standard input names the files, one a line. `refused` is the name of the exception, or null.
"""

import configparser
import json
import sys

for name in sys.stdin.read().splitlines():
    parser = configparser.RawConfigParser()
    refused = None
    try:
        with open(name, encoding="utf-8") as file:
            parser.read_file(file)
    except (configparser.Error, UnicodeDecodeError) as error:
        refused = type(error).__name__
    sections = [] if refused else [[s, dict(parser.items(s))] for s in parser.sections()]
    defaults = {} if refused else dict(parser.defaults())
    print(json.dumps({"refused": refused, "sections": sections, "defaults": defaults}))
