package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Listener is one entry of listeners or advertised.listeners.
type Listener struct {
	Name     string // upper case, unique in a broker
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Host     string // name or address without brackets; empty means every interface
	Port     int32  // 0 lets the system choose
}

// Address is HOST:PORT, as net.Listen and net.Dial take it.
func (l Listener) Address() string {
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// String is NAME://HOST:PORT.
func (l Listener) String() string { return l.Name + "://" + l.Address() }

// ParseListeners reads NAME://HOST:PORT,... Names become upper case. Two listeners
// of one name are refused; two of one port too, unless the port is 0 or one is for
// IPv4 and the other for IPv6 (KIP-928). protocols gives the security protocol of
// each name, as ParseProtocolMap answers it.
func ParseListeners(value string, protocols map[string]string) ([]Listener, error) {
	listeners, err := parseEndpoints(value, protocols)
	if err != nil {
		return nil, err
	}
	for i, a := range listeners {
		for _, b := range listeners[:i] {
			if a.Port == b.Port && a.Port != 0 && !splitFamilies(a.Host, b.Host) {
				return nil, fmt.Errorf("each listener needs a port of its own: %s and %s have the same", b, a)
			}
		}
	}
	return listeners, nil
}

func splitFamilies(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Is4() != y.Is4()
}

func parseEndpoints(value string, protocols map[string]string) ([]Listener, error) {
	var out []Listener
	for _, item := range SplitList(value) {
		l, err := parseEndpoint(item)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Listener) bool { return o.Name == l.Name }) {
			return nil, fmt.Errorf("each listener needs a name of its own: %s is there twice", l.Name)
		}
		var ok bool
		if l.Protocol, ok = protocols[l.Name]; !ok {
			return nil, fmt.Errorf("listener %s has no security protocol: add %s:PLAINTEXT (or SSL, SASL_PLAINTEXT, SASL_SSL) to listener.security.protocol.map", l.Name, l.Name)
		}
		out = append(out, l)
	}
	return out, nil
}

func parseEndpoint(item string) (Listener, error) {
	bad := func(why string) (Listener, error) {
		return Listener{}, fmt.Errorf("%q is not a listener: %s; want NAME://HOST:PORT, as in PLAINTEXT://localhost:9092 or PLAINTEXT://[::1]:9092", item, why)
	}
	if item == "" {
		return bad("it is empty")
	}
	name, address, ok := strings.Cut(item, "://")
	if !ok || name == "" {
		return bad("the name is missing")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }) {
		return bad("a name has letters, digits, _, - and dots only")
	}
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return bad("the port is missing")
	}
	host, digits := address[:colon], address[colon+1:]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return bad("a port is a number from 0 to 65535")
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !closed || err != nil || !addr.Is6() {
			return bad("what is in brackets must be an IPv6 address")
		}
		host = inner
	} else if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return bad("an IPv6 address goes in brackets")
		}
	} else if strings.ContainsFunc(host, func(r rune) bool { return !nameRune(r) && r != '%' }) {
		return bad("the host has characters that no host name has")
	}
	return Listener{Name: strings.ToUpper(name), Host: host, Port: int32(port)}, nil
}

func nameRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '-' || r == '.'
}

// ParseProtocolMap reads listener.security.protocol.map: NAME:PROTOCOL,...
func ParseProtocolMap(value string) (map[string]string, error) {
	out := make(map[string]string)
	for _, item := range SplitList(value) {
		name, protocol, ok := strings.Cut(item, ":")
		name, protocol = strings.ToUpper(strings.TrimSpace(name)), strings.ToUpper(strings.TrimSpace(protocol))
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: want NAME:PROTOCOL, as in INTERNAL:PLAINTEXT", item)
		}
		if !protocols().has(protocol) {
			return nil, fmt.Errorf("%q: the protocol must be one of %s", item, strings.Join(protocols().OneOf, ", "))
		}
		if _, dup := out[name]; dup {
			return nil, fmt.Errorf("%q: the listener %s is there twice", item, name)
		}
		out[name] = protocol
	}
	return out, nil
}

