package broker_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// posted is an answer of the HTTP produce endpoint.
type posted struct {
	status  int
	Message string `json:"message"`
	Records []struct {
		Partition int32  `json:"partition"`
		Offset    *int64 `json:"offset"`
		Error     string `json:"error"`
		Code      int16  `json:"code"`
		Message   string `json:"message"`
	} `json:"records"`
}

// TestHTTPProduce produces over HTTP in every form and reads it back with a Kafka
// client; then everything that can be wrong.
func TestHTTPProduce(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.WithSetting("http.listener", "127.0.0.1:0"), broker.WithSetting("http.produce.enable", "true"),
		broker.WithSetting("http.produce.max.bytes", "100000"))
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm, fnv := kadm.NewClient(client), "fnv1a"
	if _, err := adm.CreateTopic(t.Context(), 4, 1, map[string]*string{"partitioner": &fnv}, "t"); err != nil {
		t.Fatal(err)
	}
	url := "http://" + b.HTTPAddr() + "/topics/"
	post := func(path, kind, body string, headers ...string) (p posted) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }() // only read
		p.status = resp.StatusCode
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("%s %s: %v in %q", path, resp.Status, err, text)
		}
		return p
	}

	const json1 = `{"records":[{"key":"k1","value":{"a": [1, 2]},"headers":[{"key":"h","value":"v"}]},{"key":null,"value":"text","partition":2,"timestamp":1700000000000},{"key":7,"value":null}]}`
	if p := post("t/records", "application/json; charset=utf-8", json1); p.status != 200 || len(p.Records) != 3 || p.Records[1].Partition != 2 || p.Records[1].Offset == nil {
		t.Fatalf("%+v", p)
	}
	noise := []byte{0, 255, 10, 13, 128}
	bin := fmt.Sprintf(`{"records":[{"key":%q,"value":%q}]}`, base64.StdEncoding.EncodeToString(noise), base64.StdEncoding.EncodeToString(noise))
	if p := post("t/records?acks=1", "application/vnd.kafka.binary.v2+json", bin); p.status != 200 {
		t.Fatalf("%+v", p)
	}
	if p := post("t/records?key=raw", "application/octet-stream", string(noise)); p.status != 200 {
		t.Fatalf("%+v", p)
	}
	want := map[string]string{"k1": `{"a":[1,2]}`, "": "text", "7": "", string(noise): string(noise), "raw": string(noise)}
	place := partitioners.NewFNV1a(partitioners.Options{})
	for got := 0; got < len(want); {
		fs := client.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			got++
			if v, ok := want[string(r.Key)]; !ok || v != string(r.Value) {
				t.Errorf("key %q has the value %q, want %q", r.Key, r.Value, v)
			}
			if r.Key != nil && r.Partition != place.PartitionKey(r.Key, 4) {
				t.Errorf("key %q lies in partition %d, not where the topic's partitioner puts it", r.Key, r.Partition)
			}
			switch string(r.Key) {
			case "k1":
				if len(r.Headers) != 1 || string(r.Headers[0].Value) != "v" {
					t.Errorf("headers %v", r.Headers)
				}
			case "7":
				if r.Value != nil {
					t.Error("null became something")
				}
			case "":
				if r.Timestamp.UnixMilli() != 1700000000000 || r.Key != nil {
					t.Errorf("timestamp %v, key %v", r.Timestamp, r.Key)
				}
			}
		})
	}

	compact := "compact"
	if _, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": &compact}, "keyed"); err != nil {
		t.Fatal(err)
	}
	one := `{"records":[{"value":"v"}]}`
	for _, c := range []struct {
		name, path, kind, body string
		status                 int
		says                   string
		headers                []string
	}{
		{"no topic", "nothere/records", "application/json", one, 404, "UNKNOWN_TOPIC_OR_PARTITION", nil},
		{"no partition", "t/records", "application/json", `{"records":[{"value":"v","partition":9}]}`, 404, "UNKNOWN_TOPIC_OR_PARTITION", nil},
		{"internal", "__consumer_offsets/records", "application/json", one, 422, "INVALID_TOPIC_EXCEPTION", nil},
		{"no key", "keyed/records", "application/json", one, 422, "INVALID_RECORD", nil},
		{"some", "keyed/records", "application/json", `{"records":[{"value":"v","partition":0},{"key":"k","value":"v","partition":1}]}`, 207, "INVALID_RECORD", nil},
		{"too large", "t/records", "application/octet-stream", strings.Repeat("x", 100_001), 413, "http.produce.max.bytes", nil},
		{"kind", "t/records", "text/plain", one, 415, "Content-Type", nil},
		{"no kind", "t/records", "", one, 415, "Content-Type", nil},
		{"no JSON", "t/records", "application/json", `{"records":[`, 400, "cannot be read", nil},
		{"unknown field", "t/records", "application/json", `{"records":[{"vlaue":1}]}`, 400, "vlaue", nil},
		{"nothing", "t/records", "application/json", `{}`, 400, "at least one record", nil},
		{"two", "t/records", "application/json", one + one, 400, "follows", nil},
		{"base64", "t/records", "application/vnd.kafka.binary.v2+json", `{"records":[{"value":"%%"}]}`, 400, "record 0", nil},
		{"partition", "t/records", "application/json", `{"records":[{"value":"v","partition":-2}]}`, 400, "partition -2", nil},
		{"timestamp", "t/records", "application/json", `{"records":[{"value":"v","timestamp":-2}]}`, 400, "timestamp -2", nil},
		{"acks", "t/records?acks=0", "application/json", one, 400, "acks=0", nil},
		{"another site", "t/records", "application/json", one, 403, "cross-origin", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}},
	} {
		p := post(c.path, c.kind, c.body, c.headers...)
		text := p.Message
		for _, r := range p.Records {
			text += " " + r.Error + " " + r.Message
		}
		if p.status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %q, want %d and %q", c.name, p.status, text, c.status, c.says)
		}
	}
}
