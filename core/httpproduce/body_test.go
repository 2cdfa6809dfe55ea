package httpproduce_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core/httpproduce"
	"github.com/millrace/millrace/core/metadata"
)

// TestTooMany: a few bytes of JSON make a record or a header, so that their number is
// bounded beside their bytes.
func TestTooMany(t *testing.T) {
	t.Parallel()
	h := httpproduce.New(httpproduce.Options{MaxBytes: 16 << 20})
	many := strings.Repeat("{},", 100_000) + "{}"
	for name, body := range map[string]string{
		"records": `{"records":[` + many + `]}`,
		"headers": `{"records":[{"headers":[` + many + `]}]}`,
		"both":    `{"records":[{"headers":[` + strings.Repeat("{},", 60_000) + `{}]},{"headers":[` + strings.Repeat("{},", 60_000) + `{}]}]}`,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/topics/t/records", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "send fewer") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestNothingFollows: what stands behind the JSON object is an error, whatever it is.
func TestNothingFollows(t *testing.T) {
	t.Parallel()
	h := httpproduce.New(httpproduce.Options{
		MaxBytes: 1 << 20, Timeout: time.Minute, Metadata: metadata.NewCache("cluster"), Refused: func(string) bool { return false },
	})
	// Where the body is good the answer is that there is no such topic.
	for rest, want := range map[string]int{
		"": http.StatusNotFound, " \n": http.StatusNotFound,
		"{}": http.StatusBadRequest, "}": http.StatusBadRequest, "]": http.StatusBadRequest, "x": http.StatusBadRequest,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/topics/t/records", strings.NewReader(`{"records":[{"value":"v"}]}`+rest))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("behind the object %q: %d %s, want %d", rest, w.Code, w.Body, want)
		}
	}
}
