package main

import (
	"fmt"
	"regexp"
	"strings"
)

// fill replaces what stands between "<!-- made: NAME -->" and "<!-- end -->" by the text of that name. A name without its place is
// an error, and so is a place without its name.
func fill(text []byte, parts map[string]string) ([]byte, error) {
	place := regexp.MustCompile(`(?s)<!-- made: ([^>]+) -->\n.*?<!-- end -->`)
	left := make(map[string]bool, len(parts))
	for name := range parts {
		left[name] = true
	}
	var unknown []string
	out := place.ReplaceAllFunc(text, func(block []byte) []byte {
		name := string(place.FindSubmatch(block)[1])
		part, ok := parts[name]
		if !ok {
			unknown = append(unknown, name)
			return block
		}
		delete(left, name)
		return []byte("<!-- made: " + name + " -->\n" + part + "<!-- end -->")
	})
	for name := range left {
		return nil, fmt.Errorf("there is no place for %q: write <!-- made: %s --> and <!-- end -->", name, name)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("nothing is made for %q", strings.Join(unknown, ", "))
	}
	return out, nil
}
