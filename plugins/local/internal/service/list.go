package service

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxPage is the largest page, and the page of who asks for none.
const maxPage = 1000

// List reads the folders. What is left of dead sandboxes is removed on the way; the token of a page is its last id.
func (s *Service) List(ctx context.Context, req *backendv1.ListRequest) (*backendv1.ListResponse, error) {
	const op = "list sandboxes"
	set, err := s.configured(op)
	if err != nil {
		return nil, err
	}
	owner := req.GetOwner()
	if owner == "" {
		owner = set.owner
	}
	ids, err := set.root.IDs()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	if token := req.GetPageToken(); token != "" {
		if folder.CheckID(token) != nil {
			return nil, rterr.Invalid(op, "page_token", "is not one of ours")
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return id <= token })
	}
	size := int(req.GetPageSize())
	if size == 0 || size > maxPage {
		size = maxPage
	}
	answer := &backendv1.ListResponse{}
	for i, id := range ids {
		one, err := s.listed(ctx, set, id, owner, req.GetIntentId())
		if err != nil {
			return nil, rterr.Wrap(rterr.Internal, op, err)
		}
		if one == nil {
			continue
		}
		answer.Sandboxes = append(answer.Sandboxes, one)
		if len(answer.Sandboxes) == size && i+1 < len(ids) {
			answer.NextPageToken = id
			break
		}
	}
	return answer, nil
}

// listed returns a sandbox for a list, nil if it does not belong there.
func (s *Service) listed(ctx context.Context, set *settings, id, owner, intent string) (*backendv1.ListedSandbox, error) {
	m, err := set.root.Read(id)
	if rterr.Is(err, rterr.NotFound) {
		return nil, nil // Gone meanwhile, or not yet there.
	}
	if err != nil {
		s.log.Warn("a sandbox's record cannot be read", "sandbox", id, "error", err)
		return nil, nil
	}
	if m.Owner != owner || (intent != "" && m.IntentID != intent) {
		return nil, nil
	}
	if dead(m) {
		err := s.reap(ctx, set, m)
		if err != nil {
			s.log.Warn("a dead sandbox cannot be removed", "runtime", m.RuntimeID, "sid", m.SID, "error", err)
		}
		return nil, ctx.Err()
	}
	h, err := handleOf(m)
	if err != nil {
		return nil, err
	}
	return &backendv1.ListedSandbox{
		Handle: h, Phase: phaseOf(m), Owner: m.Owner, RuntimeId: m.RuntimeID, Sid: m.SID, IntentId: m.IntentID,
		Generation: m.Generation, CreatedAt: timestamppb.New(m.CreatedAt), LeaseUntil: timestamppb.New(m.LeaseUntil),
	}, nil
}

func phaseOf(m folder.Meta) backendv1.Phase {
	switch {
	case !m.Ready:
		return backendv1.Phase_PHASE_CREATING
	case m.Paused:
		return backendv1.Phase_PHASE_PAUSED
	default:
		return backendv1.Phase_PHASE_RUNNING
	}
}
