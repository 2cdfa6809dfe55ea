package tcp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/transport/transporttest"
)

// certificates makes a server config and a client config that trusts it.
func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// overTLS makes every listener and connection of the suite encrypted.
type overTLS struct {
	core.Transport
	server, client *tls.Config
}

func (o overTLS) Listen(ctx context.Context, l core.ListenerConfig, h core.Handler) (core.Listener, error) {
	l.TLS = o.server
	return o.Transport.Listen(ctx, l, noTLSState{h})
}

func (o overTLS) Dial(ctx context.Context, addr string, l core.ListenerConfig) (core.Conn, error) {
	l.TLS = o.client
	return o.Transport.Dial(ctx, addr, l)
}

// noTLSState hides the state, after a look, from a suite that expects none.
type noTLSState struct{ core.Handler }

func (h noTLSState) Open(ctx context.Context, p core.Peer) (core.ClientSession, error) {
	if p.TLS == nil || !p.TLS.HandshakeComplete {
		return nil, errors.New("the peer has no TLS state")
	}
	p.TLS = nil
	return h.Handler.Open(ctx, p)
}

func TestConformanceTLS(t *testing.T) {
	server, client := certificates(t)
	transporttest.Run(t, func(*testing.T) core.Transport {
		return overTLS{New(Options{}), server, client}
	}, transporttest.Options{
		MaxPending: 256, SkipPeerWatch: true,
		DialRaw: func(ctx context.Context, _ core.Transport, addr string) (net.Conn, error) {
			cfg := client.Clone()
			cfg.ServerName = "127.0.0.1"
			d := tls.Dialer{Config: cfg}
			return d.DialContext(ctx, "tcp", addr)
		},
	})
}

// TestTLSHandshakeFails: a plain client of an encrypted listener is turned away.
func TestTLSHandshakeFails(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	tr := New(Options{})
	l, err := tr.Listen(t.Context(), core.ListenerConfig{Name: "SSL", Address: "127.0.0.1:0", TLS: server}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := tr.Dial(t.Context(), l.Addr().String(), core.ListenerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.WriteFrame(t.Context(), core.Part{Bytes: bytes.Repeat([]byte("x"), 100)}); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadFrame(t.Context(), nil); err == nil {
		t.Errorf("received %d bytes", len(b))
	}
	if _, err := tr.Dial(t.Context(), l.Addr().String(), core.ListenerConfig{TLS: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "elsewhere", RootCAs: client.RootCAs}}); err == nil {
		t.Error("a certificate for another host was accepted")
	}
}
