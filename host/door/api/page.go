package api

import (
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// defaultPage is the size of a page that does not say.
const defaultPage = 100

// page returns the part of a list that follows the runtime named by token, and the token of the next part.
func page(list []*runtimev1.Runtime, size uint32, token string) ([]*runtimev1.Runtime, string, error) {
	if size == 0 {
		size = defaultPage
	}
	if token != "" {
		at := -1
		for i, r := range list {
			if r.GetId() == token {
				at = i
				break
			}
		}
		if at < 0 {
			return nil, "", rterr.Invalid("list runtimes", "page_token", "is not one of ours, or its runtime is gone")
		}
		list = list[at+1:]
	}
	if uint64(len(list)) <= uint64(size) {
		return list, "", nil
	}
	return list[:size], list[size-1].GetId(), nil
}
