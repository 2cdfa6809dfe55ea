package httpproduce_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/httpproduce"
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
