package service

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxPage is the largest page, and the page of who asks for none; scanPage that of the API.
const (
	maxPage  = 1000
	scanPage = 1000
)

// living are the statuses of devboxes that have not ended, along their way: one that moves on between two looks is seen at the
// later one. Those that go round in a circle end at running, which therefore comes twice.
func living() []api.DevboxStatus {
	return []api.DevboxStatus{
		api.DevboxStatusQueued, api.DevboxStatusProvisioning, api.DevboxStatusInitializing, api.DevboxStatusRunning,
		api.DevboxStatusSuspending, api.DevboxStatusSuspended, api.DevboxStatusResuming, api.DevboxStatusRunning,
	}
}

// scan returns the account's devboxes of some statuses, each once, as it was seen last. Devboxes that have ended may be many more,
// and are not read.
func (s *Service) scan(ctx context.Context, set *settings, statuses ...api.DevboxStatus) ([]api.DevboxView, error) {
	byID := map[string]api.DevboxView{}
	for _, status := range statuses {
		for after := ""; ; {
			page, err := set.api.List(ctx, status, after, scanPage)
			if err != nil {
				return nil, err
			}
			for _, view := range page.Devboxes {
				byID[view.ID] = view
			}
			if !page.HasMore || len(page.Devboxes) == 0 {
				break
			}
			after = page.Devboxes[len(page.Devboxes)-1].ID
		}
	}
	return slices.Collect(maps.Values(byID)), nil
}

// List reads the account's devboxes and picks the owner's. The token of a page is its last id.
func (s *Service) List(ctx context.Context, req *backendv1.ListRequest) (*backendv1.ListResponse, error) {
	const op = "list sandboxes"
	set, err := s.configured(op)
	if err != nil {
		return nil, err
	}
	all, err := s.scan(ctx, set, living()...)
	if err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	owner := orElse(req.GetOwner(), set.owner)
	all = slices.DeleteFunc(all, func(v api.DevboxView) bool {
		return v.Metadata[labelOwner] != owner || v.ID <= req.GetPageToken() || ended(&v) ||
			(req.GetIntentId() != "" && v.Metadata[labelIntent] != req.GetIntentId())
	})
	slices.SortFunc(all, func(a, b api.DevboxView) int { return strings.Compare(a.ID, b.ID) })
	size := int(req.GetPageSize())
	if size == 0 || size > maxPage {
		size = maxPage
	}
	answer := &backendv1.ListResponse{}
	if len(all) > size {
		all = all[:size]
		answer.NextPageToken = all[size-1].ID
	}
	for i := range all {
		one, err := set.listed(&all[i])
		if err != nil {
			return nil, err
		}
		answer.Sandboxes = append(answer.Sandboxes, one)
	}
	return answer, nil
}
