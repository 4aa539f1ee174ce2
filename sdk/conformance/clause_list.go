package conformance

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func listClauses() []clause {
	return []clause{
		{name: "list/labels", run: listLabels,
			rule: "List shows a sandbox with its handle, phase, owner, runtime, sid, intent, generation, creation time and lease."},
		{name: "list/owner", run: listOwner,
			rule: "List shows the sandboxes of one owner alone."},
		{name: "list/paged", run: listPaged,
			rule: "List has at most page_size sandboxes on a page, and the pages together have each sandbox once."},
		{name: "list/handle", needs: []need{needProcess()}, run: listHandle,
			rule: "The handle that List shows is as good as the one that Connect gave."},
	}
}

func listLabels(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx, func(r *backendv1.ConnectRequest) { r.Generation = 7 })
	if err != nil {
		return err
	}
	c.step("list by intent")
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	if len(listed) != 1 {
		return fmt.Errorf("want one sandbox of this intent, got %d", len(listed))
	}
	l, req := listed[0], sb.req
	for _, field := range []struct{ name, got, want string }{
		{"sandbox_id", l.GetHandle().GetSandboxId(), sb.id()},
		{"phase", l.GetPhase().String(), phaseRunning.String()},
		{"owner", l.GetOwner(), sb.owner},
		{"runtime_id", l.GetRuntimeId(), req.GetRuntimeId()},
		{"sid", l.GetSid(), req.GetSid()},
		{"intent_id", l.GetIntentId(), req.GetIntentId()},
		{"generation", fmt.Sprint(l.GetGeneration()), fmt.Sprint(req.GetGeneration())},
	} {
		if field.got != field.want {
			return fmt.Errorf("%s is %q, want %q", field.name, field.got, field.want)
		}
	}
	created, until := l.GetCreatedAt().AsTime(), l.GetLeaseUntil().AsTime()
	if l.GetCreatedAt() == nil || l.GetLeaseUntil() == nil || !until.After(created) {
		return fmt.Errorf("created_at %v and lease_until %v: both must be there, in this order", l.GetCreatedAt(), l.GetLeaseUntil())
	}
	return nil
}

func listOwner(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("list another owner's sandboxes")
	others, err := listAll(ctx, sb.peer, &backendv1.ListRequest{Owner: mint("owner")})
	if err != nil {
		return err
	}
	if len(others) != 0 {
		return fmt.Errorf("an owner of nothing has %d sandboxes, the first is %s", len(others), others[0].GetHandle().GetSandboxId())
	}
	for _, owner := range []string{"", sb.owner} {
		c.step("list the sandboxes of owner %q", owner)
		listed, err := listAll(ctx, sb.peer, &backendv1.ListRequest{Owner: owner})
		if err != nil {
			return err
		}
		if err := ownsOnly(listed, sb); err != nil {
			return err
		}
	}
	return nil
}

func ownsOnly(listed []*backendv1.ListedSandbox, sb *sandbox) error {
	found := false
	for _, l := range listed {
		found = found || l.GetHandle().GetSandboxId() == sb.id()
		if l.GetOwner() != sb.owner {
			return fmt.Errorf("sandbox %s of owner %q is shown", l.GetHandle().GetSandboxId(), l.GetOwner())
		}
	}
	if !found {
		return fmt.Errorf("sandbox %s is not among the %d", sb.id(), len(listed))
	}
	return nil
}

func listPaged(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for range 3 {
		sb, err := c.connectOn(ctx, p)
		if err != nil {
			return err
		}
		want[sb.id()] = true
	}
	seen := map[string]int{}
	req := &backendv1.ListRequest{PageSize: 2}
	for range maxPages {
		c.step("list, page token %q", req.GetPageToken())
		page, err := p.List(ctx, req)
		if err != nil {
			return wire(err)
		}
		if n := len(page.GetSandboxes()); n > 2 {
			return fmt.Errorf("a page of size 2 has %d sandboxes", n)
		}
		for _, l := range page.GetSandboxes() {
			seen[l.GetHandle().GetSandboxId()]++
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	for id := range want {
		if seen[id] != 1 {
			return fmt.Errorf("sandbox %s is on %d pages", id, seen[id])
		}
	}
	return nil
}

func listHandle(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("list by intent")
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	if len(listed) != 1 {
		return fmt.Errorf("want one sandbox of this intent, got %d", len(listed))
	}
	sb.adopt(listed[0].GetHandle())
	c.step("attach by the listed handle")
	again, err := c.attach(ctx, sb.peer, sb)
	if err != nil {
		return err
	}
	return c.stillThere(ctx, again)
}

func leaseClauses() []clause {
	return []clause{
		{name: "lease/end", run: leaseEnd,
			rule: "A sandbox whose lease ends without Renew is gone: WatchStatus says so, List has it no more, attaching is SANDBOX_GONE."},
		{name: "lease/renew", run: leaseRenew,
			rule: "Renew sets the end of the lease, counted from now, and the sandbox outlives the lease that it had before."},
		{name: "lease/shorten", run: leaseShorten,
			rule: "Renew with a shorter lease ends the sandbox sooner."},
	}
}

func leaseEnd(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx, lease(shortLease))
	if err != nil {
		return err
	}
	return wantEnd(ctx, c, sb)
}

// wantEnd waits for the end of a lease.
func wantEnd(ctx context.Context, c *check, sb *sandbox) error {
	c.step("watch until the lease ends")
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := watch(watchCtx, sb)
	if err != nil {
		return err
	}
	if err := w.until(phaseGone, phaseRunning); err != nil {
		return err
	}
	c.step("list after the lease")
	if err := wantListed(ctx, sb); err != nil {
		return err
	}
	c.step("attach after the lease")
	return wantReason(follow(ctx, sb.peer, sb.attachRequest()).err, rterr.SandboxGone)
}

func leaseRenew(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx, lease(shortLease))
	if err != nil {
		return err
	}
	c.step("renew")
	answer, err := sb.Renew(ctx, &backendv1.RenewRequest{Handle: sb.handle, Lease: durationpb.New(sandboxLease), AgentCredential: sb.credential()})
	if err != nil {
		return wire(err)
	}
	c.step("list by intent")
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	if len(listed) != 1 {
		return fmt.Errorf("want one sandbox, got %d", len(listed))
	}
	made := listed[0].GetCreatedAt().AsTime()
	if until := answer.GetLeaseUntil().AsTime(); answer.GetLeaseUntil() == nil || until.Before(made.Add(sandboxLease)) {
		return fmt.Errorf("lease_until is %v for a sandbox made at %v and renewed for %v", until, made, sandboxLease)
	}
	c.step("outlive the first lease")
	if err := sleep(ctx, pastLease); err != nil {
		return err
	}
	return c.stillThere(ctx, sb)
}

func leaseShorten(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("renew with a lease of %v", shortLease)
	_, err = sb.Renew(ctx, &backendv1.RenewRequest{Handle: sb.handle, Lease: durationpb.New(shortLease), AgentCredential: sb.credential()})
	if err != nil {
		return wire(err)
	}
	return wantEnd(ctx, c, sb)
}
