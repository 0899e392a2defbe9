#!/usr/bin/env python3
"""A way out for the browser tests: what it says of itself is hostile, and what it does depends on the number."""
import json
import sys

BAD = "<script>window.hit=1</script><img src=x onerror=window.hit=1>\"'\u202e\u001b[2J]]>"
sms = json.load(sys.stdin)
kind = {"+4790000002": "RCPT", "+4790000003": "AMB", "+4790000666": "RTMP"}.get(sms["to"], "OK")
print(json.dumps({"class": kind, "code": BAD[:40], "detail": BAD, "reference": BAD[:60]}))
