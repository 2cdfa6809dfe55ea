package tree

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Endpoint is where a broker listens.
type Endpoint struct {
	Listener string
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Host     string // may be empty
	Port     int32
}

// Broker is the data of a broker's registration.
type Broker struct {
	Endpoints   []Endpoint
	Rack        string // empty for none
	JMXPort     int32  // -1 for none; CMAK insists on a number
	TimestampMs int64
}

type brokerJSON struct {
	Version   number             `json:"version"`
	Host      *string            `json:"host"`
	Port      number             `json:"port"`
	JMXPort   *number            `json:"jmx_port"`
	Timestamp text               `json:"timestamp"`
	Endpoints []string           `json:"endpoints"`
	Rack      *string            `json:"rack,omitempty"`
	Protocols map[string]string  `json:"listener_security_protocol_map"`
	Features  *map[string]number `json:"features,omitempty"`
}

const plaintext = "PLAINTEXT"

// Encode writes version 5. The host and port of the first PLAINTEXT endpoint are
// repeated at the top for old readers; without one the host is null and the port
// -1.
func (b Broker) Encode() []byte {
	jmx := number(b.JMXPort)
	j := brokerJSON{
		Version: 5, Port: -1, JMXPort: &jmx, Timestamp: text(b.TimestampMs),
		Endpoints: make([]string, 0, len(b.Endpoints)),
		Protocols: make(map[string]string, len(b.Endpoints)),
		Features:  &map[string]number{},
	}
	if b.Rack != "" {
		j.Rack = &b.Rack
	}
	for _, e := range b.Endpoints {
		j.Endpoints = append(j.Endpoints, e.Listener+"://"+net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
		j.Protocols[e.Listener] = e.Protocol
		if e.Protocol == plaintext && j.Host == nil {
			host := e.Host
			j.Host, j.Port = &host, number(e.Port)
		}
	}
	return encode(j)
}

// DecodeBroker reads versions 1 to 5.
func DecodeBroker(data []byte) (Broker, error) {
	var j brokerJSON
	if err := decode("a broker", data, &j); err != nil {
		return Broker{}, err
	}
	if j.Version < 1 {
		return Broker{}, versionError("a broker", j.Version, "1 to 5")
	}
	b := Broker{JMXPort: -1, TimestampMs: int64(j.Timestamp)}
	if j.JMXPort != nil {
		b.JMXPort = int32(*j.JMXPort)
	}
	if j.Rack != nil {
		b.Rack = *j.Rack
	}
	if len(j.Endpoints) == 0 && j.Host != nil { // version 1
		b.Endpoints = []Endpoint{{Listener: plaintext, Protocol: plaintext, Host: *j.Host, Port: int32(j.Port)}}
		return b, nil
	}
	for _, s := range j.Endpoints {
		e, err := parseEndpoint(s)
		if err != nil {
			return Broker{}, err
		}
		// Before version 4 the name of a listener was its protocol.
		e.Protocol = e.Listener
		if p, ok := j.Protocols[e.Listener]; ok {
			e.Protocol = p
		}
		b.Endpoints = append(b.Endpoints, e)
	}
	return b, nil
}

func parseEndpoint(s string) (Endpoint, error) {
	name, addr, ok := strings.Cut(s, "://")
	if !ok {
		return Endpoint{}, fmt.Errorf("endpoint %q: want NAME://HOST:PORT", s)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: %w", s, err)
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: the port is not a number", s)
	}
	return Endpoint{Listener: name, Host: host, Port: int32(n)}, nil
}
