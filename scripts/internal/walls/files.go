package walls

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
)

// MaxLines is how long a file of hand-written code may be; tests and generated code are not counted.
const MaxLines = 600

// Files applies the rules for single files to every Go file of a tree and returns what is broken by the rule's name. Folders that
// the go command passes over ("testdata", ".x", "_x") are passed over too.
func Files(tree fs.FS) (map[string][]string, error) {
	found := map[string][]string{}
	commented := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if passedOver(name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return inspect(tree, name, found, commented)
	})
	for folder, ok := range commented {
		if !ok {
			found[RulePackageComment] = append(found[RulePackageComment], folder)
		}
	}
	return found, err
}

// The rules for files.
const (
	RuleRoot           = "no-go-file-in-the-root"
	RuleInit           = "no-init-functions"
	RuleLength         = "no-file-too-long"
	RulePackageComment = "package-comments"
)

// Remedies says what to do where a rule for files is broken.
func Remedies() map[string]string {
	return map[string]string{
		RuleRoot:           "put it into the room that it belongs to; CONTRIBUTING.md says which",
		RuleInit:           "let a constructor or main do it, where a reader can see when",
		RuleLength:         fmt.Sprintf("a file has at most %d lines: split it by what its parts do", MaxLines),
		RulePackageComment: "begin one file of the package with its comment: purpose, guarantees, who may import it",
	}
}

func passedOver(folder string) bool {
	base := path.Base(folder)
	return folder != "." && (base == "testdata" || base == "node_modules" || base == "vendor" ||
		strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
}

// inspect looks at one file. commented gets, for every folder with hand-written code, whether a package comment was seen.
func inspect(tree fs.FS, name string, found map[string][]string, commented map[string]bool) error {
	folder := path.Dir(name)
	if folder == "." {
		found[RuleRoot] = append(found[RuleRoot], name)
	}
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(file) {
		return nil
	}
	if hasInit(file) {
		found[RuleInit] = append(found[RuleInit], name)
	}
	if strings.HasSuffix(name, "_test.go") {
		return nil
	}
	if lines := bytes.Count(text, []byte("\n")); lines > MaxLines {
		found[RuleLength] = append(found[RuleLength], fmt.Sprintf("%s (%d lines)", name, lines))
	}
	commented[folder] = commented[folder] || file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != ""
	return nil
}

func hasInit(file *ast.File) bool {
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			return true
		}
	}
	return false
}
