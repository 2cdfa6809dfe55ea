package host

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/millrace/millrace/core"
)

// Handler serves the plugins over HTTP, for millrace plugins:
//
//	GET  /plugins               their Status, as JSON
//	POST /plugins/NAME/restart  Restart
//	POST /plugins/NAME/reload   Reload
//
// Failures are JSON with the one field error. A browser's requests from other sites are
// refused.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, h.List()) })
	mux.HandleFunc("POST /plugins/{name}/restart", func(w http.ResponseWriter, r *http.Request) {
		h.asked(w, h.Restart(r.Context(), r.PathValue("name")))
	})
	mux.HandleFunc("POST /plugins/{name}/reload", func(w http.ResponseWriter, r *http.Request) {
		h.asked(w, h.Reload(r.Context(), r.PathValue("name")))
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// Pages are where Handler is served.
func (h *Host) Pages() map[string]http.Handler {
	pages := h.Handler()
	return map[string]http.Handler{"/plugins": pages, "/plugins/": pages}
}

// failure is an answer that is none.
type failure struct {
	Error string `json:"error"`
}

// asked answers a request that changes something with how the plugins do then.
func (h *Host) asked(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		answer(w, http.StatusOK, h.List())
	case errors.Is(err, core.ErrNotFound):
		answer(w, http.StatusNotFound, failure{err.Error()})
	default:
		answer(w, http.StatusConflict, failure{err.Error()})
	}
}

func answer[T any](w http.ResponseWriter, status int, v T) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone; nobody else cares
}
