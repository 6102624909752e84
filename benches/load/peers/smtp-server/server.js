// Nodemailer's smtp-server: server.js CERTIFICATE KEY

import { readFileSync } from 'node:fs';
import { SMTPServer } from 'smtp-server';

const [certificate, key] = process.argv.slice(2);
const server = new SMTPServer({
    cert: readFileSync(certificate),
    key: readFileSync(key),
    allowInsecureAuth: true,
    // Nobody else asks the DNS for the client's name.
    disableReverseLookup: true,
    // Node.js sets TCP_NODELAY only where it is told to.
    noDelay: true,
    onAuth: (auth, session, callback) => callback(null, { user: auth.username }),
    onData: (stream, session, callback) => {
        stream.on('end', () => callback());
        stream.resume();
    }
});
// Clients that are gone when the load ends.
server.on('error', () => {});
server.listen(0, '127.0.0.1', () => {
    const { address, port } = server.server.address();
    console.log(`listening on ${address}:${port}`);
});
