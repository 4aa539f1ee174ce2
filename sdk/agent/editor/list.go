package editor

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPaths is how many paths of a listing are kept, the first ones in their order: each takes two characters at least of what is shown.
const maxPaths = maxResponse

// maxFailed is how many lines of what has failed are told.
const maxFailed = 20

// dirBatch is how many names are read from a folder at a time.
const dirBatch = 512

// listing is what is found up to two levels deep in a folder, as find -L tells it.
type listing struct {
	files  files
	found  paths
	hidden int
	// failed are the lines that find would write to its standard error.
	failed []string
	// above are the folders on the way to the one that is being read.
	above []folder
}

// folder is one that is being read.
type folder struct {
	dev, ino uint64
	path     string
}

// entry is a path of a listing.
type entry struct {
	path string
	dir  bool
}

// paths is a heap with the last path on top.
type paths []entry

func (p paths) Len() int           { return len(p) }
func (p paths) Less(i, j int) bool { return p[i].path > p[j].path }
func (p paths) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *paths) Push(x any)        { *p = append(*p, x.(entry)) }
func (p *paths) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

// list shows a folder.
func (e *Editor) list(ctx context.Context, dir string) (string, error) {
	l := &listing{files: e.files}
	if err := l.enter(ctx, dir, 0); err != nil {
		return "", err
	}
	if len(l.failed) > 0 {
		return "", refusal(strings.Join(l.failed, "\n") + "\n")
	}
	slices.SortFunc(l.found, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	lines := make([]string, len(l.found))
	for i, f := range l.found {
		lines[i] = f.path
		if f.dir {
			lines[i] += "/"
		}
	}
	text := "Here's the files and directories up to 2 levels deep in " + dir + ", excluding hidden items:\n" +
		clip(strings.Join(lines, "\n"), clipDir)
	if l.hidden > 0 {
		text += fmt.Sprintf("\n\n%d hidden files/directories in this directory are excluded. You can use 'ls -la %s' to see them.", l.hidden, dir)
	}
	return text, nil
}

func (l *listing) add(p string, dir bool) {
	if len(l.found) < maxPaths {
		heap.Push(&l.found, entry{p, dir})
	} else if p < l.found[0].path {
		l.found[0] = entry{p, dir}
		heap.Fix(&l.found, 0)
	}
}

// enter takes a folder into the listing, and what is in it where that is not too deep.
func (l *listing) enter(ctx context.Context, dir string, depth int) error {
	f, err := l.files.space.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|patient, 0)
	if err != nil {
		l.add(dir, true)
		l.fail(dir, err)
		return nil
	}
	defer f.Close()
	st, err := fstat(f)
	if err != nil {
		return err
	}
	l.add(dir, true)
	l.above = append(l.above, folder{st.Dev, st.Ino, dir})
	defer func() { l.above = l.above[:len(l.above)-1] }()
	return l.read(ctx, f, dir, depth)
}

func (l *listing) read(ctx context.Context, f *os.File, dir string, depth int) error {
	for {
		names, err := f.Readdirnames(dirBatch)
		for _, name := range names {
			if strings.HasPrefix(name, ".") {
				l.hidden += 1 - min(depth, 1)
				continue
			}
			if err := l.visit(ctx, strings.TrimSuffix(dir, "/")+"/"+name, depth+1); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			l.fail(dir, err)
			return nil
		}
	}
}

// visit takes an entry of a folder into the listing. Links count as what they lead to; one that leads nowhere is a file.
func (l *listing) visit(ctx context.Context, p string, depth int) error {
	st, err := l.files.stat(p)
	switch {
	case errors.Is(err, syscall.ELOOP):
		l.add(p, false)
		l.fail(p, err)
	case err != nil || !isDir(st):
		l.add(p, false)
	case l.looped(p, st):
	case depth < 2:
		return l.enter(ctx, p, depth)
	default:
		l.add(p, true)
	}
	return nil
}

// looped reports, and tells, that a link has led back to a folder on the way to it.
func (l *listing) looped(p string, st *unix.Stat_t) bool {
	for _, f := range l.above {
		if f.dev == st.Dev && f.ino == st.Ino {
			l.tell("File system loop detected; ‘" + p + "’ is part of the same file system loop as ‘" + f.path + "’.")
			return true
		}
	}
	return false
}

// tell adds a line of find's; of many of them nobody learns anything.
func (l *listing) tell(text string) {
	if len(l.failed) < maxFailed {
		l.failed = append(l.failed, "find: "+text)
	}
}

func (l *listing) fail(p string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return // It has gone meanwhile.
	}
	text := err.Error()
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		text = errno.Error()
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	l.tell("‘" + p + "’: " + text)
}
