"""A service of SOAPpy's. Says on which port it listens, then each call as a line of JSON; the number says what follows."""

import json
import os
import sys

import SOAPpy


def send_message(username, password, sender, phone, message):
    if phone == "+47400":
        raise SOAPpy.faultType("Client", "no such number")
    if phone == "+47500":
        raise SOAPpy.faultType("Server", "try later")
    if phone == "+47000":
        return False
    call = dict(username=username, password=password, sender=sender, phone=phone, message=message)
    print(json.dumps(call), file=said, flush=True)
    return True


# The library has things of its own to say, of each fault for one.
said, sys.stdout, sys.stderr = sys.stdout, open(os.devnull, "w"), open(os.devnull, "w")
server = SOAPpy.SOAPServer(("127.0.0.1", 0), log=0)
server.registerFunction(send_message, funcName="sendMessage")
print(server.server_address[1], file=said, flush=True)
server.serve_forever()
