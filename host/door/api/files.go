package api

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/host/auth"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// files serves FileService.
type files struct {
	m *runtime.Manager
}

var _ runtimev1connect.FileServiceHandler = (*files)(nil)

func (s *files) StatFile(ctx context.Context, req *connect.Request[runtimev1.StatFileRequest]) (*connect.Response[runtimev1.StatFileResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	got, err := f.StatFile(ctx, &agentv1.StatFileRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.StatFileResponse{Info: got.GetInfo()}, err)
}

func (s *files) ListFiles(ctx context.Context, req *connect.Request[runtimev1.ListFilesRequest]) (*connect.Response[runtimev1.ListFilesResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	got, err := f.ListFiles(ctx, &agentv1.ListFilesRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.ListFilesResponse{Files: got.GetFiles(), Truncated: got.GetTruncated()}, err)
}

func (s *files) MakeDir(ctx context.Context, req *connect.Request[runtimev1.MakeDirRequest]) (*connect.Response[runtimev1.MakeDirResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	_, err = f.MakeDir(ctx, &agentv1.MakeDirRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.MakeDirResponse{}, err)
}

func (s *files) RemoveFile(ctx context.Context, req *connect.Request[runtimev1.RemoveFileRequest]) (*connect.Response[runtimev1.RemoveFileResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	_, err = f.RemoveFile(ctx, &agentv1.RemoveFileRequest{Path: req.Msg.GetPath(), Recursive: req.Msg.GetRecursive()})
	return answer(&runtimev1.RemoveFileResponse{}, err)
}

// bodies passes the large side of files on to the agent: GET, PUT and HEAD /v1/runtimes/ID/files.
func bodies(m *runtime.Manager) http.Handler {
	buffers := &copyBuffers{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, done, err := m.Transfer(r.Context(), r.PathValue("id"))
		if err != nil {
			rthttp.Write(w, err)
			return
		}
		defer done()
		forwardHTTP(w, r, f, agent.FilesPath, buffers)
	})
}

// Sandboxes is the handler of the sandbox listener: what runtimes serve, below /RUNTIME_ID/ports/N/, guarded by each one's
// session key. It shares no origin with the API.
func Sandboxes(m *runtime.Manager) http.Handler {
	mux, buffers := http.NewServeMux(), &copyBuffers{}
	mux.HandleFunc("/{id}/ports/{port}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		f, err := m.Sandbox(r.Context(), r.PathValue("id"), r.Header.Get(runtime.SessionKeyHeader))
		if err != nil {
			rthttp.Write(w, err)
			return
		}
		forwardHTTP(w, r, f, strings.TrimPrefix(r.URL.EscapedPath(), "/"+r.PathValue("id")), buffers)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		rthttp.Write(w, rterr.New(rterr.NotFound, "", "nothing is served at %s", r.URL.Path))
	})
	return mux
}

// secretHeaders never reach a sandbox: it is hostile, and OpenHands' client sends the daemon's key to the sandbox's URL.
func secretHeaders() []string {
	return []string{"Authorization", auth.KeyHeader, runtime.SessionKeyHeader, "Cookie", "Proxy-Authorization"}
}

// forwardHTTP passes a request on to the agent, body and answer streamed.
func forwardHTTP(w http.ResponseWriter, r *http.Request, f runtime.Files, path string, buffers *copyBuffers) {
	transport, base := f.HTTP()
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		BufferPool:    buffers,
		FlushInterval: -1, // what a sandbox streams is passed on at once
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = target(base, path, p.In.URL.RawQuery)
			p.Out.Host = base.Host
			for _, name := range secretHeaders() {
				p.Out.Header.Del(name)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			rthttp.Write(w, rterr.Wrap(rterr.SandboxUnreachable, "reach the sandbox", err))
		},
	}
	proxy.ServeHTTP(w, r)
}

// target is where a request goes; path is escaped already.
func target(base *url.URL, path, query string) *url.URL {
	u, err := url.Parse(strings.TrimSuffix(base.String(), "/") + path)
	if err != nil { // a path that got here by a request line can be parsed
		u = base.JoinPath("/")
	}
	u.RawQuery = query
	return u
}

// copyBufferSize is large because bodies are: fewer, larger writes.
const copyBufferSize = 256 << 10

// copyBuffers lends out buffers for copying.
type copyBuffers struct{ pool sync.Pool }

// Get lends a buffer.
func (c *copyBuffers) Get() []byte {
	if b, ok := c.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBufferSize)
}

// Put takes it back.
func (c *copyBuffers) Put(b []byte) { c.pool.Put(&b) }
