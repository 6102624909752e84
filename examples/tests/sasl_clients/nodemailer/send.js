// Sends a message with nodemailer, and shows the session. The argument is a JSON; see `send` in libraries.rs.

const fs = require('node:fs');
const nodemailer = require('nodemailer');

const login = JSON.parse(process.argv[2]);
const auth =
    login.mechanism === 'XOAUTH2'
        ? { type: 'OAuth2', user: login.user, accessToken: login.secret }
        : { user: login.user, pass: login.secret };
const transport = nodemailer.createTransport({
    host: 'localhost',
    port: login.port,
    secure: login.implicitTls,
    requireTLS: true,
    tls: { ca: fs.readFileSync(login.certificate) },
    auth,
    authMethod: login.mechanism,
    logger: true,
    debug: true,
});

transport
    .sendMail({ envelope: { from: login.from, to: login.to }, raw: fs.readFileSync(login.message) })
    .then((info) => console.log(info.response))
    .catch((error) => {
        console.error(error);
        process.exitCode = 1;
    });
