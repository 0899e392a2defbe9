"""aiosmtpd as a mail server: smtp_server.py plain|starttls|smtps [CERTIFICATE KEY] [no8bit] [login].

Says on which port it listens, then each mail as a line of JSON, read by Python's own parser. Refuses recipients that
begin with `reject`, defers those that begin with `temp`; with `login`, takes mail from alerter (password secret) only.
"""

import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

# It tells of each client that goes away.
logging.disable(logging.CRITICAL)

how, *options = sys.argv[1:]
login = "login" in options
context = None
if how != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options[0], options[1])


def text_of(mail):
    """What the gateway takes for the text. The last line end of a mail that is not encoded belongs to the mail."""
    raw = mail.get_payload(decode=True)
    if mail["Content-Transfer-Encoding"] in ("7bit", "8bit"):
        assert raw.endswith(b"\r\n"), raw
        return raw[:-2].replace(b"\r\n", b"\n").decode()
    return raw.decode()


class Handler:
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return [line for line in responses if not ("no8bit" in options and "8BITMIME" in line)]

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("reject"):
            return "550 5.1.1 no such user"
        if address.startswith("temp"):
            return "451 4.7.1 greylisted, try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        content = envelope.content
        assert b"\r" not in content.replace(b"\r\n", b"") and b"\n" not in content.replace(b"\r\n", b"")
        mail = email.message_from_bytes(content, policy=email.policy.SMTP)
        assert not mail.defects and not mail.is_multipart(), mail.defects
        said = dict(
            text=text_of(mail),
            headers={name: str(value) for name, value in mail.items()},
            sender=envelope.mail_from,
            to=envelope.rcpt_tos,
            options=envelope.mail_options,
            tls=session.ssl is not None or how == "smtps",
            user=session.auth_data,
        )
        print(json.dumps(said), flush=True)
        return "250 2.0.0 Ok: queued as 4711XYZ"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b"alerter" and data.password == b"secret"
    return AuthResult(success=good, handled=good, auth_data="alerter")


def session():
    encrypt = context if how == "starttls" else None
    return SMTP(
        Handler(), hostname="localhost", tls_context=encrypt, require_starttls=how == "starttls",
        authenticator=authenticate, auth_required=login, auth_require_tls=how == "starttls",
    )


async def main():
    loop = asyncio.get_running_loop()
    encrypt = context if how == "smtps" else None
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=encrypt)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
