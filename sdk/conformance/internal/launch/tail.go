package launch

import (
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// tailSize is how much of a plugin's stderr is kept for the error that may need it, in bytes.
const tailSize = 8 << 10

// tail keeps the last bytes written to it and passes whole pieces on to a logger.
type tail struct {
	logger hclog.Logger

	mu   sync.Mutex
	kept []byte
}

func newTail(logger hclog.Logger) *tail {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return &tail{logger: logger}
}

// Write never fails and never keeps p.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p[max(0, len(p)-tailSize):]...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	t.mu.Unlock()
	if line := strings.TrimSpace(string(p)); line != "" {
		t.logger.Debug("plugin stderr", "line", line)
	}
	return len(p), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
