package emulator_test

import (
	"bytes"
	"encoding/json"

	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
)

// contract stands between a client and an emulator and compares what passes with the OpenAPI document: every request and every answer
// of a path that the document has.
type contract struct {
	t      *testing.T
	router routers.Router
	proxy  *httputil.ReverseProxy

	mu sync.Mutex
	// seen counts what was compared, unknown what the document does not have.
	seen, unknown int
}

// judged starts an emulator behind its contract and returns the URL to ask.
func judged(t *testing.T, s *emulator.Server) (string, *contract) {
	t.Helper()
	loader := openapi3.NewLoader()
	document, err := loader.LoadFromFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The paths are what matters here, at whatever host.
	document.Servers = nil
	for path, item := range document.Paths.Map() {
		if strings.HasPrefix(path, "/pty/") {
			document.Paths.Delete(path)
			continue
		}
		item.Servers = nil
	}
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	c := &contract{t: t, router: router}
	c.proxy = &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: c.answer,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(c)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, c
}

// ServeHTTP compares a request and passes it on.
func (c *contract) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What the answer is compared with needs the request as it came.
	r.Header.Del("Accept-Encoding")
	route, values, err := c.router.FindRoute(r)
	c.mu.Lock()
	if err != nil {
		c.unknown++
	} else {
		c.seen++
	}
	c.mu.Unlock()
	if err == nil && !strings.HasSuffix(r.URL.Path, "/upload_file") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if len(body) > 0 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || route.Operation.RequestBody == nil {
			c.request(r, route, values)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	c.proxy.ServeHTTP(w, r)
}

func filter() *openapi3filter.Options {
	return &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true, SkipSettingDefaults: true,
	}
}

func (c *contract) request(r *http.Request, route *routers.Route, values map[string]string) {
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: values, Route: route, Options: filter()}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
		// What a client sends that the document forbids must be refused: the answer tells.
		r.Header.Set("X-Contract-Broken", shorten(err))
	}
}

func shorten(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")[:min(300, len(strings.Join(strings.Fields(err.Error()), " ")))]
}

// answer compares an answer.
func (c *contract) answer(response *http.Response) error {
	r := response.Request
	if broken := r.Header.Get("X-Contract-Broken"); broken != "" && response.StatusCode == http.StatusOK {
		c.t.Errorf("%s %s was served, though the document forbids it: %s", r.Method, r.URL.Path, broken)
	}
	lookup := r.Clone(r.Context())
	route, values, err := c.router.FindRoute(lookup)
	if err != nil || response.StatusCode == http.StatusSwitchingProtocols {
		return nil //nolint:nilerr // The document does not have this path.
	}
	kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if response.StatusCode == http.StatusOK && kind != "application/json" {
		c.kind(route, r, kind)
		return nil
	}
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	response.Body = io.NopCloser(bytes.NewReader(raw))
	if !json.Valid(raw) {
		c.t.Errorf("%s %s: not JSON: %.200s", r.Method, r.URL.Path, raw)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: lookup, PathParams: values, Route: route, Options: filter()},
		Status:                 response.StatusCode, Header: response.Header, Options: filter(),
	}
	input.SetBodyBytes(raw)
	if err := openapi3filter.ValidateResponse(r.Context(), input); err != nil {
		c.t.Errorf("%s %s answered %d: %s\n%.400s", r.Method, r.URL.Path, response.StatusCode, shorten(err), raw)
	}
	return nil
}

// kind compares what is no JSON by its type alone.
func (c *contract) kind(route *routers.Route, r *http.Request, kind string) {
	status := route.Operation.Responses.Status(http.StatusOK)
	if status == nil || status.Value.Content.Get(kind) == nil {
		if kind == "text/plain" && strings.HasSuffix(r.URL.Path, "/evictions/watch") {
			return
		}
		c.t.Errorf("%s %s answered with %s", r.Method, r.URL.Path, kind)
	}
}

// TestContractSeesABrokenAnswer shows that the comparison can fail.
func TestContractSeesABrokenAnswer(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := document.Components.Schemas["DevboxView"].Value
	var broken any
	if err := json.Unmarshal([]byte(`{"id":"dbx_1","status":"jogging"}`), &broken); err != nil {
		t.Fatal(err)
	}
	if schema.VisitJSON(broken, openapi3.EnableJSONSchema2020()) == nil {
		t.Error("a devbox that jogs is taken for one")
	}
}
