package harness

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// patience only guards against hanging.
const patience = 3 * time.Minute

// Eventually waits until ok says so, of something in another process that tells nobody of
// itself. It ends the test when another goroutine has failed it, and after minutes in which
// ok has not come true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if t.Failed() {
			t.FailNow()
		}
		if time.Now().After(end) {
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// Metrics is the broker's page of metrics.
func (b *Broker) Metrics(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTP+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// PluginStatus is what millrace plugins list says of a plugin.
type PluginStatus struct {
	Name, State, LastError                         string
	PID                                            int
	Restarts, Calls, Failures, Fallbacks, Nonsense int
}

// PluginStatus asks for the broker's one plugin.
func (b *Broker) PluginStatus(t testing.TB) PluginStatus {
	t.Helper()
	r := Millrace(t.Context(), t, "", "plugins", "list", "--http", b.HTTP, "--output", "json")
	var all []PluginStatus
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || len(all) != 1 {
		t.Fatalf("plugins list: exit code %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	return all[0]
}
