package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs keeps docs/plugin-authors.md in step with the clauses and the example. With UPDATE_DOCS=1 it writes the page.
func TestDocs(t *testing.T) {
	const root = "../.."
	path := filepath.Join(root, "docs", "plugin-authors.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := filled(string(old), root)
	if err != nil {
		t.Fatal(err)
	}
	if text == string(old) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is stale: run UPDATE_DOCS=1 go test -run TestDocs ./sdk/conformance", path)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// filled replaces what is between the marks of the page by what it is made from.
func filled(page, root string) (string, error) {
	source := regexp.MustCompile(`(?s)<!-- source (\S+) -->\n.*?<!-- end -->`)
	var failed error
	page = source.ReplaceAllStringFunc(page, func(block string) string {
		name := source.FindStringSubmatch(block)[1]
		code, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			failed = err
		}
		return fmt.Sprintf("<!-- source %s -->\n```go\n%s```\n<!-- end -->", name, code)
	})
	clauses := regexp.MustCompile(`(?s)<!-- clauses -->\n.*?<!-- end -->`)
	if !clauses.MatchString(page) {
		return "", fmt.Errorf("the page has no place for the clauses")
	}
	return clauses.ReplaceAllLiteralString(page, "<!-- clauses -->\n"+clauseTable()+"<!-- end -->"), failed
}

func clauseTable() string {
	var b strings.Builder
	b.WriteString("| clause | rule | applies with |\n|---|---|---|\n")
	for _, c := range Clauses() {
		needs := c.Needs
		if needs == "" {
			needs = "everything"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Rule, needs)
	}
	return b.String()
}
