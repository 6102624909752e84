"""aiosmtpd in one thread, by the controller that it has for that: server.py CERTIFICATE KEY"""

import asyncio
import logging
import ssl
import sys
import warnings

from aiosmtpd.controller import UnthreadedController
from aiosmtpd.smtp import AuthResult, SMTP


class Handler:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"


class Controller(UnthreadedController):
    def factory(self):
        return SMTP(
            self.handler,
            authenticator=lambda *_: AuthResult(success=True),
            auth_required=True,
            auth_require_tls=False,
            tls_context=tls,
        )


# Two for each connection otherwise, for AUTH without TLS.
logging.getLogger("mail.log").setLevel(logging.ERROR)
warnings.simplefilter("ignore")
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(sys.argv[1], sys.argv[2])
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
# asyncio sets TCP_NODELAY by itself.
controller = Controller(Handler(), hostname="127.0.0.1", port=0, loop=loop)
controller.begin()
print("listening on {}:{}".format(*controller.server.sockets[0].getsockname()), flush=True)
loop.run_forever()
