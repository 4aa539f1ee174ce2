package plugin

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// instance is one connected, configured backend. Its fields do not change once it is published.
type instance struct {
	spec     Spec
	link     link
	client   backendv1.BackendServiceClient
	describe *backendv1.DescribeResponse
	warnings []string
}

// bring connects, describes, configures and adopts. On error nothing is left of the attempt.
func (l *loop) bring(ctx context.Context, spec Spec) (*instance, error) {
	l.update(func(s *Snapshot) {
		if s.State != Running { // a reload keeps the old one in service meanwhile
			s.State = Starting
		}
		s.Starts++
	})
	conn, err := l.connect(ctx, spec)
	if err != nil {
		return nil, err
	}
	inst := &instance{spec: spec, link: conn, client: backendv1.NewBackendServiceClient(&typedConn{link: conn, backend: spec.Backend})}
	if err := l.prepare(ctx, inst); err != nil {
		// What the plugin said is the operator's evidence, also when nothing of it runs.
		l.mu.Lock()
		if l.current == nil {
			l.shown = inst
		}
		l.mu.Unlock()
		conn.end(ended(), spec.Timing)
		return nil, err
	}
	return inst, nil
}

func (l *loop) connect(ctx context.Context, spec Spec) (link, error) {
	if spec.Address != "" {
		return dial(spec)
	}
	return launch(ctx, spec, l.sockets, l.opts.HostEnv, l.thread, l.opts.Logger.Named(spec.Backend).With("backend", spec.Backend))
}

// prepare is the same for every source, and replayed after every restart.
func (l *loop) prepare(ctx context.Context, inst *instance) error {
	ctx, release := whileLinked(ctx, inst.link)
	defer release()
	if err := describe(ctx, inst); err != nil {
		return causeOf(inst, err)
	}
	if err := l.configure(ctx, inst); err != nil {
		return causeOf(inst, err)
	}
	if l.opts.OnUp == nil {
		return nil
	}
	err := l.opts.OnUp(ctx, inst.client, inst.describe)
	return causeOf(inst, rterr.Wrap(rterr.Internal, "adopt what backend "+inst.spec.Backend+" has", err))
}

// causeOf puts the plugin's death before what it led to.
func causeOf(inst *instance, err error) error {
	if err != nil && isClosed(inst.link.lost()) && !rterr.Is(err, rterr.ConfigInvalid) {
		return lossError(inst.link, "start backend "+inst.spec.Backend).WithCause(err)
	}
	return err
}

func describe(ctx context.Context, inst *instance) error {
	ctx, cancel := context.WithTimeout(ctx, describeLimit)
	defer cancel()
	answer, err := inst.client.Describe(ctx, &backendv1.DescribeRequest{})
	if err != nil {
		return unlessUnimplemented(err)
	}
	if answer.GetProtocol() != serve.Protocol {
		return rterr.New(rterr.Unsupported, "backend "+inst.spec.Backend, "the plugin speaks protocol %d of backends, this host %d",
			answer.GetProtocol(), serve.Protocol).WithRemedy("use a plugin and a host of the same major version")
	}
	inst.describe = answer
	return nil
}

// unlessUnimplemented: the required methods must be there.
func unlessUnimplemented(err error) error {
	if rterr.Is(err, rterr.Unsupported) {
		return rterr.From(err).WithRemedy("use a plugin that implements the whole of backend.v1")
	}
	return err
}

// configure resolves the credentials and calls Configure. inst is changed only if that succeeds.
func (l *loop) configure(ctx context.Context, inst *instance) error {
	var credentials map[string]string
	if l.opts.Credentials != nil {
		var err error
		if credentials, err = l.opts.Credentials(ctx, inst.spec); err != nil {
			return rterr.Wrap(rterr.ConfigInvalid, "resolve the credentials of backend "+inst.spec.Backend, err)
		}
	}
	inst.link.hide(credentials)
	ctx, cancel := context.WithTimeout(ctx, inst.spec.Timing.Configure)
	defer cancel()
	answer, err := inst.client.Configure(ctx, &backendv1.ConfigureRequest{
		Config: inst.spec.Config, Credentials: credentials, Owner: inst.spec.Owner, StateDir: inst.spec.StateDir, Backend: inst.spec.Backend,
	})
	if err != nil {
		return unlessUnimplemented(atConfigKey(inst.spec, err))
	}
	inst.warnings = answer.GetWarnings()
	if answer.GetCapabilities() != nil {
		inst.describe = proto.CloneOf(inst.describe)
		inst.describe.Capabilities = answer.GetCapabilities()
	}
	return nil
}

// atConfigKey makes the field that a plugin names a key path of the operator's config.
func atConfigKey(spec Spec, err error) error {
	e, ok := errors.AsType[*rterr.Error](err)
	if !ok || e.Field == "" {
		return err
	}
	placed := *e
	return placed.WithField("backends." + spec.Backend + ".config." + e.Field)
}
