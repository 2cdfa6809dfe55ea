package clients_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/test/harness"
)

// page is what passed, for people.
const page = "../../docs/compatibility.md"

var update = flag.Bool("update", false, "write docs/compatibility.md anew from what passed")

func installed(command string) bool {
	_, err := exec.LookPath(command)
	return err == nil
}

// results notes what passed. A cell that failed once has failed.
type results struct {
	mu    sync.Mutex
	cells map[string]*cell
}

type cell struct{ passed, failed int }

func (r *results) add(c *client, codec, what string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells == nil {
		r.cells = map[string]*cell{}
	}
	key := c.id() + "/" + codec + "/" + what
	if r.cells[key] == nil {
		r.cells[key] = &cell{}
	}
	if ok {
		r.cells[key].passed++
	} else {
		r.cells[key].failed++
	}
}

// show is what the page has for a cell: how many topics of how many were read
// where a client consumes.
func (r *results) show(c *client, codec, what string) string {
	n := r.cells[c.id()+"/"+codec+"/"+what]
	switch {
	case n == nil:
		return "–"
	case n.failed > 0:
		return "no"
	case what == "consumes":
		return fmt.Sprintf("yes, of %d", n.passed)
	default:
		return "yes"
	}
}

// checkPage compares the page with what passed. The page is about all clients: where
// one is missing, or only a part of the tests was asked for, it is left alone.
func checkPage(t *testing.T, b *harness.Broker, clients []client, seen *results, groups []groupClient, grouped *groupResults) {
	t.Helper()
	for i := range clients {
		c := &clients[i]
		for _, codec := range c.codecs {
			if !c.present() || seen.cells[c.id()+"/"+codec+"/produces"] == nil {
				t.Logf("%s is not compared: %s with %s was not run", page, c.id(), codec)
				return
			}
		}
	}
	for i := range groups {
		if c := &groups[i]; !c.present() || !grouped.passed[c.id()] {
			t.Logf("%s is not compared: the group of %s was not run", page, c.id())
			return
		}
	}
	want := render(clients, seen) + renderGroups(groups) + renderKeys(t, b.Addr)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("%s does not tell what passed just now (%v); write it anew with\n\tcd test && go test ./clients -run TestClients -update\nIt should be:\n%s",
			page, err, want)
	}
}

func render(clients []client, seen *results) string {
	var s strings.Builder
	s.WriteString(`# Compatibility

Written by the tests of ` + "`test/clients`" + ` (` + "`cd test && go test ./clients -run TestClients -update`" + `), which run
each client against the real binary; CI compares this page with what passes.

## Clients

Each client sends the same messages with each codec it knows: keys and values that are null, empty, text, noise and
large, several headers, timestamps of their own. ` + "`millrace dump-log`" + ` sees that the codec was really used. Every client
then reads what each of the others wrote in a codec that it knows, and gets the same bytes; *yes, of 15* says that it
read the topics of fifteen producers. What a client from before 0.11 sends or reads is converted: headers, and times in
the oldest format, are lost on the way. Consumers are given their partition by hand, without a group. Idempotent
producers (franz-go and each of the Java clients) send small batches while the broker is killed twice and started
again: every record is there once, in order.

| client | version | |`)
	codecs := allCodecs()
	for _, codec := range codecs {
		s.WriteString(" " + codec + " |")
	}
	s.WriteString(" not covered |\n|---|---|---|" + strings.Repeat("---|", len(codecs)+1) + "\n")
	for i := range clients {
		c := &clients[i]
		for _, what := range []string{"produces", "consumes"} {
			name, version, note := c.name, c.version, c.note
			if what == "consumes" {
				name, version, note = "", "", ""
			}
			fmt.Fprintf(&s, "| %s | %s | %s |", name, version, what)
			for _, codec := range codecs {
				fmt.Fprintf(&s, " %s |", seen.show(c, codec, what))
			}
			fmt.Fprintf(&s, " %s |\n", note)
		}
	}
	return s.String()
}

// renderGroups lists groups, all of which have passed: the test fails where one does
// not.
func renderGroups(groups []groupClient) string {
	var s strings.Builder
	s.WriteString(`
## Groups

Three members of one client share a topic of six partitions, to which the client sends with each codec that it knows. One
member is killed (SIGKILL) with records on their way to it, and another one joins. *At least once* means here: every record
that was sent arrives, the offsets that the group has committed in the end are those of the ends of the partitions, and no
record arrives again once it is committed. Where the client tells of its commits, each of them is held against all that
arrives: of the deliveries of a record, one at most is followed by a commit of the member that got it. kcat, sarama and
kafka-go do not tell, or not for certain; for them it is what was committed before the kill, as the broker has it, that must
not come again. One of the three (kcat's cannot) is slow: it holds what it has read for longer than a heartbeat before it
commits, so that partitions are taken from it meanwhile.

Of the consumer protocol, Java's client has a preview in 3.7 to 3.9, which is left out: with 3.9.1 a partition that a
member gets while it asks for the committed offsets of others begins at its first record, because the client never asks for
that one's (7 of 32 runs on a busy machine). From 4.0 on a member that commits by hand should subscribe with a
` + "`ConsumerRebalanceListener`" + `, if only an empty one: without it the client gives partitions up at any time, and not in
` + "`poll`" + `, so that it may commit what another member has already read.

Now and then a member of kafka-python 3.0 stops sending anything, heartbeats included (once in some hundred groups of the
test, on a busy machine). It is started again when it has got nothing for 15 s.

| client | version | protocol | assignor | codecs | at least once |
|---|---|---|---|---|---|
`)
	for i := range groups {
		c := &groups[i]
		protocol := "classic"
		if c.consumer {
			protocol = "consumer (KIP-848)"
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | yes |\n", c.name, c.version, protocol, c.assignor, strings.Join(c.codecs, ", "))
	}
	return s.String()
}

// renderKeys lists what the broker says it serves.
func renderKeys(t *testing.T, addr string) string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(resp.ApiKeys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey) - int(b.ApiKey) })
	var s strings.Builder
	s.WriteString(`
## API keys

What ` + "`ApiVersions`" + ` answers. Produce before version 3 and Fetch before version 4 carry the message formats 0 and 1,
which are converted from and to the one that is stored.

| key | name | versions |
|---|---|---|
`)
	for _, k := range resp.ApiKeys {
		fmt.Fprintf(&s, "| %d | %s | %d–%d |\n", k.ApiKey, kmsg.Key(k.ApiKey).Name(), k.MinVersion, k.MaxVersion)
	}
	return s.String()
}
