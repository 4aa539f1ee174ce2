// Package split tells how many top-level commands a text has, by the rule of OpenHands V0, whose shell takes one at a time.
//
// The rule is that of bashlex, the parser that OpenHands asks: commands end with a line, and a text that bashlex cannot parse is one
// command. Agents have learnt to live with it, so its gaps are kept; testdata has its own answers. Only sdk/agent/engine imports it.
package split

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Commands returns the top-level commands of a text, which has at least one. All of the text but white space between them is in one of
// them: comments and here-documents belong to the command before.
func Commands(text string) []string {
	if !strings.Contains(strings.TrimSpace(text), "\n") {
		return []string{text}
	}
	file, err := parse(text)
	if err != nil || !known(file) || joins(text, file) {
		return []string{text}
	}
	return cut(text, beginnings(text, file.Stmts))
}

// Complete reports whether the shell will find the whole text to be commands that have an end: nothing is unclosed, and nothing that
// is put on the next line becomes a part of it.
func Complete(text string) bool {
	if plain(text) {
		return true
	}
	file, err := parse(text)
	return err == nil && !joins(text, file)
}

// plain reports whether a text is one line of words that mean nothing to the shell but themselves: that needs no parser.
func plain(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '+' || c > '9') && !strings.ContainsRune(" _=:@%^", rune(c)) {
			return false
		}
	}
	word, _, _ := strings.Cut(text, " ")
	return !syntax.IsKeyword(word)
}

// parse reads a text as bash and bashlex do. What the parser has an idea of its own of is hidden from it: a carriage return is a letter,
// and let a command like others. Offsets stay.
func parse(text string) (*syntax.File, error) {
	text = strings.ReplaceAll(text, "\r", "r")
	text = strings.ReplaceAll(text, "let ", "lex ")
	p := syntax.NewParser(syntax.Variant(syntax.LangBash), syntax.KeepComments(true))
	return p.Parse(strings.NewReader(text), "")
}

// joins reports whether a text would take what follows on the next line for its own: it ends with a backslash, not in a comment.
func joins(text string, file *syntax.File) bool {
	open := (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1
	if open {
		syntax.Walk(file, func(n syntax.Node) bool {
			c, comment := n.(*syntax.Comment)
			open = open && !(comment && int(c.End().Offset()) == len(text))
			return open
		})
	}
	return open
}

// beginnings are the offsets of the commands that are not on a line with the one before.
func beginnings(text string, stmts []*syntax.Stmt) []int {
	var all []int
	end := 0
	for i, s := range stmts {
		begin := int(s.Pos().Offset())
		if i == 0 || strings.Contains(strings.ReplaceAll(text[end:begin], "\\\n", ""), "\n") {
			all = append(all, begin)
		}
		end = endOf(s)
	}
	return all
}

// endOf is the offset behind a command and the operator that ends it.
func endOf(s *syntax.Stmt) int {
	if s.Semicolon.IsValid() {
		return int(s.Semicolon.Offset()) + 1
	}
	return int(s.End().Offset())
}

// cut divides a text at the beginnings of its commands. What is before the first is one too, if it is more than white space.
func cut(text string, beginnings []int) []string {
	var commands []string
	from := 0
	for _, to := range append(beginnings, len(text)) {
		if command := strings.TrimSpace(text[from:to]); command != "" {
			commands = append(commands, command)
		}
		from = to
	}
	return commands
}

// known reports whether bashlex can parse it.
func known(file *syntax.File) bool {
	all := true
	syntax.Walk(file, func(n syntax.Node) bool {
		all = all && knownNode(n)
		return all
	})
	return all
}

func knownNode(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.CaseClause, *syntax.TimeClause, *syntax.CoprocClause, *syntax.TestClause, *syntax.ArithmExp, *syntax.ArrayExpr:
		return false
	case *syntax.Redirect:
		return n.Hdoc == nil || !quoted(n.Word)
	case *syntax.ForClause:
		_, words := n.Loop.(*syntax.WordIter)
		return words && !n.Select
	}
	return true
}

// quoted reports whether the word that ends a here-document has quotes.
func quoted(w *syntax.Word) bool {
	return w.Lit() == "" || strings.Contains(w.Lit(), `\`)
}
