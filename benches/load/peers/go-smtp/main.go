// go-smtp 0.12, as Debian packages it: go-smtp CERTIFICATE KEY
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/emersion/go-smtp"
)

type backend struct{}

func (backend) Login(*smtp.ConnectionState, string, string) (smtp.Session, error) {
	return session{}, nil
}

func (backend) AnonymousLogin(*smtp.ConnectionState) (smtp.Session, error) {
	return nil, smtp.ErrAuthRequired
}

type session struct{}

func (session) Reset()                              {}
func (session) Logout() error                       { return nil }
func (session) Mail(string, smtp.MailOptions) error { return nil }
func (session) Rcpt(string) error                   { return nil }
func (session) Data(content io.Reader) error {
	_, err := io.Copy(io.Discard, content)
	return err
}

func main() {
	certificate, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	// Go sets TCP_NODELAY by itself.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := smtp.NewServer(backend{})
	server.Domain = "localhost"
	server.AllowInsecureAuth = true
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	// Clients that are gone when the load ends.
	server.ErrorLog = log.New(io.Discard, "", 0)
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
