package emulator

import (
	"bytes"
	"compress/gzip"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// faultHeader is how one request asks for faults of its own, in ParseFaults's syntax.
const faultHeader = "X-Emulator-Fault"

// serveAPI is every request's way: faults, key, path, replay, endpoint.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	if port, key, ok := tunnelHost(r.Host); ok {
		s.tunnel(w, r, port, key)
		return
	}
	w.Header().Set("X-Runloop-Request-Id", uuid.NewString())
	if strings.HasPrefix(r.URL.Path, "/_emulator/") {
		s.serveAdmin(w, r)
		return
	}
	s.log.Debug("request", "method", r.Method, "path", r.URL.Path)
	hit, err := s.requestFaults(r)
	if err != nil {
		replyError(w, err)
		return
	}
	after, err := s.misbehave(r, hit)
	if err != nil {
		replyError(w, err)
		return
	}
	status, body := s.answer(w, r)
	if after {
		panic(http.ErrAbortHandler)
	}
	if body != nil {
		sendJSON(w, r, status, body)
	}
}

// requestFaults returns the faults that hit a request.
func (s *Server) requestFaults(r *http.Request) ([]Fault, error) {
	asked, err := ParseFaults(r.Header.Get(faultHeader))
	if err != nil {
		return nil, badRequest("%s: %v", faultHeader, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.stats.Requests++
	hit := append(asked, s.chaos.at(r.Method, r.URL.Path, FaultLatency, FaultRate, FaultError, FaultDropBefore, FaultDropAfter,
		FaultExpiredKey)...)
	s.state.stats.Faults += len(hit)
	return hit, nil
}

// misbehave does what a request's faults say before it is served; dropAfter is left to be done afterwards.
func (s *Server) misbehave(r *http.Request, hit []Fault) (dropAfter bool, err error) {
	for _, f := range hit {
		switch f.Kind {
		case FaultLatency:
			if err := pause(r.Context(), f.Delay); err != nil {
				return false, err
			}
		case FaultRate:
			f := &Failure{Status: http.StatusTooManyRequests, Code: "rate_limited", Message: "Rate limit exceeded", RetryAfter: f.Delay}
			return false, f
		case FaultError:
			return false, failure(http.StatusServiceUnavailable, "service_unavailable", "The service is unavailable for the moment")
		case FaultExpiredKey:
			return false, failure(http.StatusUnauthorized, "unauthorized", "The API key has expired")
		case FaultDropBefore:
			panic(http.ErrAbortHandler)
		case FaultDropAfter:
			dropAfter = true
		}
	}
	return dropAfter, nil
}

// answer serves a request and returns its answer; none where the endpoint has written itself.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (status int, body []byte) {
	if err := s.authenticate(r); err != nil {
		return failed(w, err)
	}
	if err := unzip(r); err != nil {
		return failed(w, err)
	}
	serve, err := s.routes.find(r)
	if err != nil {
		return failed(w, err)
	}
	id := r.Header.Get("X-Request-Id")
	if id == "" || r.Method != http.MethodPost || s.config.NoReplay {
		return result(w, r, serve)
	}
	key := r.URL.Path + "?" + r.URL.RawQuery + " " + id
	known, first := s.replays.open(key)
	if !first {
		return s.again(w, r, known)
	}
	settled := false
	defer func() {
		if !settled {
			s.replays.settle(key, known, http.StatusInternalServerError, nil)
		}
	}()
	status, body = result(w, r, serve)
	if body == nil {
		status = 0
	}
	settled = true
	s.replays.settle(key, known, status, body)
	return status, body
}

// again answers a repeated request.
func (s *Server) again(w http.ResponseWriter, r *http.Request, known *answer) (int, []byte) {
	select {
	case <-known.done:
	case <-r.Context().Done():
		return failed(w, r.Context().Err())
	}
	s.mu.Lock()
	s.state.stats.Replayed++
	s.mu.Unlock()
	if known.body == nil {
		return failed(w, conflict("A request with this x-request-id is over and its answer is not kept"))
	}
	w.Header().Set("X-Emulator-Replayed", "true")
	return known.status, known.body
}

func result(w http.ResponseWriter, r *http.Request, serve endpoint) (int, []byte) {
	body, err := serve(w, r)
	if err != nil {
		return failed(w, err)
	}
	if _, ok := body.(written); ok {
		return 0, nil
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return failed(w, err)
	}
	return http.StatusOK, raw
}

// failed returns an error as an answer, its headers set.
func failed(w http.ResponseWriter, err error) (int, []byte) {
	buffer := &memory{header: w.Header()}
	replyError(buffer, err)
	return buffer.status, buffer.body.Bytes()
}

// memory is a response that is kept, with the headers of another one.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header returns the headers of the other response.
func (m *memory) Header() http.Header { return m.header }

// WriteHeader keeps the status.
func (m *memory) WriteHeader(status int) { m.status = status }

// Write keeps the body.
func (m *memory) Write(p []byte) (int, error) { return m.body.Write(p) }

func (s *Server) authenticate(r *http.Request) error {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return failure(http.StatusUnauthorized, "unauthorized", "Missing bearer token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	want := s.state.key
	if want == "" {
		want = s.config.Key
	}
	if subtle.ConstantTimeCompare([]byte(key), []byte(want)) != 1 && !s.state.keys[key] {
		return failure(http.StatusUnauthorized, "unauthorized", "Invalid API key")
	}
	return nil
}

// unzip lets endpoints read a compressed body as it was.
func unzip(r *http.Request) error {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return nil
	}
	plain, err := gzip.NewReader(r.Body)
	if err != nil {
		return badRequest("The body is not gzip: %v", err)
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{plain, r.Body}
	return nil
}

// zipFrom is the length from which an answer is worth compressing.
const zipFrom = 1400

func sendJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if len(body) >= zipFrom && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		if _, err := z.Write(body); err == nil && z.Close() == nil {
			body = small.Bytes()
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be.
}

// serveAdmin serves what only an emulator has: counts, faults, evictions.
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	var admin router
	admin.on("GET /_emulator/stats", func(http.ResponseWriter, *http.Request) (any, error) { return s.Stats(), nil })
	admin.on("GET /_emulator/faults", func(http.ResponseWriter, *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return append(Faults{}, s.chaos.faults...), nil
	})
	admin.on("POST /_emulator/faults", s.postFaults)
	admin.on("POST /_emulator/evict/{id}", s.postEvict)
	admin.on("GET /_emulator/objects/{id}", s.serveContent)
	admin.on("PUT /_emulator/objects/{id}", s.serveContent)
	serve, err := admin.find(r)
	if err != nil {
		replyError(w, err)
		return
	}
	if status, body := result(w, r, serve); body != nil {
		sendJSON(w, r, status, body)
	}
}

// postFaults takes a list of faults, or {"faults": "TEXT"} as ParseFaults reads it.
func (s *Server) postFaults(_ http.ResponseWriter, r *http.Request) (any, error) {
	raw, err := decode[json.RawMessage](r)
	if err != nil {
		return nil, err
	}
	faults, err := decodeJSON[Faults](raw)
	if err != nil {
		text, err := decodeJSON[struct{ Faults string }](raw)
		if err != nil {
			return nil, err
		}
		if faults, err = ParseFaults(text.Faults); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	if err := s.SetFaults(faults); err != nil {
		return nil, badRequest("%v", err)
	}
	return append(Faults{}, faults...), nil
}
