package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseListeners(t *testing.T) {
	t.Parallel()
	protocols, err := ParseProtocolMap("PLAINTEXT:PLAINTEXT,SSL:SSL, internal:sasl_ssl ,A-1.b_2:PLAINTEXT")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want []Listener
		err  string
	}{
		{"", nil, ""},
		{"PLAINTEXT://:9092", []Listener{{"PLAINTEXT", "PLAINTEXT", "", 9092}}, ""},
		{"plaintext://h:0 , Internal://[::1]:9093", []Listener{{"PLAINTEXT", "PLAINTEXT", "h", 0}, {"INTERNAL", "SASL_SSL", "::1", 9093}}, ""},
		{"a-1.b_2://a.b-c_d:65535", []Listener{{"A-1.B_2", "PLAINTEXT", "a.b-c_d", 65535}}, ""},
		{"PLAINTEXT://::1:9092", []Listener{{"PLAINTEXT", "PLAINTEXT", "::1", 9092}}, ""},
		{"PLAINTEXT://127.0.0.1:9092,SSL://[::1]:9092", []Listener{{"PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092}, {"SSL", "SSL", "::1", 9092}}, ""},
		{"PLAINTEXT://a:0,SSL://a:0", []Listener{{"PLAINTEXT", "PLAINTEXT", "a", 0}, {"SSL", "SSL", "a", 0}}, ""},
		{"PLAINTEXT://a:1,SSL://b:1", nil, "each listener needs a port of its own: PLAINTEXT://a:1 and SSL://b:1 have the same"},
		{"PLAINTEXT://a:1,PLAINTEXT://b:2", nil, "each listener needs a name of its own: PLAINTEXT is there twice"},
		{"CLIENT://a:1", nil, "listener CLIENT has no security protocol: add CLIENT:PLAINTEXT (or SSL, SASL_PLAINTEXT, SASL_SSL) to listener.security.protocol.map"},
		{"PLAINTEXT://a", nil, "the port is missing"},
		{"a:9092", nil, "the name is missing"},
		{"://a:9092", nil, "the name is missing"},
		{"PLAINTEXT://a:-1", nil, "a port is a number from 0 to 65535"},
		{"PLAINTEXT://a:65536", nil, "a port is a number from 0 to 65535"},
		{"PLAINTEXT://[a]:1", nil, "what is in brackets must be an IPv6 address"},
		{"PLAINTEXT://[::1:1", nil, "what is in brackets must be an IPv6 address"},
		{"PLAINTEXT://x:y:1", nil, "an IPv6 address goes in brackets"},
		{"PLAINTEXT://a b:1", nil, "the host has characters that no host name has"},
		{"PLAIN/TEXT://a:1", nil, "a name has letters, digits, _, - and dots only"},
		{"PLAINTEXT://a:1,", nil, "it is empty"},
	} {
		got, err := ParseListeners(c.text, protocols)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want an error with %q", c.text, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", c.text, err, diff)
		}
	}
	for _, bad := range []string{"A", ":SSL", "A:TLS", "A:SSL,a:SSL"} {
		if m, err := ParseProtocolMap(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, m)
		}
	}
}