// ParseHostCounts reads max.connections.per.ip.overrides: HOST:COUNT,... IPv6
// addresses may have brackets.
func ParseHostCounts(value string) (map[string]int, error) {
	out := make(map[string]int)
	for _, item := range SplitList(value) {
		colon := strings.LastIndexByte(item, ':')
		if colon < 1 {
			return nil, fmt.Errorf("%q: want HOST:COUNT", item)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(item[colon+1:]), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q: the count must be a number from 0 to %s", item, maxInt)
		}
		host := strings.TrimSpace(item[:colon])
		if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
			host = host[1 : len(host)-1]
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.String()
		}
		out[host] = int(n)
	}
	return out, nil
}

// listenerSet is what the settings about listeners come to.
type listenerSet struct {
	listeners, advertised     []Listener
	interBroker, controlPlane string
}

func names(listeners []Listener) string {
	out := make([]string, len(listeners))
	for i, l := range listeners {
		out[i] = l.Name
	}
	return strings.Join(out, ", ")
}

func hasListener(listeners []Listener, name string) bool {
	return slices.ContainsFunc(listeners, func(l Listener) bool { return l.Name == name })
}

// resolveListeners applies Kafka's rules about listeners. complain is called with
// the name of the setting that is at fault.
func resolveListeners(get func(string) (string, bool), given func(string) bool, complain func(setting string, err error)) listenerSet {
	text := func(name string) string { v, _ := get(name); return strings.TrimSpace(v) }
	var set listenerSet
	security, err := ParseProtocolMap(text("listener.security.protocol.map"))
	if err != nil {
		complain("listener.security.protocol.map", err)
		return set
	}
	if set.listeners, err = ParseListeners(text("listeners"), security); err != nil {
		complain("listeners", err)
		return set
	}
	if len(set.listeners) == 0 {
		complain("listeners", textError("at least one listener is needed, such as PLAINTEXT://:9092"))
		return set
	}
	set.controlPlane = strings.ToUpper(text("control.plane.listener.name"))
	set.interBroker = strings.ToUpper(text("inter.broker.listener.name"))
	switch {
	case set.interBroker == "":
		set.interBroker = strings.ToUpper(text("security.inter.broker.protocol"))
	case given("security.inter.broker.protocol"):
		complain("inter.broker.listener.name", textError("give either inter.broker.listener.name or security.inter.broker.protocol, not both"))
	}
	set.advertised = advertised(set, text("advertised.listeners"), security, complain)
	if !hasListener(set.advertised, set.interBroker) {
		complain("inter.broker.listener.name", fmt.Errorf("brokers are to reach each other at listener %s, which is not advertised: set inter.broker.listener.name to one of %s", set.interBroker, names(set.advertised)))
	}
	if set.controlPlane != "" {
		if !hasListener(set.listeners, set.controlPlane) {
			complain("control.plane.listener.name", fmt.Errorf("%s is not among the listeners (%s)", set.controlPlane, names(set.listeners)))
		}
		if set.controlPlane == set.interBroker {
			complain("control.plane.listener.name", fmt.Errorf("%s is the inter-broker listener too; the control plane needs one of its own", set.controlPlane))
		}
	}
	return set
}

func advertised(set listenerSet, text string, security map[string]string, complain func(string, error)) []Listener {
	if text == "" {
		out := slices.Clone(set.listeners)
		for i := range out {
			if unspecified(out[i].Host) {
				if out[i].Host != "" {
					complain("listeners", fmt.Errorf("%s would be advertised to clients, who cannot connect to it: set advertised.listeners to addresses that they can reach, as in %s://%s:%d", out[i], out[i].Name, "broker1.example.com", out[i].Port))
				}
				out[i].Host = "" // to be filled with the machine's name
			}
		}
		return out
	}
	out, err := parseEndpoints(text, security)
	if err != nil {
		complain("advertised.listeners", err)
		return nil
	}
	for _, l := range out {
		if !hasListener(set.listeners, l.Name) {
			complain("advertised.listeners", fmt.Errorf("%s is not among the listeners (%s)", l.Name, names(set.listeners)))
		}
		if l.Host != "" && unspecified(l.Host) {
			complain("advertised.listeners", fmt.Errorf("%s: %s means every interface and cannot be connected to; advertise a name or an address that clients can reach", l, l.Host))
		}
	}
	return out
}

// unspecified hosts stand for every interface.
func unspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}
