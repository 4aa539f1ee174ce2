package emulator

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The sizes of a page.
const (
	defaultLimit = 20
	maxLimit     = 5000
)

// page cuts one page out of items, which are in the order of their making, and answers with the newest first.
func page[T any](r *http.Request, collection string, items []T, id func(T) string, view func(T) any) (map[string]any, error) {
	q := r.URL.Query()
	limit := defaultLimit
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return nil, badRequest("limit must be between 1 and %d, not %q", maxLimit, text)
		}
		limit = n
	}
	total := len(items)
	items = slices.Clone(items)
	slices.Reverse(items)
	if after := q.Get("starting_after"); after != "" {
		at := slices.IndexFunc(items, func(item T) bool { return id(item) == after })
		if at < 0 {
			return nil, badRequest("starting_after names no item: %s", after)
		}
		items = items[at+1:]
	}
	more := len(items) > limit
	if more {
		items = items[:limit]
	}
	views := make([]any, len(items))
	for i, item := range items {
		views[i] = view(item)
	}
	answer := map[string]any{collection: views, "has_more": more, "total_count": total}
	if q.Get("include_total_count") == "false" {
		answer["total_count"] = nil
	}
	return answer, nil
}

// metadataFilter reads metadata[key]=value and metadata[key][in]=a,b from a query: every key must match one of its values.
func metadataFilter(q url.Values) func(map[string]string) bool {
	wanted := map[string][]string{}
	for name, values := range q {
		rest, ok := strings.CutPrefix(name, "metadata[")
		if !ok {
			continue
		}
		key, operator, _ := strings.Cut(rest, "]")
		for _, value := range values {
			if operator == "[in]" {
				wanted[key] = append(wanted[key], strings.Split(value, ",")...)
			} else {
				wanted[key] = append(wanted[key], value)
			}
		}
	}
	return func(metadata map[string]string) bool {
		for key, values := range wanted {
			if value, ok := metadata[key]; !ok || !slices.Contains(values, value) {
				return false
			}
		}
		return true
	}
}