func TestListenerRules(t *testing.T) {
	t.Parallel()
	const two = "listeners=IN://:9091,EX://:9092\nlistener.security.protocol.map=IN:PLAINTEXT,EX:PLAINTEXT\n"
	for _, c := range []struct{ text, want string }{
		{"listeners=PLAINTEXT://:9092", ""},
		{"listeners=PLAINTEXT://0.0.0.0:9092\nadvertised.listeners=PLAINTEXT://b1:9092", ""},
		{"listeners=PLAINTEXT://[::]:9092", "set advertised.listeners"},
		{"advertised.listeners=PLAINTEXT://0.0.0.0:9092", "0.0.0.0 means every interface and cannot be connected to"},
		{"advertised.listeners=PLAINTEXT://b1:9092,SSL://b1:1", "SSL is not among the listeners (PLAINTEXT)"},
		{"advertised.listeners=PLAINTEXT://b1", "the port is missing"},
		{"listeners=", "at least one listener is needed"},
		{"listener.security.protocol.map=A", "want NAME:PROTOCOL"},
		{two, "brokers are to reach each other at listener PLAINTEXT, which is not advertised: set inter.broker.listener.name to one of IN, EX"},
		{two + "inter.broker.listener.name=in", ""},
		{two + "inter.broker.listener.name=IN\nadvertised.listeners=EX://h:1", "set inter.broker.listener.name to one of EX"},
		{two + "inter.broker.listener.name=IN\nsecurity.inter.broker.protocol=PLAINTEXT", "not both"},
		{two + "inter.broker.listener.name=IN\ncontrol.plane.listener.name=EX", ""},
		{two + "inter.broker.listener.name=IN\ncontrol.plane.listener.name=IN", "the control plane needs one of its own"},
		{two + "inter.broker.listener.name=IN\ncontrol.plane.listener.name=CP", "CP is not among the listeners (IN, EX)"},
		{two + "inter.broker.listener.name=IN\nadvertised.listeners=EX://h:1,IN://h:1", ""}, // two names behind one address are fine
		{"listeners=SSL://:9093\nsecurity.inter.broker.protocol=SSL", ""},
	} {
		s, err := FromProperties(newTable(t), "p", []byte(c.text))
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			} else if _, err := s.NewBroker(); err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "p:") && !strings.Contains(c.text, two) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestAdvertisedAt(t *testing.T) {
	t.Parallel()
	s, err := FromMap(newTable(t), "test", map[string]string{
		"listeners": "PLAINTEXT://:0,SSL://127.0.0.1:9093", "advertised.listeners": "PLAINTEXT://:0,SSL://out:443",
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewBroker()
	if err != nil {
		t.Fatal(err)
	}
	got := b.AdvertisedAt("machine", map[string]int32{"PLAINTEXT": 40001})
	want := []Listener{{"PLAINTEXT", "PLAINTEXT", "machine", 40001}, {"SSL", "SSL", "out", 443}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := (Listener{Name: "P", Host: "::1", Port: 1}).String(); a != "P://[::1]:1" {
		t.Error(a)
	}
}

func FuzzParseListeners(f *testing.F) {
	for _, s := range []string{"PLAINTEXT://:9092", "P://[::1]:1,SSL://h:0", "P://fe80::1%eth0:1", "A://", ",", "PLAINTEXT://[::1%25x]:1"} {
		f.Add(s)
	}
	protocols := map[string]string{"PLAINTEXT": "PLAINTEXT", "SSL": "SSL", "P": "PLAINTEXT"}
	f.Fuzz(func(t *testing.T, text string) {
		listeners, err := ParseListeners(text, protocols)
		if err != nil {
			return
		}
		parts := make([]string, len(listeners))
		for i, l := range listeners {
			parts[i] = l.String()
		}
		again, err := ParseListeners(strings.Join(parts, ","), protocols)
		if diff := cmp.Diff(listeners, again); err != nil || diff != "" {
			t.Fatalf("%q: %v %s", parts, err, diff)
		}
	})
}

func TestListenerConfig(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "listeners=IN://:1,EX://[::1]:2\nlistener.security.protocol.map=IN:PLAINTEXT,EX:SSL\ninter.broker.listener.name=IN\nmax.connections=9\nlistener.name.ex.max.connections=7\nconnections.max.idle.ms=-1\nmax.connections.per.ip.overrides=[::1]:3")
	check := func(i int, address string, connections int) {
		t.Helper()
		c := d.Snapshot().ListenerConfig(d.Broker().Listeners[i])
		if c.Address != address || c.MaxConnections != connections || c.IdleTimeout != 0 || c.PerAddressOverrides["::1"] != 3 || c.MaxRequestBytes != 100<<20 {
			t.Errorf("%+v", c)
		}
	}
	check(0, ":1", 9)
	check(1, "[::1]:2", 7)
	if err := d.SetBroker(map[string]string{"listener.name.ex.max.connections": "5", "max.connections": "4"}); err != nil {
		t.Fatal(err)
	}
	check(0, ":1", 4)
	check(1, "[::1]:2", 5)
}
