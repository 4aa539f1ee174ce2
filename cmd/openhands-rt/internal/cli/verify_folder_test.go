package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestVerifyRefusesAFolderThatIsNotThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	err := (&app{}).verify(t.Context(), &verifyFlags{workspaces: missing}, []string{"plugin"})
	if err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "make it first") {
		t.Error(err)
	}
}
