"""An SMTP server for the mail tests: real protocol (aiosmtpd), and told by the recipient how to behave.

Prints JSON lines: {"listening": port}, then {"connected": n} for each connection and {"mail": {...}} for
each mail it accepted. Ends when its stdin does, so it never outlives the test.

A recipient's local part chooses the answer:
  reply-NNN       every RCPT is answered with NNN
  once-NNN-…      the first RCPT for this address is answered with NNN, later ones are accepted
  content-NNN     the mail's data is answered with NNN
  hang            the mail's data is never answered
  slow-N-…        the mail's data is answered after N seconds
  drop            the connection is cut in place of the answer to the mail's data
  once-cut-…      the first time, the connection is cut when the mail's data are to come
  once-hang-…     the first time, the mail's data is never answered
  once-lost-…     the first time, the mail is accepted, and the connection cut before that is said
  latin-NNN       the mail's data is answered with NNN and a byte that is no UTF-8
A reply 421 also closes the connection, as RFC 5321 says.
"""

import argparse
import asyncio
import json
import logging
import re
import ssl
import sys
from pathlib import Path

import trustme
from aiosmtpd.smtp import SMTP, AuthResult


def say(**line):
    print(json.dumps(line), flush=True)


class Sink:
    def __init__(self):
        self.seen = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        code = re.match(r"(reply|once)-(\d{3})", address)
        if code and not (code[1] == "once" and address in self.seen):
            self.seen.add(address)
            return await self.answer(server, code[2])
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient ok"

    def first_time(self, behaviour, to):
        first = to.startswith(f"once-{behaviour}-") and to not in self.seen
        self.seen.add(to)
        return first

    async def handle_DATA(self, server, session, envelope):
        to = envelope.rcpt_tos[0]
        if to.startswith("hang@") or to.startswith("once-hang-") and self.first_time("hang", to):
            await asyncio.Event().wait()
        if seconds := re.match(r"slow-(\d+)", to):
            await asyncio.sleep(int(seconds[1]))
        if to.startswith("drop@"):
            server.transport.abort()
            return "451 unheard"
        if code := re.match(r"content-(\d{3})", to):
            return await self.answer(server, code[1])
        latin = re.match(r"latin-(\d{3})", to)
        if latin and latin[1] != "250":
            return latin[1].encode() + b" refus\xe9"
        say(mail={
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "data": envelope.content.decode(),
            "tls": server.transport.get_extra_info("sslcontext") is not None,
            "user": session.auth_data,
        })
        if to.startswith("once-lost-") and self.first_time("lost", to):
            server.transport.abort()
        return b"250 re\xe7u" if latin else "250 2.0.0 queued"

    async def answer(self, server, code):
        if code == "421":
            await server.push("421 4.3.2 going down")
            server.transport.close()
        return f"{code} told to"


class Server(SMTP):
    async def smtp_DATA(self, arg):
        to = self.envelope.rcpt_tos[0] if self.envelope.rcpt_tos else ""
        if to.startswith("once-cut-") and self.event_handler.first_time("cut", to):
            await self.push("354 go on")
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


def certificate(folder):
    """Writes ca.pem for the client; the server's own certificate is for localhost."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


async def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    arguments.add_argument("--certificates", type=Path, help="folder that gets ca.pem")
    arguments.add_argument("--login", help="user:password that is required")
    arguments = arguments.parse_args()

    context = None if arguments.tls == "none" else certificate(arguments.certificates)

    def authenticate(server, session, envelope, mechanism, data):
        login = f"{data.login.decode()}:{data.password.decode()}"
        return AuthResult(success=login == arguments.login, handled=False, auth_data=data.login.decode())

    sink = Sink()
    connections = 0

    def connected():
        nonlocal connections
        connections += 1
        say(connected=connections)
        return Server(
            sink,
            hostname="sink.test",
            enable_SMTPUTF8=False,
            tls_context=context if arguments.tls == "starttls" else None,
            authenticator=authenticate,
            auth_required=arguments.login is not None,
            auth_require_tls=False,
        )

    server = await asyncio.get_running_loop().create_server(
        connected, "127.0.0.1", arguments.port, ssl=context if arguments.tls == "implicit" else None
    )
    say(listening=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


logging.disable()
asyncio.run(main())
