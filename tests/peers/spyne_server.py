"""A service of Spyne's. Says on which port it listens, then each call as a line of JSON; the number says what follows."""

import json
import logging
from wsgiref.simple_server import WSGIRequestHandler, make_server

from spyne import Application, Boolean, Fault, ServiceBase, Unicode, rpc
from spyne.protocol.soap import Soap11
from spyne.server.wsgi import WsgiApplication

logging.disable(logging.CRITICAL)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Sms(ServiceBase):
    @rpc(
        Unicode, Unicode, Unicode, Unicode, Unicode,
        _args=("to", "body", "user", "secret", "from"),
        _returns=(Boolean, Unicode), _out_variable_names=("ok", "id"),
    )
    def sendMessage(ctx, to, body, user, secret, sender):
        if to == "+47400":
            raise Fault("Client", "no such number")
        if to == "+47500":
            raise Fault("Server", "try later")
        if to == "+47000":
            return False, None
        print(json.dumps(dict(phone=to, message=body, username=user, password=secret, sender=sender)), flush=True)
        return True, "id-" + to


application = Application([Sms], "urn:boost", in_protocol=Soap11(validator="soft"), out_protocol=Soap11())
server = make_server("127.0.0.1", 0, WsgiApplication(application), handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
