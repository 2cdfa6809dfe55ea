package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millrace/millrace/core/config"
)

var errUnreachable = errors.New("no broker can be reached")

// connection has the flags that every command with a broker shares.
type connection struct {
	bootstrap string
	file      string
	timeout   time.Duration
}

func (c *connection) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&c.bootstrap, "bootstrap-server", "127.0.0.1:9092", "brokers to connect to, HOST:PORT with commas between")
	f.StringVar(&c.file, "command-config", "", "properties file with client settings (security.protocol, sasl.mechanism, ...)")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to try before giving up")
}

// open makes a client and sees that a broker answers.
func (c *connection) open(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	all, err := c.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, usagef("--bootstrap-server %s: %w", c.bootstrap, err)
	}
	if err := c.ping(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// brokers are the addresses to begin with.
func (c *connection) brokers() []string {
	all := strings.Split(c.bootstrap, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// shortest is the least time that the client below accepts for a request.
const shortest = 100 * time.Millisecond

// options are those of every client.
func (c *connection) options() ([]kgo.Opt, error) {
	switch {
	case slices.Contains(c.brokers(), ""):
		return nil, usagef("--bootstrap-server %q: want HOST:PORT, or several with commas between", c.bootstrap)
	case c.timeout < shortest:
		return nil, usagef("--timeout %s: want %s or more", c.timeout, shortest)
	}
	all := []kgo.Opt{
		kgo.SeedBrokers(c.brokers()...),
		kgo.ClientID("millrace-cli"),
		kgo.RequestTimeoutOverhead(c.timeout),
		kgo.RetryTimeout(c.timeout),
	}
	if c.file == "" {
		return all, nil
	}
	more, err := clientOptions(c.file)
	return append(all, more...), err
}

// ping sees that a broker answers.
func (c *connection) ping(ctx context.Context, client *kgo.Client) error {
	limited, cancel := context.WithTimeout(ctx, min(c.timeout, 10*time.Second))
	defer cancel()
	if err := client.Ping(limited); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted while connecting to %s: %w", c.bootstrap, ctx.Err())
		}
		return fmt.Errorf("%w at %s (is it running? --bootstrap-server names another one): %w", errUnreachable, c.bootstrap, err)
	}
	return nil
}

// clientOptions reads a file of Kafka's client settings.
func clientOptions(file string) ([]kgo.Opt, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--command-config: %w", err)}
	}
	props, errs := config.ParseProperties(text)
	if err := errors.Join(errs...); err != nil {
		return nil, usagef("--command-config %s: %w", file, err)
	}
	set := make(map[string]string, len(props))
	for _, p := range props {
		set[p.Key] = p.Value
	}
	var opts []kgo.Opt
	if id := set["client.id"]; id != "" {
		opts = append(opts, kgo.ClientID(id))
	}
	if ms := set["request.timeout.ms"]; ms != "" {
		n, err := strconv.Atoi(ms)
		if err != nil || n <= 0 {
			return nil, usagef("%s: request.timeout.ms=%s: want milliseconds", file, ms)
		}
		opts = append(opts, kgo.RequestTimeoutOverhead(time.Duration(n)*time.Millisecond))
	}
	protocol := strings.ToUpper(set["security.protocol"])
	switch protocol {
	case "", "PLAINTEXT", "SASL_PLAINTEXT":
	case "SSL", "SASL_SSL":
		cfg, err := tlsConfig(set)
		if err != nil {
			return nil, usagef("%s: %w", file, err)
		}
		dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}
		opts = append(opts, kgo.Dialer(dialer.DialContext))
	default:
		return nil, usagef("%s: security.protocol=%s: want PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", file, protocol)
	}
	if strings.HasPrefix(protocol, "SASL_") {
		opt, err := saslOption(set)
		if err != nil {
			return nil, usagef("%s: %w", file, err)
		}
		opts = append(opts, opt)
	}
	return opts, nil
}

// tlsConfig understands PEM files (KIP-651); Java key stores cannot be read here.
func tlsConfig(set map[string]string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if path := set["ssl.truststore.location"]; path != "" {
		if t := set["ssl.truststore.type"]; !strings.EqualFold(t, "PEM") {
			return nil, fmt.Errorf("ssl.truststore.type=%s: only PEM can be read; convert the store with keytool and openssl", t)
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("ssl.truststore.location: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ssl.truststore.location=%s has no PEM certificate", path)
		}
	}
	if path := set["ssl.keystore.location"]; path != "" {
		if t := set["ssl.keystore.type"]; !strings.EqualFold(t, "PEM") {
			return nil, fmt.Errorf("ssl.keystore.type=%s: only PEM can be read", t)
		}
		cert, err := tls.LoadX509KeyPair(path, path)
		if err != nil {
			return nil, fmt.Errorf("ssl.keystore.location: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if v, ok := set["ssl.endpoint.identification.algorithm"]; ok && v == "" {
		// As in Java: an empty value, written out by whoever runs the command, switches
		// the check of the host name off.
		cfg.InsecureSkipVerify = true
	}
	return cfg, nil
}

var errJAAS = errors.New(`sasl.jaas.config: want ... required username="..." password="...";`)

func saslOption(set map[string]string) (kgo.Opt, error) {
	jaas := set["sasl.jaas.config"]
	user := jaasValue(jaas, "username")
	password := jaasValue(jaas, "password")
	if user == "" {
		return nil, errJAAS
	}
	switch mechanism := set["sasl.mechanism"]; mechanism {
	case "PLAIN":
		return kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()), nil
	case "SCRAM-SHA-256":
		return kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()), nil
	case "SCRAM-SHA-512":
		return kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism=%s: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", mechanism)
	}
}

// jaasValue finds an option in a JAAS login entry.
func jaasValue(jaas, name string) string {
	m := regexp.MustCompile(`\b` + name + `\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))`).FindStringSubmatch(jaas)
	if m == nil {
		return ""
	}
	if m[2] != "" {
		return m[2]
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[1])
}
