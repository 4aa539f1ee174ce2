package editor

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// check is what a path must pass before a command is looked at any further. at is what is there, nil if nothing is.
func (e *Editor) check(c command) (at *unix.Stat_t, err error) {
	if !strings.HasPrefix(c.path, "/") {
		return nil, e.relative(c)
	}
	at, err = e.exists(c.path)
	switch {
	case err != nil:
		return nil, err
	case c.name == "create" && at != nil:
		return nil, invalid("path", c.path, "File already exists at: "+c.path+". Cannot overwrite files using command `create`.")
	case c.name != "create" && at == nil:
		return nil, invalid("path", c.path, "The path "+c.path+" does not exist. Please provide a valid path.")
	case at != nil && isDir(at) && c.name != "view":
		return nil, invalid("path", c.path, "The path "+c.path+" is a directory and only the `view` command can be used on directories.")
	case converted(c.path) && c.name != "view":
		return nil, invalid("path", c.path, "The path "+c.path+" points to a binary file ("+suffix(c.path)+
			") and only the `view` command can be used on supported binary files.")
	}
	return at, nil
}

// relative refuses a path that is not absolute, and suggests the one that may be meant.
func (e *Editor) relative(c command) error {
	hint := "The path should be an absolute path, starting with `/`."
	meant := pythonPath(e.workspace + "/" + c.path)
	if at, err := e.exists(meant); err == nil && at != nil {
		hint += " Maybe you meant " + meant + "?"
	}
	return invalid("path", c.path, hint)
}

// exists returns what is at a path, nil for nothing. Errors are of those that leave it open.
func (e *Editor) exists(name string) (*unix.Stat_t, error) {
	if strings.ContainsRune(name, 0) {
		return nil, nil
	}
	st, err := e.files.stat(name)
	switch {
	case err == nil:
		return st, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil, nil
	}
	return nil, refusal("Ran into " + osError(err, name) + " while trying to access " + name)
}

// pythonPath is a path as Python's pathlib prints it: without empty elements and single dots.
func pythonPath(p string) string {
	root := ""
	switch {
	case strings.HasPrefix(p, "//") && !strings.HasPrefix(p, "///"):
		root = "//"
	case strings.HasPrefix(p, "/"):
		root = "/"
	}
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	if root == "" && len(parts) == 0 {
		return "."
	}
	return root + strings.Join(parts, "/")
}

// suffix is what pathlib takes for one: from the last dot of the name on, unless that is its first or last character.
func suffix(p string) string {
	name := path.Base(p)
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || dot == len(name)-1 {
		return ""
	}
	return name[dot:]
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
