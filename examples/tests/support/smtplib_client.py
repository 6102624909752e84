"""Sends a message with smtplib, and shows the session.

Arguments: PORT starttls|tls|clear CERTIFICATE PLAIN|LOGIN|CRAM-MD5|any USER PASSWORD FILE
"""

import smtplib
import ssl
import sys

port, security, certificate, mechanism, user, password, path = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
if security == "tls":
    smtp = smtplib.SMTP_SSL("localhost", int(port), context=context, timeout=60)
else:
    smtp = smtplib.SMTP("localhost", int(port), timeout=60)
with smtp:
    smtp.set_debuglevel(1)
    if security == "starttls":
        smtp.starttls(context=context)
    smtp.ehlo()
    if mechanism == "any":
        smtp.login(user, password)
    else:
        smtp.user, smtp.password = user, password
        smtp.auth(mechanism, getattr(smtp, "auth_" + mechanism.lower().replace("-", "_")))
    with open(path, "rb") as message:
        smtp.sendmail("tim@example.org", "friend@example.org", message.read(), mail_options=["BODY=8BITMIME"])
